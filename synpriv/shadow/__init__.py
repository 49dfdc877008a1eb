"""One shadow model from its config."""
