"""What docs/results.md claims about speed, runnable: `make bench`. Ratios matter, seconds vary."""
