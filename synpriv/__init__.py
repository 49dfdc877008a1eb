"""Audit what models trained on synthetic data still leak about the private data behind it."""

__version__ = "0.1.0"
