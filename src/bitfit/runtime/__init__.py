"""How a frozen model runs, for many rows of the bias matrix at once."""
