"""The frozen model: how it is loaded, and what its biases are called."""
