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
from typing import Annotated, Any, NotRequired

import numpy as np
from annotated_types import Ge, Len
from numpy.typing import NDArray
from typing_extensions import TypedDict  # typing's own is too old for pydantic

from synpriv.data.content import sha256
from synpriv.results import store, vouched

FORMAT = 4  # a report of another one is made again
NOT_MADE = "not made yet"
CLOSEST = "visual_privacy.png"  # beside the reports of a cell whose method releases images
Report = dict[str, Any]
Band = Annotated[list[float], Len(2, 2)]
Count = Annotated[int, Ge(1)]


class Moments(TypedDict):
    """Over shadow models."""

    mean: float
    sd: float


class Measured(Moments):
    """The same with its standard error and the number of shadow models."""

    se: float
    n: int


class Accuracy(TypedDict):
    """What the trained method is good for, and what runs measured it."""

    mean: float
    se: float
    half: float  # of the 95% interval
    n: int
    source: str  # clean canaries | audited models
    wrong_labels: float  # share of wrong labels in the audited models' private set


Sides = TypedDict("Sides", {"in": float, "out": float})  # shares of members and of non-members


class Answers(TypedDict):
    """To how many canaries the models give a label of theirs."""

    trained_label: Sides
    true_label: Sides


class Nearness(TypedDict):
    """Pairs nearer to the release than in every model without the canary."""

    nearer: int
    pairs: Count
    chance: float
    p: float
    above_chance: bool


class Quality(TypedDict):
    """Of released images against held-out ones, and of as many private images."""

    fid: float
    precision: float
    recall: float
    private_fid: float
    private_precision: float
    private_recall: float


class Rate(TypedDict):
    """A true positive rate, its interval, and what chance gives."""

    tpr: float
    low: float
    high: float
    fpr: float
    expected_fpr: float  # of the point that is read, over repeated audits
    p: float
    null_band: Band
    above_chance: bool
    resolvable: bool


class Data(TypedDict):
    """What was seen of the data."""

    in_words: str
    sha256: str
    num_private: Count | None


class Heading(TypedDict):
    """What was asked of an audit."""

    cell: str
    method: str
    dataset: str
    canary: str
    membership: str  # how it was drawn: paired, balanced or bernoulli
    attack: str
    attack_options: dict[str, Any]
    tuning: dict[str, Any]
    settings: dict[str, Any]
    seeds: list[int]
    accuracy_cell: str | None  # of the clean-canary runs, where they measure the accuracy
    accuracy_seeds: list[int]
    num_planned: int  # shadow models that were to be audited, the first ones of the cell
    evidence_file: NotRequired[str]  # of models trained elsewhere; there is no cell then


Rates = TypedDict("Rates", {"tpr@fpr=0.001": Rate, "tpr@fpr=0.01": Rate, "tpr@fpr=0.1": Rate})


class Shape(Rates, Heading):
    """What every report holds that tables and figures read; a proven guarantee may be beside it.

    None is what is not known of models that were trained elsewhere.
    """

    partial: bool
    inputs_sha256: str
    num_canaries: Count
    num_models: Count
    n_in: Count
    n_out: Count
    canaries_sha256: str
    auc: float
    auc_low: float
    auc_high: float
    auc_p: float
    null_auc: float
    auc_null_band: Band
    null_rounds: Count
    variants: NotRequired[dict[str, dict[str, float]]]
    variants_chosen: NotRequired[dict[str, float]]
    answers: Answers | None
    nearness: NotRequired[Nearness]
    definitions: dict[str, str]
    balanced_accuracy: float
    epsilon_audited: float
    epsilon_audited_largest: float
    epsilon_gdp: NotRequired[float]
    epsilon_gdp_delta: NotRequired[float]
    epsilon_bound: NotRequired[float | None]
    epsilon_bound_none: NotRequired[str]
    epsilon_bound_largest: NotRequired[float]
    epsilon_bound_at_proven: NotRequired[float]
    test_accuracy: Measured | None
    accuracy: Accuracy | None
    train_s: Moments | None
    canary_selection_rate: NotRequired[Moments]
    quality: NotRequired[Quality]
    admission: NotRequired[float]  # of the table it stands in, never on disk: accuracy asked for
    provenance: list[str]
    data: Data
    warnings: list[str]
    files: dict[str, str]
    epsilon: NotRequired[float | None]
    epsilon_tuned: NotRequired[float | None]
    epsilon_at_most: NotRequired[bool]


def save(
    file: Path, report: Report, arrays: Mapping[str, NDArray], pictures: Mapping[str, bytes]
) -> Report:
    """Write arrays (.npz) and pictures (by name), then the report; returns it with its checksums.

    The archive repeats what was asked, so that either file is enough to make both again.
    """
    asked = {key: report[key] for key in Heading.__annotations__ if key in report}
    heading = np.array(json.dumps(asked))
    others = {f"{file.stem}.npz": store.npz_bytes(**arrays, heading=heading), **pictures}
    for name, content in others.items():
        store.write_bytes(file.with_name(name), content)
    sums = {name: hashlib.sha256(content).hexdigest() for name, content in others.items()}
    whole = report | {"format": FORMAT, "files": sums}
    whole |= {"report_sha256": vouched.json_sha256(whole)}
    store.write_json(file, whole)
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
    if not beside <= set(report["files"]) <= beside | {CLOSEST}:
        raise ValueError(f"files {', '.join(report['files'])}")


@functools.cache
def _validator(shape: type) -> Any:
    from pydantic import TypeAdapter  # only once there is a report to be read

    return TypeAdapter(shape)
