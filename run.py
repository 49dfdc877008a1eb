"""Train the shadow models of a cell and audit it: `python run.py method=distill -m seed=0..63`."""

from synpriv.__main__ import main

if __name__ == "__main__":
    main()
