"""Tasks and their examples, from any source to batches."""
