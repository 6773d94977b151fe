"""From texts to examples, and from a model's outputs back to words."""
