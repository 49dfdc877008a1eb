"""Evidence of models trained elsewhere: a user's npz, csv or arrays, checked before an audit."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from synpriv.audit.evidence import Evidence
from synpriv.data import archive, groups
from synpriv.results import rows
from synpriv.results.design import design_of, refuse_one_sided, refuse_repeated, some
from synpriv.signatures import require

ARRAYS = ("logits", "scores", "member", "labels", "true_labels", "nearest", "groups", "design")
_AXES = {"logits": ("CSQK", "CSK"), "scores": ("CSQ", "CS"), "nearest": ("CS",)}
_LARGEST = {"logits": 1e30, "scores": 1e100, "nearest": 1e30}  # their squares are sums of doubles


class Brought(NamedTuple):
    """Checked evidence, and what is known beside it."""

    evidence: Evidence
    names: list[str] | None = None  # of its canaries, of its groups where these are the members
    notes: tuple[str, ...] = ()  # what whoever brought it should know of how it is read


def read(file: Path, *, design: str | None = None) -> Brought:
    """Evidence of an npz with `ARRAYS`, or of a csv with `rows.COLUMNS`.

    ValueError, in one line, for what cannot be audited; nothing is unpickled. design: as in
    `of_arrays`, in place of the file's own.
    """
    file = file.expanduser()
    if not file.is_file():
        what = "is a folder" if file.is_dir() else "no such file"
        raise ValueError(f"{file.absolute()}: {what}; must be an npz or a csv of canary scores")
    canaries, models = None, None
    if file.suffix.lower() == ".csv":
        arrays, canaries, models = rows.read(file)
    else:
        arrays = _of_npz(file)
    try:
        own = _word(arrays.pop("design")) if "design" in arrays else None
        return of_arrays(**arrays, design=design or own, canaries=canaries, models=models)
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from error


def _word(design: NDArray) -> str:
    """A design as np.savez keeps a word, a list of one, or bytes."""
    one = design.size == 1 and design.dtype.kind in "US"
    require(one, f"design of type {design.dtype} {design.shape}", "one word")
    word = design.reshape(-1)[0]
    return word.decode("utf-8", "replace") if isinstance(word, bytes) else str(word)


def _of_npz(file: Path) -> dict[str, NDArray]:
    found = archive.headers(file, ARRAYS)
    unread = sorted(found.keys() - set(ARRAYS))
    if unread:
        raise ValueError(f"{file}: nothing reads {some(unread)}; it may hold {', '.join(ARRAYS)}")
    if "member" not in found or not {"logits", "scores"} & found.keys():
        lacking = "member" if "member" not in found else "logits or scores"
        raise ValueError(f"{file}: has no {lacking}; it must hold logits or scores, and member")
    size = 4 * sum(header.num_bytes for header in found.values() if header is not None)
    archive.refuse_too_large(size, f"an audit of {file} takes about")
    return archive.read(file, list(found))


def of_arrays(
    member: ArrayLike,
    *,
    logits: ArrayLike | None = None,
    scores: ArrayLike | None = None,
    labels: ArrayLike | None = None,
    true_labels: ArrayLike | None = None,
    nearest: ArrayLike | None = None,
    groups: ArrayLike | None = None,
    design: str | None = None,
    canaries: Sequence[str] | None = None,
    models: Sequence[str] | None = None,
) -> Brought:
    """Checked evidence of C canaries and S models; ValueError in one line for what is no evidence.

    member: bool (or 0 and 1) [C,S]. Either logits [C,S,Q,K] ([C,S,K] for one view) with labels int
    [C], those the canaries are trained on; or scores [C,S] or [C,S,Q], larger = more member-like.
    true_labels: [C] if canaries are mislabelled. nearest: [C,S], distance to the nearest synthetic
    image. groups: integers or words [C], canaries that are IN or OUT together, such as those of one
    person. design: how `member` was drawn, one of `DESIGNS`; found from its rows if not given.
    canaries, models: their names.
    """
    bits = _bits(member)
    require((logits is None) != (scores is None), "logits and scores", "one of the two")
    if logits is None:
        both, notes = [np.zeros(len(bits), dtype=np.int64)] * 2, _unread(labels, true_labels, bits)
        given = _outputs(scores, "scores", bits, np.float64)
        known = {"logits": None, "given": given if given.ndim == 3 else given[:, :, None]}
    else:
        z = _outputs(logits, "logits", bits, np.float32)
        z = z if z.ndim == 4 else z[:, :, None]
        _refuse_probabilities(z)
        require(labels is not None, "labels of the logits are missing", "int [C]")
        own = _labels(labels, "labels", z)
        both = [own, own if true_labels is None else _labels(true_labels, "true_labels", z)]
        known, notes = {"logits": z, "given": None}, []
    distance = None
    if nearest is not None:
        distance = _outputs(nearest, "nearest", bits, np.float32)
        require(bool((distance >= 0).all()), f"nearest down to {distance.min()}", "0 or more")
    numbers, persons = None, None
    if groups is not None:
        numbers, persons = _groups(groups, bits, models)
    coins = bits if numbers is None else bits[np.unique(numbers, return_index=True)[1]]
    names = persons or (None if canaries is None else list(canaries))
    called = names or list(map(str, range(len(coins))))
    refuse_one_sided(coins, called)
    found = design_of(coins, design, models=models)
    refuse_repeated(coins, called)
    evidence = Evidence(
        member=bits,
        labels=both[0],
        true_labels=both[1],
        nearest=distance,
        design=found.name,
        seeds=found.seeds,
        groups=numbers,
        **known,
    )
    return Brought(evidence, names, (*notes, *_paired_by_rows(found.seeds, models)))


def _unread(labels: ArrayLike | None, true_labels: ArrayLike | None, bits: NDArray) -> list[str]:
    """That labels beside scores are not read; ValueError where they are of other canaries."""
    given = {"labels": labels, "true_labels": true_labels}
    there = {name: _array(value, name, "[C]") for name, value in given.items() if value is not None}
    for name, array in there.items():
        right = f"({len(bits)},), one per canary"
        require(array.shape == (len(bits),), f"{name} {array.shape}", right)
    return [f"{name} are not read: scores say all that they would" for name in there]


def _paired_by_rows(seeds: NDArray[np.int64] | None, models: Sequence[str] | None) -> list[str]:
    """Which models are pairs, where they do not lie side by side."""
    if seeds is None:
        return []
    order = [str(s) if models is None else models[s] for s in np.argsort(seeds)]
    pairs = [f"{a} with {b}" for a, b in zip(order[::2], order[1::2], strict=True)]
    return [f"models were paired by who holds the other canaries: {some(pairs)}"]


def _groups(
    given: ArrayLike, bits: NDArray[np.bool_], models: Sequence[str] | None
) -> tuple[NDArray[np.int64], list[str]]:
    """Groups [C] as numbers and their names; ValueError where one is IN and OUT of a model."""
    array = _array(given, "groups", "integers or words [C]")
    right = f"({len(bits)},), one per canary"
    require(array.shape == (len(bits),), f"groups {array.shape}", right)
    numbers, names = groups.number(array, where="canaries")
    require(len(names) > 1, f"groups: all canaries are of one, {names[0]}", "two or more")
    first = np.unique(numbers, return_index=True)[1]
    torn = np.argwhere(bits[first][numbers] != bits)
    if len(torn):
        canary, model = torn[0]
        called = model if models is None else models[model]
        raise ValueError(
            f"group {names[numbers[canary]]} is IN and OUT of model {called} (canaries in rows "
            f"{first[numbers[canary]]} and {canary}): it must be a member as a whole"
        )
    return numbers, list(names)


def digest(evidence: Evidence) -> str:
    """One hash of all that an audit reads of an evidence."""
    e, found = evidence, hashlib.sha256(evidence.design.encode())
    arrays = (e.member, e.logits, e.given, e.labels, e.true_labels, e.nearest, e.groups, e.seeds)
    for array in arrays:
        known = b"none" if array is None else repr((array.shape, array.dtype.str)).encode()
        found.update(known + (b"" if array is None else np.ascontiguousarray(array).tobytes()))
    return found.hexdigest()


def _bits(member: ArrayLike) -> NDArray[np.bool_]:
    given = _array(member, "member", "[C,S]")
    require(given.dtype.kind in "biuf", f"member of type {given.dtype}", "bool, or 0 and 1")
    require(bool(np.isin(given, (0, 1)).all()), "member holds other numbers", "0 and 1 alone")
    bits = given.astype(bool)
    require(bits.ndim == 2 and bits.size > 0, f"member {bits.shape}", "[C,S], canaries x models")
    return bits


def _array(given: ArrayLike | None, name: str, right: str) -> NDArray:
    """An array of what was given; ValueError where rows are of unequal length."""
    try:
        return np.asarray(given)
    except ValueError as error:
        raise ValueError(f"{name} with rows of unequal length: must be {right}") from error


def _outputs(given: ArrayLike | None, name: str, bits: NDArray[np.bool_], dtype: type) -> NDArray:
    """Numbers that agree with the members on [C,S] and are all finite."""
    axes = _AXES[name]
    right = " or ".join(f"[{','.join(those)}]" for those in axes)
    array = _array(given, name, right)
    require(array.dtype.kind in "iuf", f"{name} of type {array.dtype}", "numbers")
    require(array.ndim in map(len, axes), f"{name} {array.shape}", right)
    whole = array.shape[:2] == bits.shape and array.size > 0
    require(whole, f"{name} {array.shape} and member {bits.shape}", "of the same [C,S]")
    bad = np.argwhere(~np.isfinite(array))
    if len(bad):
        raise ValueError(
            f"{len(bad)} of {array.size} {name} are NaN or infinite, the first of canary "
            f"{bad[0][0]}, model {bad[0][1]}: must be finite (clip probabilities before a log)"
        )
    largest = max(abs(float(array.min())), abs(float(array.max())))
    require(largest <= _LARGEST[name], f"{name} up to {largest:g}", f"within {_LARGEST[name]:g}")
    values: NDArray = np.ascontiguousarray(array, dtype=dtype)
    return values


def _refuse_probabilities(logits: NDArray[np.float32]) -> None:
    require(logits.shape[3] > 1, f"logits {logits.shape}", "of two or more classes")
    if logits.min() >= 0 and logits.max() <= 1 and np.allclose(logits.sum(axis=3), 1, atol=1e-3):
        raise ValueError(
            "logits are probabilities (each row sums to 1): must be logits; "
            "log-probabilities will do, np.log(p.clip(1e-12))"
        )


def _labels(given: ArrayLike | None, name: str, logits: NDArray[np.float32]) -> NDArray[np.int64]:
    array, (num, *_, classes) = _array(given, name, "int [C]"), logits.shape
    require(array.dtype.kind in "iu", f"{name} of type {array.dtype}", "integers")
    require(array.shape == (num,), f"{name} {array.shape}", f"({num},), one per canary")
    low, high = int(array.min()), int(array.max())
    inside = low >= 0 and high < classes
    require(inside, f"{name} {low}..{high}", f"0..{classes - 1}, the places of the logits")
    return array.astype(np.int64)
