"""Reports on disk: what an audit says, with its arrays and pictures, shown only as it was written.

<attack>.json is written last. It holds checksums of itself and of the files beside it, so that a
part which is lost, damaged or of another audit is found. A report takes seconds to make again.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from synpriv.data.content import sha256
from synpriv.results import store, vouched
from synpriv.results.shape import Heading, Shape

FORMAT = 4  # a report of another one is made again
NOT_MADE = "not made yet"
_CLOSEST = "-visual_privacy.png"  # what follows an attack's name, in which no - may stand
Report = dict[str, Any]


def save(
    file: Path, report: Report, arrays: Mapping[str, NDArray], pictures: Mapping[str, bytes]
) -> Report:
    """Write arrays (.npz) and pictures (by name), then the report; returns it with its checksums.

    The archive repeats what was asked, so that either file is enough to make both again.
    """
    asked = {key: report[key] for key in Heading.__annotations__ if key in report}
    heading = np.array(json.dumps(asked))
    others = {f"{file.stem}.npz": store.npz_bytes(**arrays, heading=heading), **pictures}
    sums = {name: hashlib.sha256(content).hexdigest() for name, content in others.items()}
    whole = report | {"format": FORMAT, "files": sums}
    whole |= {"report_sha256": vouched.json_sha256(whole)}
    written = vouched.json_bytes(whole)  # what cannot be written must leave all as it is
    for name, content in others.items():
        store.write_bytes(file.with_name(name), content)
    store.write_bytes(file, written)
    return whole


def read(file: Path) -> Report | None:
    """A report that is whole with all its files, else None; `problem` says why."""
    report, _ = _read(file)
    return report


def problem(file: Path) -> str | None:
    """Why a report cannot be shown, None if it is whole with all its files."""
    _, why = _read(file)
    return why


def heading_of(file: Path) -> Heading | None:
    """What was asked of an audit whose report, or the archive beside it, is whole; else None."""
    report, _ = _parse(file)
    try:
        if report is None:
            with np.load(file.with_suffix(".npz"), allow_pickle=False) as arrays:
                report = json.loads(str(arrays["heading"]))
        return _validator(Heading).validate_python(report, strict=True)
    except Exception:  # noqa: BLE001 - zipfile raises anything; `problem` says what is wrong
        return None


def _read(file: Path) -> tuple[Report | None, str | None]:
    report, why = _parse(file)
    if report is None:
        return None, why
    wrong = [
        file.with_name(name)
        for name, checksum in report["files"].items()
        if _checksum(file.with_name(name)) != checksum
    ]
    if wrong:
        return None, f"{', '.join(map(str, wrong))} damaged, gone or of another audit"
    return report, None


def closest(file: Path) -> Path:
    """The picture beside a report that shows the canaries nearest to what is released, if any."""
    return file.with_name(file.stem + _CLOSEST)


def pictures(file: Path, report: Report) -> dict[str, Path]:
    """A report's pictures, by what they show."""
    beside = {"roc": file.with_suffix(".png"), "visual_privacy": closest(file)}
    return {shown: picture for shown, picture in beside.items() if picture.name in report["files"]}


def _checksum(file: Path) -> str | None:
    """None for a file that is not there or cannot be read."""
    try:
        return sha256(file)
    except OSError:
        return None


def _parse(file: Path) -> tuple[Report | None, str | None]:
    """The JSON alone, and why not."""
    try:
        written = file.read_bytes()
    except FileNotFoundError:
        return None, NOT_MADE
    except OSError as error:
        return None, f"{file} cannot be read ({error.strerror})"
    try:
        report = json.loads(written)
        if isinstance(report, dict) and report.get("format") in range(FORMAT):
            return None, f"{file} was made by an earlier version"
        content = {key: value for key, value in report.items() if key != "report_sha256"}
        # Byte for byte: two numbers may read alike, and of a key given twice one would be lost.
        whole = vouched.json_bytes(report) == written
        if not whole or vouched.json_sha256(content) != report["report_sha256"]:
            return None, f"{file} is damaged (checksum differs)"
        _check_shape(file, report)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        return (
            None,
            f"{file} is damaged or no report ({type(error).__name__}: {vouched.first_line(error)})",
        )
    return report, None


def _check_shape(file: Path, report: Report) -> None:
    """ValueError for a report that was written whole, but not by this code."""
    if report["format"] != FORMAT:
        raise ValueError(f"format {report['format']}, must be {FORMAT}")
    _validator(Shape).validate_python(report, strict=True)
    if len(report["seeds"]) != report["num_models"]:
        raise ValueError(f"{report['num_models']} shadow models, seeds {report['seeds']}")
    beside = {f"{file.stem}.npz", f"{file.stem}.png"}
    if not beside <= set(report["files"]) <= beside | {closest(file).name}:
        raise ValueError(f"files {', '.join(report['files'])}")


@functools.cache
def _validator(shape: type) -> Any:
    from pydantic import TypeAdapter  # only once there is a report to be read

    return TypeAdapter(shape)
