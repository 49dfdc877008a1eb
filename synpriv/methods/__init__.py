"""How a classifier comes about from a private set."""
