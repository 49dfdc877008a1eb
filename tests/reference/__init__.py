"""Slow, plain re-implementations that the vectorised statistics are compared with."""
