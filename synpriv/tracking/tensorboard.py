"""Runs as TensorBoard's event files, below `tensorboard/` of the results."""

from __future__ import annotations

import io
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from synpriv.report import inert
from synpriv.results import names, store
from synpriv.tracking.base import About, Mirror, Tracker, opened
from synpriv.tracking.findings import Picture, Table

FOLDER = "tensorboard"  # of the results
PAGE = "audit.html"  # beside the event files: TensorBoard shows no HTML


class TensorBoardTracker(Mirror):
    """One folder of event files; settings and final figures as its HParams plugin reads them.

    replaces: the folder of an earlier run of this name, whose place is taken once this is complete.
    """

    backend = "TensorBoard"

    def __init__(
        self, writer: Any, settings: Mapping[str, Any], replaces: Path | None = None
    ) -> None:
        super().__init__(writer)
        self._settings, self._replaces = settings, replaces
        self._figures: dict[str, float] = {}

    def log(self, row: Mapping[str, float], epoch: int) -> None:
        self._guard(lambda run: _add_scalars(run, row, epoch))

    def summary(self, values: Mapping[str, Any]) -> None:
        numbers = {key: float(v) for key, v in values.items() if isinstance(v, int | float)}
        words = {key: v for key, v in values.items() if isinstance(v, str)}
        self._figures |= numbers
        self._guard(lambda run: _add_scalars(run, numbers, 0))
        self._guard(lambda run: _add_texts(run, words))

    def _picture(self, run: Any, key: str, file: Path) -> None:
        _add_images(run, key, [file.read_bytes()])

    def table(self, key: str, table: Table) -> None:
        lines = [table.columns, ["---"] * len(table.columns)]
        lines += [[_markdown(value) for value in row] for row in table.rows]
        written = "\n".join("| " + " | ".join(line) + " |" for line in lines)
        self._guard(lambda run: run.add_text(key, written))

    def curve(self, key: str, points: Table) -> None:
        """Nothing: no axis of TensorBoard's is logarithmic in x, and the picture is there."""

    def gallery(self, key: str, pictures: Sequence[Picture]) -> None:
        self._guard(lambda run: _add_images(run, key, [one.png for one in pictures]))
        captions = [[str(place), picture.caption] for place, picture in enumerate(pictures)]
        self.table(f"{key}/captions", Table(["picture", "caption"], captions))

    def page(self, content: bytes) -> None:
        self._guard(lambda run: store.write_bytes(Path(run.log_dir) / PAGE, content))

    def _close(self, run: Any, *, failed: bool) -> None:
        try:
            if self._figures:
                _add_settings(run, self._settings, self._figures)
        finally:
            run.close()
        if not failed and self._replaces is not None:
            shutil.rmtree(self._replaces, ignore_errors=True)
            Path(run.log_dir).rename(self._replaces)


def begin(about: About) -> Tracker:
    """A writer in the run's own folder, or beside what a run of the same name has left there."""

    def begun() -> Tracker:
        from torch.utils.tensorboard import SummaryWriter

        place = about.results / FOLDER / about.name
        there = place.is_dir()
        folder = place.with_name(f"{place.name}.new") if there else place
        shutil.rmtree(folder, ignore_errors=True)  # of an attempt that was not completed
        settings = {
            "group": about.group,
            "job_type": about.job_type,
            **names.flat({**about.config}),
        }
        return TensorBoardTracker(
            SummaryWriter(str(folder)), settings, replaces=place if there else None
        )

    return opened(TensorBoardTracker.backend, begun)


def _markdown(value: Any) -> str:
    """A cell of a table, which TensorBoard renders; of a picture its caption."""
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.6g}"
    return inert.markdown(value.caption if isinstance(value, Picture) else str(value))


def _add_scalars(run: Any, row: Mapping[str, float], step: int) -> None:
    for key, value in row.items():
        run.add_scalar(key, value, step)


def _add_texts(run: Any, words: Mapping[str, str]) -> None:
    for key, text in words.items():
        run.add_text(key, inert.markdown(text))  # which TensorBoard renders


def _add_images(run: Any, key: str, pngs: Sequence[bytes]) -> None:
    """Under the key itself if there is one, else numbered."""
    import numpy as np
    from PIL import Image

    for place, png in enumerate(pngs):
        tag = key if len(pngs) == 1 else f"{key}/{place}"
        pixels = np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))
        run.add_image(tag, pixels, dataformats="HWC")


def _add_settings(run: Any, settings: Mapping[str, Any], figures: Mapping[str, float]) -> None:
    """In the run's own event file; SummaryWriter.add_hparams would open a second run for it."""
    from torch.utils.tensorboard.summary import hparams

    plain = {k: v if isinstance(v, bool | int | float) else str(v) for k, v in settings.items()}
    for part in hparams(plain, dict(figures)):
        run.file_writer.add_summary(part)
