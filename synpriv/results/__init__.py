"""What is on disk; `frame` gives all of it as a pandas data frame."""

from synpriv.results.frames import frame as frame
