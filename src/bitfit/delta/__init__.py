"""What a run changed, in one file."""
