"""Evidence of models trained elsewhere: a user's npz, csv or arrays, checked before an audit."""

from __future__ import annotations

import csv
import hashlib
import math
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from synpriv.audit.evidence import DESIGNS, Evidence
from synpriv.data import archive
from synpriv.signatures import require

ARRAYS = ("logits", "scores", "member", "labels", "true_labels", "nearest", "design")
COLUMNS = ("canary", "model", "member", "score")
_AXES = {"logits": ("CSQK", "CSK"), "scores": ("CSQ", "CS"), "nearest": ("CS",)}
_BITS = {"0": False, "1": True, "false": False, "true": True, "out": False, "in": True}
_FAR = 5.0  # standard deviations that no fair draw of so many bits shows


def read(file: Path, *, design: str | None = None) -> tuple[Evidence, list[str] | None]:
    """Evidence of an npz with `ARRAYS`, or of a csv with `COLUMNS`, and the names of its canaries.

    An npz names none. ValueError, in one line, for what cannot be audited; nothing is unpickled.
    design: as in `of_arrays`, in place of the file's own.
    """
    file = file.expanduser()
    if not file.is_file():
        what = "is a folder" if file.is_dir() else "no such file"
        raise ValueError(f"{file.absolute()}: {what}; must be an npz or a csv of canary scores")
    if file.suffix.lower() == ".csv":
        arrays, names = _of_csv(file)
    else:
        arrays, names = _of_npz(file), None
    try:
        own = str(arrays.pop("design")) if "design" in arrays else None
        return of_arrays(**arrays, design=design or own), names
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from error


def _of_npz(file: Path) -> dict[str, NDArray]:
    found = archive.headers(file, ARRAYS)
    unread = sorted(found.keys() - set(ARRAYS))
    if unread:
        raise ValueError(f"{file}: nothing reads {_some(unread)}; it may hold {', '.join(ARRAYS)}")
    if "member" not in found or not {"logits", "scores"} & found.keys():
        lacking = "member" if "member" not in found else "logits or scores"
        raise ValueError(f"{file}: has no {lacking}; it must hold logits or scores, and member")
    size = 4 * sum(header.num_bytes for header in found.values() if header is not None)
    archive.refuse_too_large(size, f"an audit of {file} takes about")
    return archive.read(file, list(found))


def _of_csv(file: Path) -> tuple[dict[str, NDArray], list[str]]:
    """Scores and members [C,S] of rows (canary, model, member, score) in any order."""
    cells: dict[tuple[str, str], tuple[bool, float]] = {}
    try:
        with file.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.DictReader(stream)
            fields = reader.fieldnames or []
            if set(fields) != set(COLUMNS) or len(fields) != len(COLUMNS):
                shown = _some([str(field) for field in fields]) or "none"
                raise ValueError(f"{file}: columns {shown}: must be {', '.join(COLUMNS)}")
            for row in reader:
                pair, value = _of_row(row, f"{file}, line {reader.line_num}")
                if pair in cells:
                    where = f"{file}, line {reader.line_num}: canary {pair[0]}, model {pair[1]}"
                    raise ValueError(f"{where} is there twice; give one score per pair")
                cells[pair] = value
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{file}: not readable as csv in UTF-8 ({error})") from error
    require(bool(cells), f"{file}: no rows", "one per canary and model")
    canaries, models = (sorted({pair[i] for pair in cells}, key=_natural) for i in (0, 1))
    missing = len(canaries) * len(models) - len(cells)
    if missing:
        first = next((c, m) for c in canaries for m in models if (c, m) not in cells)
        raise ValueError(
            f"{file}: {missing} of {len(canaries)} x {len(models)} pairs have no score, the first "
            f"one canary {first[0]}, model {first[1]}; every canary needs a score by every model"
        )
    rows = [[cells[c, m] for m in models] for c in canaries]
    member = np.array([[bit for bit, _ in row] for row in rows])
    return {"scores": np.array([[s for _, s in row] for row in rows]), "member": member}, canaries


def _of_row(row: dict[str, str], where: str) -> tuple[tuple[str, str], tuple[bool, float]]:
    if None in row or None in row.values():
        raise ValueError(f"{where}: must have {len(COLUMNS)} values")
    bit = _BITS.get(row["member"].strip().lower())
    require(bit is not None, f"{where}: member={row['member']!r}", "0 or 1")
    try:
        score = float(row["score"])
    except ValueError:
        score = math.nan
    require(math.isfinite(score), f"{where}: score={row['score']!r}", "a finite number")
    return (row["canary"].strip(), row["model"].strip()), (bool(bit), score)


def _natural(name: str) -> tuple[float, str]:
    """Numbers by their value, so that models 2p and 2p + 1 stay together, then names."""
    return (int(name) if re.fullmatch(r"\d{1,15}", name) else math.inf), name


def of_arrays(
    member: ArrayLike,
    *,
    logits: ArrayLike | None = None,
    scores: ArrayLike | None = None,
    labels: ArrayLike | None = None,
    true_labels: ArrayLike | None = None,
    nearest: ArrayLike | None = None,
    design: str | None = None,
) -> Evidence:
    """Checked evidence of C canaries and S models; ValueError in one line for what is no evidence.

    member: bool (or 0 and 1) [C,S]. Either logits [C,S,Q,K] ([C,S,K] for one view) with labels int
    [C], those the canaries are trained on; or scores [C,S] or [C,S,Q], larger = more member-like.
    true_labels: [C] if canaries are mislabelled. nearest: [C,S], distance to the nearest synthetic
    image. design: how `member` was drawn, one of `DESIGNS`; found from its rows if not given.
    """
    bits = _bits(member)
    require((logits is None) != (scores is None), "logits and scores", "one of the two")
    if scores is not None:
        require(labels is None and true_labels is None, "labels of scores", "left out")
        given = _outputs(scores, "scores", bits, np.float64)
        known = {"logits": None, "given": given if given.ndim == 3 else given[:, :, None]}
        both = [np.zeros(len(bits), dtype=np.int64)] * 2
    else:
        z = _outputs(logits, "logits", bits, np.float32)
        z = z if z.ndim == 4 else z[:, :, None]
        _refuse_probabilities(z)
        require(labels is not None, "labels of the logits are missing", "int [C]")
        own = _labels(labels, "labels", z)
        both = [own, own if true_labels is None else _labels(true_labels, "true_labels", z)]
        known = {"logits": z, "given": None}
    distance = None
    if nearest is not None:
        distance = _outputs(nearest, "nearest", bits, np.float32)
        require(bool((distance >= 0).all()), f"nearest down to {distance.min()}", "0 or more")
    _refuse_one_sided(bits)
    return Evidence(
        member=bits,
        labels=both[0],
        true_labels=both[1],
        nearest=distance,
        design=design_of(bits, design),
        **known,
    )


def digest(evidence: Evidence) -> str:
    """One hash of all that an audit reads of an evidence."""
    e, found = evidence, hashlib.sha256(evidence.design.encode())
    for array in (e.member, e.logits, e.given, e.labels, e.true_labels, e.nearest):
        known = b"none" if array is None else repr((array.shape, array.dtype.str)).encode()
        found.update(known + (b"" if array is None else np.ascontiguousarray(array).tobytes()))
    return found.hexdigest()


def _bits(member: ArrayLike) -> NDArray[np.bool_]:
    given = np.asarray(member)
    require(given.dtype.kind in "biuf", f"member of type {given.dtype}", "bool, or 0 and 1")
    require(bool(np.isin(given, (0, 1)).all()), "member holds other numbers", "0 and 1 alone")
    bits = given.astype(bool)
    require(bits.ndim == 2 and bits.size > 0, f"member {bits.shape}", "[C,S], canaries x models")
    return bits


def _refuse_one_sided(bits: NDArray[np.bool_]) -> None:
    for side, words in ((bits, "no"), (~bits, "every")):
        lacking = np.flatnonzero(~side.any(axis=1))
        if len(lacking):
            raise ValueError(
                f"{len(lacking)} of {len(bits)} canaries are IN {words} model (rows "
                f"{_some([str(row) for row in lacking])}): each needs models with it and models "
                "without it; train more models or leave these canaries out"
            )


def _outputs(given: ArrayLike | None, name: str, bits: NDArray[np.bool_], dtype: type) -> NDArray:
    """Numbers that agree with the members on [C,S] and are all finite."""
    array, axes = np.asarray(given), _AXES[name]
    require(array.dtype.kind in "iuf", f"{name} of type {array.dtype}", "numbers")
    right = " or ".join(f"[{','.join(those)}]" for those in axes)
    require(array.ndim in map(len, axes), f"{name} {array.shape}", right)
    whole = array.shape[:2] == bits.shape and array.size > 0
    require(whole, f"{name} {array.shape} and member {bits.shape}", "of the same [C,S]")
    with np.errstate(over="ignore"):
        values: NDArray = np.ascontiguousarray(array, dtype=dtype)
    bad = np.argwhere(~np.isfinite(values))
    if len(bad):
        raise ValueError(
            f"{len(bad)} of {values.size} {name} are NaN or infinite, the first of canary "
            f"{bad[0][0]}, model {bad[0][1]}: must be finite (clip probabilities before a log)"
        )
    return values


def _refuse_probabilities(logits: NDArray[np.float32]) -> None:
    require(logits.shape[3] > 1, f"logits {logits.shape}", "of two or more classes")
    if logits.min() >= 0 and logits.max() <= 1 and np.allclose(logits.sum(axis=3), 1, atol=1e-3):
        raise ValueError(
            "logits are probabilities (each row sums to 1): must be logits; "
            "log-probabilities will do, np.log(p.clip(1e-12))"
        )


def _labels(given: ArrayLike | None, name: str, logits: NDArray[np.float32]) -> NDArray[np.int64]:
    array, (num, *_, classes) = np.asarray(given), logits.shape
    require(array.dtype.kind in "iu", f"{name} of type {array.dtype}", "integers")
    require(array.shape == (num,), f"{name} {array.shape}", f"({num},), one per canary")
    low, high = int(array.min()), int(array.max())
    inside = low >= 0 and high < classes
    require(inside, f"{name} {low}..{high}", f"0..{classes - 1}, the places of the logits")
    return array.astype(np.int64)


def design_of(member: NDArray[np.bool_], asked: str | None = None) -> str:
    """How `member` [C,S] was drawn: as asked, or as its rows say; ValueError if they say otherwise.

    paired: of models 2p and 2p + 1 one holds the canary. balanced: each canary is in as many models
    as it is, any of them; that also goes for bits of another probability than a half, or of unequal
    rows. bernoulli: fair coins, each on its own. A wrong design reads as a leak, so one that the
    bits refute is refused, and so are models that hold far more canaries than others do.
    """
    require(asked is None or asked in DESIGNS, f"design={asked}", f"one of {', '.join(DESIGNS)}")
    num_canaries, num_models = member.shape
    _refuse_uneven_models(member)
    even = num_models % 2 == 0
    opposite = (member[:, : num_models // 2 * 2 : 2] != member[:, 1::2]).all(axis=0)
    rows_equal = bool((2 * member.sum(axis=1) == num_models).all())
    share = float(member.mean())
    fair = abs(share - 0.5) * 2 * math.sqrt(member.size) < _FAR
    if asked == "paired" and not (even and opposite.all()):
        pair = int(np.argmin(opposite)) if not opposite.all() else num_models // 2
        odd = "has no partner" if opposite.all() else "hold a canary both or neither"
        models = f"model {2 * pair}" if opposite.all() else f"models {2 * pair} and {2 * pair + 1}"
        raise ValueError(f"design=paired, but {models} {odd}: must be balanced or bernoulli")
    if asked == "bernoulli" and num_canaries > 1 and (rows_equal or not fair):
        why = "every canary is IN exactly half" if rows_equal else f"canaries are IN {share:.0%}"
        raise ValueError(f"design=bernoulli, but {why} of the models: must be balanced")
    if asked is not None:
        return asked
    if even and opposite.all():
        return "paired"
    return "bernoulli" if fair and not rows_equal else "balanced"


def _refuse_uneven_models(member: NDArray[np.bool_]) -> None:
    """Members that depend on the model, not on a draw per canary, cannot be told from a leak."""
    rate = member.mean(axis=1)
    expected, variance = rate.sum(), (rate * (1 - rate)).sum()
    held = member.sum(axis=0)
    far = np.abs(held - expected) > _FAR * math.sqrt(variance)
    if far.any():
        model = int(np.argmax(np.abs(held - expected)))
        raise ValueError(
            f"model {model} holds {held[model]} of {len(member)} canaries, a fair draw about "
            f"{expected:.0f}: membership must be drawn for each canary alike in all models, or "
            "what differs between models reads as a leak"
        )


def _some(names: Sequence[str], most: int = 5) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
