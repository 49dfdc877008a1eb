"""Hydra finds these plugins by scanning the namespace package `hydra_plugins`."""

from synpriv import config

# Every process that composes a config imports this package first, workers included.
config.register()
