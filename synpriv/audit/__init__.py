"""From evidence to figures: pure NumPy and SciPy."""
