"""What may change: one file for each family of methods."""
