"""Synthetic sets that somebody else's code makes, or has made."""
