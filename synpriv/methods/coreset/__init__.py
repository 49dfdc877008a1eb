"""Coreset selection."""
