"""Runs in W&B, online or offline as `wandb_session` decides."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from synpriv import probe, schema, wandb_session
from synpriv.tracking.base import About, Mirror
from synpriv.tracking.findings import Findings, Picture, Table

PAGE = "audit.html"  # of a run's files


class WandbTracker(Mirror):
    """A W&B run.

    replaces: folders of offline runs that this one makes obsolete, removed when it is complete.
    """

    backend = "W&B"

    def __init__(self, run: Any, replaces: Sequence[Path] = ()) -> None:
        super().__init__(run)
        self._replaces = replaces

    def log(self, row: Mapping[str, float], epoch: int) -> None:
        self._guard(lambda run: run.log({**row, "epoch": epoch}))

    def summary(self, values: Mapping[str, Any]) -> None:
        self._guard(lambda run: run.summary.update(dict(values)))

    def _picture(self, run: Any, key: str, file: Path) -> None:
        run.log({key: wandb_session.image(file)})

    def table(self, key: str, table: Table) -> None:
        rows = [[_image(v) if isinstance(v, Picture) else v for v in row] for row in table.rows]
        self._guard(lambda run: run.log({key: wandb_session.table([*table.columns], rows)}))

    def curve(self, key: str, points: Table) -> None:
        """Rows of the history: only of these does W&B draw lines on two log axes."""
        names = [f"{key}/{name}" for name in points.columns]
        self._guard(lambda run: _log_curve(run, names, points.rows))

    def gallery(self, key: str, pictures: Sequence[Picture]) -> None:
        self._guard(lambda run: run.log({key: [_image(one) for one in pictures]}))

    def page(self, content: bytes) -> None:
        self._guard(lambda run: run.log_artifact(wandb_session.artifact(run, PAGE, content)))

    def _close(self, run: Any, *, failed: bool) -> None:
        run.finish(exit_code=int(failed))
        if not failed:
            for folder in self._replaces:
                shutil.rmtree(folder, ignore_errors=True)

    def place(self) -> str | None:
        """The address of the run, or the folder of an offline one; None if nothing is mirrored."""
        if self._run is None or self._broken:
            return None
        offline = self._run.offline  # asking such a run for its address prints a warning
        if offline:
            return str(Path(self._run.dir).parent)
        return probe.without_password(str(self._run.url))


def _image(picture: Picture) -> Any:
    return wandb_session.image(picture.png, picture.caption)


def _log_curve(run: Any, names: Sequence[str], rows: Sequence[Sequence[float]]) -> None:
    x, *others = names
    for name in others:
        run.define_metric(name, step_metric=x)
    for row in rows:
        run.log(dict(zip(names, row, strict=True)))


def mirror(
    report: Mapping[str, Any],
    found: Findings,
    *,
    results: Path,
    project: str | None = None,
    entity: str | None = None,
) -> str | None:
    """Mirror an audit that is on disk, as the run that its sweep would have made of it.

    Returns where it is: an address, or the folder of an offline run. None: nothing was mirrored, a
    warning has said why. Project and entity are those of WANDB_PROJECT and WANDB_ENTITY by default.
    """
    wandb_session.check()
    science = _nested(report["settings"])
    tracker = begin(
        About.of_audit(report["cell"], science, report["attack_options"], results),
        project=project or os.environ.get("WANDB_PROJECT") or schema.Logger.project,
        entity=entity,
    )
    tracker.audit(lambda: found)
    tracker.finish()
    return tracker.place()


def _nested(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Dotted keys as nested settings."""
    found: dict[str, Any] = {}
    for key, value in flat.items():
        *path, last = key.split(".")
        node = found
        for part in path:
            node = node.setdefault(part, {})
            if not isinstance(node, dict):
                raise ValueError(f"settings of the report: {key} is within a value")
        node[last] = value
    return found


def begin(about: About, *, project: str, entity: str | None) -> WandbTracker:
    """A run whose id is its name: a resumed sweep makes no duplicates.

    The first audit that a command of a W&B sweep's agent makes is the run that the agent waits for.
    """
    agents = about.job_type == "audit" and is_awaited(about.results)
    own = (wandb_session.agents_run() if agents else None) or about.name
    obsolete = wandb_session.folders(about.results, own, "offline-run")
    run = wandb_session.begin(
        agents=agents,
        id=own,
        name=about.name,
        dir=str(about.results),
        group=about.group,
        job_type=about.job_type,
        config=dict(about.config),
        project=project,
        entity=entity,
    )
    return WandbTracker(run, obsolete)


def is_awaited(results: Path) -> bool:
    """Whether the agent of a W&B sweep waits for an audit, and none has begun its run here."""
    own = wandb_session.agents_run()
    if own is None:
        return False
    return not any(wandb_session.folders(results, own, kind) for kind in ("run", "offline-run"))
