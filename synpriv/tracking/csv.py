"""A csv file in the folder of each run."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path

from synpriv.results import store
from synpriv.tracking.base import NoTracker


class CsvTracker(NoTracker):
    """history.csv in the run's folder; summaries, pictures and audits are local files already."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._rows: list[dict[str, float]] = []

    def log(self, row: Mapping[str, float], epoch: int) -> None:
        self._rows.append({"epoch": epoch, **row})

    def finish(self, *, failed: bool = False) -> None:
        if not self._rows:
            return
        columns = list(dict.fromkeys(key for row in self._rows for key in row))
        text = io.StringIO()
        writer = csv.DictWriter(text, columns)
        writer.writeheader()
        writer.writerows(self._rows)
        store.write_bytes(self._file, text.getvalue().encode())
