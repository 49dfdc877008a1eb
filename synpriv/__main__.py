"""`synpriv method=distill -m seed=0..63`: train the shadow models of a cell and audit it.

The same as `python -m synpriv` and, in a checkout, `python run.py`.
"""

from synpriv import interrupts


def main() -> None:
    """The command line, deaf to nothing from its first import on."""
    interrupts.exit_at_once()  # the imports below take a second
    from synpriv import command

    command.run()


if __name__ == "__main__":
    main()
