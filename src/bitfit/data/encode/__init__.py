"""From a table's texts to examples, and from a model's numbers back to words."""
