"""What a released synthetic set says about itself: saturated, collapsed, or the same as another.

Facts are taken of each set when it is made, and put in words for one set and for those of a cell.
They are of what is released and of test images; of the private ones only how many are released as
they are, and the rank of canaries that the shadow model was not given, which shadow/ adds.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Images = NDArray[np.uint8]  # [N,ch,H,W]
Facts = dict[str, Any]
SAMPLE = 64  # image hashes kept, the smallest ones: equal images of two sets have equal hashes
FLAT = 8  # grey levels between the darkest and the brightest pixel of an image
INSIDE = 0.1  # of the share of pixels that test images have between black and white
DISTINCT = 0.9  # share of the images
RECURRING = 0.5  # share of the sampled images
NEAR = 0.25  # mean rank of non-members among held-out images; about half if all is well
COPIED = "real pixels"  # provenance of coresets, whose images are members of every private set


def facts_of(
    images: Images,
    labels: NDArray,
    *,
    test: Images,
    public: Images | None,
    private: Images | None = None,
) -> Facts:
    """What is kept of one set; labels int [N] or soft [N,K].

    `sha256` is of images and labels in any order, `sample` of images that are not public ones.
    private: what the shadow model was given, of which `num_originals` images are copies.
    """
    hashes = _hashes(images)
    classes = labels if labels.ndim == 1 else labels.argmax(1)
    rows = sorted(f"{h} {row.tolist()}" for h, row in zip(hashes, labels, strict=True))
    own = set(hashes) - (set() if public is None else set(_hashes(public)))
    given = set() if private is None else set(_hashes(private))
    return {
        "sha256": hashlib.sha256("\n".join(rows).encode()).hexdigest(),
        "sample": " ".join(sorted(own)[:SAMPLE]),
        "num": len(images),
        "num_distinct": len(set(hashes)),
        "num_originals": sum(image in given for image in hashes),
        "largest_class": round(float(np.bincount(classes).max() / len(classes)), 6),
        "black_or_white": _black_or_white(images),
        "black_or_white_test": _black_or_white(test),
        "flat": _flat(images),
        "flat_test": _flat(test),
    }


def _hashes(images: Images) -> list[str]:
    return [hashlib.sha256(image.tobytes()).hexdigest()[:16] for image in images]


def _black_or_white(images: Images) -> float:
    return round(float(((images == 0) | (images == 255)).mean()), 6)


def _flat(images: Images) -> float:
    """Share of the images that are of one colour or nearly so."""
    return round(float((np.ptp(images.reshape(len(images), -1), axis=1) < FLAT).mean()), 6)


def oddities(facts: Facts, *, largest_class: float) -> dict[str, str]:
    """What is odd about one set, in words; largest_class: share of the private images in theirs."""
    found = {}
    inside, usual = 1 - facts["black_or_white"], 1 - facts["black_or_white_test"]
    if inside < INSIDE * usual:
        found["saturated"] = (
            f"{1 - inside:.1%} of its pixels are 0 or 255, of test images {1 - usual:.1%}: "
            "saturated, lower the learning rate"
        )
    if facts["flat"] > max(0.5, facts["flat_test"]):
        found["flat"] = f"{facts['flat']:.0%} of its images are of one colour or nearly so"
    num, distinct, largest = facts["num"], facts["num_distinct"], facts["largest_class"]
    if distinct < DISTINCT * num:
        found["copies"] = f"only {distinct} of its {num} images are distinct"
    if largest > (1 + largest_class) / 2:
        found["collapsed"] = (
            f"{largest:.0%} of its images are of one class: collapsed, what its student learns of "
            "the others is left to chance"
        )
    return found


def warnings_of_cell(
    runs: Sequence[Facts], *, largest_class: float, provenance: Sequence[str]
) -> list[str]:
    """What is odd about the synthetic sets of the shadow models of a cell, one line per oddity."""
    odd: dict[str, list[str]] = {}
    for facts in runs:
        for kind, words in oddities(facts, largest_class=largest_class).items():
            odd.setdefault(kind, []).append(words)
    found = [
        f"the synthetic set of {len(words)} of {len(runs)} shadow models: {words[0]}"
        for words in odd.values()
    ]
    found += _about_originals(runs, provenance)
    return [*found, *_about_non_members(runs), *_about_equal_sets(runs, provenance)]


def _about_originals(runs: Sequence[Facts], provenance: Sequence[str]) -> list[str]:
    """Private images that are released as they are, by what does not say that it releases them."""
    shares = [run.get("num_originals", 0) / run["num"] for run in runs]
    if COPIED in provenance or not any(shares):
        return []
    return [
        f"{sum(shares) / len(shares):.1%} of the released images are private images bit for bit "
        f"(in {sum(map(bool, shares))} of {len(runs)} shadow models): whoever is given them has "
        "these people's images, whatever a classifier trained on them shows; attack=nearest asks "
        "the images alone"
    ]


def _about_non_members(runs: Sequence[Facts]) -> list[str]:
    """Non-members and test images are alike to a generator that has seen neither.

    So the share of test images that lie nearer to its images than a non-member does is even
    between 0 and 1. Near copies of all private data, however re-encoded, bring it to 0.
    """
    ranks = [run["non_member_rank"] for run in runs if run.get("non_member_rank") is not None]
    if not ranks or sum(ranks) / len(ranks) > NEAR:
        return []
    nearer = 1 - sum(ranks) / len(ranks)
    return [
        f"non-member canaries lie nearer to the synthetic images than {nearer:.0%} of the held-out "
        "images of their class do (half of them, if the generator has seen neither): it saw what "
        "it must not have seen (a copy of all private data?), or test images are of another kind"
    ]


def _about_equal_sets(runs: Sequence[Facts], provenance: Sequence[str]) -> list[str]:
    """Sets that do not depend on the shadow model cannot show who was in its private set."""
    if len(runs) < 2:
        return []
    sets = [facts["sha256"] for facts in runs]
    most = max(map(sets.count, sets))
    if most == len(runs):
        return [
            f"all {most} shadow models have the same synthetic set, image for image: it was not "
            "made from their private sets, so who is a member cannot show in it; this audit MEANS "
            "NOTHING for the method (a fixed set, one cached file, or a copy of all private data?)"
        ]
    if most > 1:
        return [
            f"{most} of {len(runs)} shadow models have the same synthetic set, image for image: "
            "what differs between their private sets cannot show in it, and the audit reads too low"
        ]
    if COPIED in provenance:
        return []
    samples = [facts["sample"].split() for facts in runs]
    # Up to here every sample has all images of its set.
    last = min(sample[-1] if len(sample) == SAMPLE else "g" for sample in samples)
    known = [image for image in samples[0] if image <= last]
    recurring = sum(all(image in sample for sample in samples) for image in known)
    if recurring > RECURRING * len(known):
        return [
            f"about {recurring / len(known):.0%} of the synthetic images, but for public ones, "
            f"are the same in all {len(runs)} shadow models: these were not made from their "
            "private sets, who is a member cannot show in them, and the audit reads too low"
        ]
    return []
