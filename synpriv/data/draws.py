"""Canaries and membership: the only place that draws who is a member.

Canaries, wrong labels and `balanced` membership follow Aerni, Zhang and Tramer, "Evaluations of
Machine Learning Privacy Defenses are Misleading" (CCS 2024): the same seed gives theirs. `paired`
and `bernoulli` membership and the seeds of their runs do not depend on the number of shadow models,
so that a cell can grow: the first S columns of a larger matrix are the smaller one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from synpriv.data.chosen import (
    images_of,
    named_units,
    own_units,
    require_num,
    units,
)
from synpriv.data.intake import Pools
from synpriv.data.pool import Bools, Ints

# First words of the spawn keys of our own streams; the protocol's begin with 0, 1 or 2.
_PAIR, _MODEL, _RUN, _ORDER = (
    int.from_bytes(word) for word in (b"pair", b"modl", b"runs", b"ordr")
)


class _Streams(NamedTuple):
    shadow: np.random.Generator
    canary_order: np.random.Generator
    label_noise: np.random.Generator


def _streams(seed: int) -> _Streams:
    """The independent generators of the protocol, in the order in which it spawns them."""
    _, shadow, rest = np.random.default_rng(seed).spawn(3)
    canary_order, rest = rest.spawn(2)
    canary_transforms, _ = rest.spawn(2)
    label_noise, _ = canary_transforms.spawn(2)
    return _Streams(shadow, canary_order, label_noise)


def membership(num_samples: int, num_models: int, *, seed: int) -> Bools:
    """Balanced: who is IN which shadow model, bool [N,S] with exactly S/2 True per row.

    Drawn for all N samples, hence independent of the number of canaries; every entry depends on S.
    """
    if num_models < 2 or num_models % 2:
        raise ValueError(f"num_models={num_models}: must be even and at least 2")
    noise = _streams(seed).shadow.uniform(size=(num_models, num_samples))
    member = np.zeros((num_models, num_samples), dtype=bool)
    np.put_along_axis(member, noise.argsort(axis=0)[: num_models // 2], True, axis=0)
    return member.T


def paired_membership(num_samples: int, num_models: int, *, seed: int) -> Bools:
    """Fair coins say which of models 2p and 2p + 1 has a sample IN: bool [N,S].

    One coin per sample and pair, so rows are balanced for every even S, and given all other pairs a
    model's bits are independent fair coins.
    """
    first = [_coins(num_samples, (_PAIR, pair), seed) for pair in range((num_models + 1) // 2)]
    return np.stack([bits for coins in first for bits in (coins, ~coins)], axis=1)[:, :num_models]


def bernoulli_membership(num_samples: int, num_models: int, *, seed: int) -> Bools:
    """Independent fair coins, bool [N,S]."""
    return np.stack(
        [_coins(num_samples, (_MODEL, model), seed) for model in range(num_models)], axis=1
    )


def _coins(num_samples: int, key: tuple[int, int], seed: int) -> Bools:
    """Fair coins for all samples, bool [N], from the stream `key` of the audit seed."""
    stream = np.random.SeedSequence(seed, spawn_key=key)
    return np.random.default_rng(stream).random(num_samples) < 0.5


def canary_indices(
    twins: Bools, num_canaries: int, *, seed: int, of: str = "private images"
) -> Ints:
    """Positions of the canaries in the private set, int [C], none of those marked in `twins` [N].

    A copy that stays when a canary is taken out would hide what is learnt of it. The protocol draws
    canaries from a stream of their own, so audits of one `seed` that differ in the number of shadow
    models share their canaries.
    """
    alone = len(twins) - int(twins.sum())
    if not 1 <= num_canaries <= alone:
        all_of_them = "the private set" if of == "private images" else f"all {of}"
        which = all_of_them if alone == len(twins) else f"{of} without a copy"
        raise ValueError(
            f"canary.num_canaries={num_canaries}: must be 1..{alone} ({which}); "
            f"write, say, canary.num_canaries={max(1, alone // 10)}"
        )
    order = _streams(seed).canary_order.permutation(len(twins))
    return order[~twins[order]][:num_canaries]


def wrong_labels(labels: Ints, num_classes: int, *, seed: int) -> Ints:
    """For each sample a uniform label other than its own, int [N], the same in all models."""
    draw = _streams(seed).label_noise.integers(0, num_classes - 1, size=len(labels))
    return np.where(draw < labels, draw, draw + 1)


def run_seed(seed: int, *, audit_seed: int, member_draw: str, num_models: int) -> int:
    """The 32-bit seed from which everything random in shadow model `seed` derives.

    Of `balanced` cells it is the protocol's, else it does not depend on the number of models.
    """
    if member_draw == "balanced":
        return audit_seed * (num_models + 1) + seed + 1
    stream = np.random.SeedSequence(audit_seed, spawn_key=(_RUN, seed))
    return int(stream.generate_state(1)[0])


MEMBERSHIPS = {
    "paired": paired_membership,
    "balanced": membership,
    "bernoulli": bernoulli_membership,
}
CANARIES = ("mislabelled", "clean", "path")

FEW_WRONG = 0.01  # wrong labels that leave the accuracy as it is


def wrong_label_share(
    kind: str, num_canaries: float, num_private: int, *, num_wrong: int = 0
) -> float:
    """Expected share of wrong labels among what one shadow model is trained on.

    Half of the canary images are IN; with `num_private` images in all. `num_wrong`: of canaries of
    one's own, how many have a wrong label.
    """
    wrong = {"mislabelled": num_canaries, "path": num_wrong}.get(kind, 0)
    return wrong / 2 / (num_private - num_canaries / 2)


@dataclass(frozen=True)
class Draw:
    """Who is a canary, with which label, and in which shadow models: the same for all of a cell."""

    canaries: Ints  # [C] positions in the private set, groups one after the other
    member: Bools  # [C,S]
    labels: Ints  # [N] what is trained on: wrong for mislabelled canaries
    audit_seed: int
    groups: Ints | None = None  # [C] 0..G-1 which canaries are of one group; None = no groups

    @property
    def expected_size(self) -> int:
        """Of a private set, rounded down: public, the same for all shadow models."""
        return len(self.labels) - len(self.canaries) + len(self.canaries) // 2

    def included(self, seed: int) -> Bools:
        """Which private images shadow model `seed` is trained on, [N]."""
        mask = np.ones(len(self.labels), dtype=bool)
        mask[self.canaries] = self.member[:, seed]
        return mask

    def rows(self, seed: int) -> Ints:
        """Positions of those in the order in which a method is given them, which is random.

        In the data's own order the canaries would show: a wrong label among the images of a class
        that is stored as a block, an own canary as one of the last.
        """
        stream = np.random.SeedSequence(self.audit_seed, spawn_key=(_ORDER, seed))
        return np.random.default_rng(stream).permutation(np.flatnonzero(self.included(seed)))


def draw(
    pools: Pools,
    *,
    kind: str,
    num_canaries: int,
    member_draw: str,
    num_models: int,
    audit_seed: int,
    indices: Sequence[int] | None = None,
) -> Draw:
    """Draw the canaries of a cell and their membership.

    Canaries are groups where the private set has groups, all images of one IN or OUT by one coin.
    indices: rows of the canaries in the data as they were read, instead of random ones. kind
    `path`: the canaries of one's own, in the order of their file.
    """
    if kind not in CANARIES:
        raise ValueError(f"canary.kind={kind}: must be one of {', '.join(CANARIES)}")
    trained = pools.private.labels.copy()
    grouped = pools.private.groups is not None
    if kind == "path":
        picked = own_units(pools)
        assert pools.own is not None
        require_num(num_canaries, picked, pools.own.file)
        trained[len(trained) - pools.num_own :] = pools.own.pool.labels
    elif indices is not None:
        picked = named_units(pools, indices)
        require_num(num_canaries, picked, "canary.indices")
    else:
        copied = np.bincount(units(pools), weights=pools.twins) > 0
        of = "private groups" if grouped else "private images"
        picked = canary_indices(copied, num_canaries, seed=audit_seed, of=of)
    num_units = int(units(pools).max()) + 1
    member = MEMBERSHIPS[member_draw](num_units, num_models, seed=audit_seed)[picked]
    canaries, groups = images_of(picked, pools) if grouped else (picked, None)
    if kind == "mislabelled":
        wrong = wrong_labels(trained, pools.num_classes, seed=audit_seed)
        trained[canaries] = wrong[canaries]
    member = member if groups is None else member[groups]
    return Draw(canaries, member, trained, audit_seed, groups)
