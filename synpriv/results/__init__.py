"""What is on disk; `frame` gives all of it as a pandas data frame."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from synpriv.report.frames import frame as frame


def __getattr__(name: str) -> Any:
    """`frame`, which needs the verdicts and so all that is above this package, once it is asked."""
    if name != "frame":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from synpriv.report.frames import frame

    return frame
