"""What every tracker can be told, and what none of them may do: stop an experiment."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from synpriv.probe import in_one_line
from synpriv.tracking import findings
from synpriv.tracking.findings import Findings, Picture, Table

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class About:
    """The run that a tracker opens: one shadow model, or one audit."""

    name: str  # the same whenever it is run again
    group: str  # its cell
    job_type: str  # train | public | audit
    config: Mapping[str, Any]  # nested settings
    results: Path

    @classmethod
    def of_audit(
        cls, cell: str, science: Mapping[str, Any], attack: Mapping[str, Any], results: Path
    ) -> About:
        """The audit of a cell: the same whether its sweep tells it or whoever finds it on disk."""
        settings = {**science, "cell": cell, "attack": attack}
        return cls(f"{cell}-{attack['name']}", cell, "audit", settings, results)


class Tracker(ABC):
    """Rows over epochs, then one summary; of an audit also what its page shows."""

    @abstractmethod
    def log(self, row: Mapping[str, float], epoch: int) -> None: ...

    @abstractmethod
    def summary(self, values: Mapping[str, Any]) -> None: ...

    @abstractmethod
    def picture(self, key: str, file: Path) -> None: ...

    @abstractmethod
    def table(self, key: str, table: Table) -> None: ...

    @abstractmethod
    def gallery(self, key: str, pictures: Sequence[Picture]) -> None: ...

    @abstractmethod
    def page(self, content: bytes) -> None:
        """The audit as one self-contained HTML file."""

    @abstractmethod
    def finish(self, *, failed: bool = False) -> None: ...

    def curve(self, key: str, points: Table) -> None:
        """A table whose first column is the x-axis of the others."""
        self.table(key, points)

    def audit(self, ask: Callable[[], Findings]) -> None:
        """All that is mirrored of an audit."""
        found = ask()
        self.summary(found.summary)
        for key, file in found.pictures.items():
            self.picture(key, file)
        if found.view is not None:
            self.summary(findings.limits(found.view))
            self.curve("roc", findings.roc(found.view))
            for key, table in findings.tables(found.view).items():
                self.table(key, table)
            for key, pictures in findings.galleries(found.view).items():
                self.gallery(key, pictures)
        if found.page is not None:
            self.page(found.page)


class NoTracker(Tracker):
    """Keeps nothing, and asks for nothing that would have to be made first."""

    def log(self, row: Mapping[str, float], epoch: int) -> None:
        pass

    def summary(self, values: Mapping[str, Any]) -> None:
        pass

    def picture(self, key: str, file: Path) -> None:
        pass

    def table(self, key: str, table: Table) -> None:
        pass

    def gallery(self, key: str, pictures: Sequence[Picture]) -> None:
        pass

    def page(self, content: bytes) -> None:
        pass

    def audit(self, ask: Callable[[], Findings]) -> None:
        pass

    def finish(self, *, failed: bool = False) -> None:
        pass


class Mirror(Tracker):
    """A run elsewhere. The first failure is reported once and ends the mirroring of this run.

    Such a run is closed as a failed one. run: None mirrors nothing.
    """

    backend: ClassVar[str]  # its name in a warning

    def __init__(self, run: Any) -> None:
        self._run = run
        self._broken = False

    def _guard(self, call: Callable[[Any], object]) -> None:
        if self._run is not None and not self._broken:
            self._try(call)

    def _try(self, call: Callable[[Any], object]) -> None:
        try:
            call(self._run)
        except Exception as error:  # noqa: BLE001 - a mirror must never stop an experiment
            if not self._broken:
                said = in_one_line(error)
                log.warning("%s stopped mirroring this run: %s", self.backend, said)
            self._broken = True

    def audit(self, ask: Callable[[], Findings]) -> None:
        self._guard(lambda _: super(Mirror, self).audit(ask))

    def picture(self, key: str, file: Path) -> None:
        """Show a picture; one that cannot be read is missing, with a warning."""
        self._guard(lambda run: self._picture(run, key, file) if _is_readable(file) else None)

    def finish(self, *, failed: bool = False) -> None:
        """Close the run, which is tried once also where mirroring has stopped."""
        if self._run is not None:
            self._try(lambda run: self._close(run, failed=failed or self._broken))

    @abstractmethod
    def _picture(self, run: Any, key: str, file: Path) -> None: ...

    @abstractmethod
    def _close(self, run: Any, *, failed: bool) -> None:
        """End the run; only one that did not fail replaces what was there of its name."""


def _is_readable(picture: Path) -> bool:
    from PIL import Image

    try:
        with Image.open(picture) as image:
            image.load()
    except Exception as error:  # noqa: BLE001 - of damage in a picture anything is raised
        log.warning("not mirrored, %s cannot be read: %s", picture, in_one_line(error))
        return False
    return True


def opened(backend: str, begin: Callable[[], Tracker]) -> Tracker:
    """What `begin` opens; where it cannot, nothing is mirrored and one warning says why."""
    try:
        return begin()
    except Exception as error:  # noqa: BLE001 - a mirror must never stop an experiment
        log.warning("%s mirrors nothing: %s", backend, in_one_line(error))
        return NoTracker()
