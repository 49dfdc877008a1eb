"""Visual privacy against the same canary in the models where it is OUT, and what chance gives."""

import dataclasses
import itertools

import numpy as np
import pytest

from synpriv.audit.evidence import Evidence
from synpriv.audit.nearness import nearer, nearness, rank
from synpriv.data.draws import membership


def evidence_of(distance: np.ndarray, member: np.ndarray, design: str = "balanced") -> Evidence:
    labels = np.zeros(len(member), dtype=np.int64)
    logits = np.zeros((*member.shape, 1, 2), dtype=np.float32)
    return Evidence(logits, member, labels, labels, distance.astype(np.float32), design)


def paired(num_canaries: int, num_models: int, seed: int) -> np.ndarray:
    coins = np.random.default_rng(seed).random((num_canaries, num_models // 2)) < 0.5
    return np.stack([coins, ~coins], axis=2).reshape(num_canaries, num_models)


def test_pairs_are_counted_as_a_loop_does_and_a_tie_is_not_nearer() -> None:
    rng = np.random.default_rng(1)
    member = rng.random((30, 7)) < 0.6
    member[0], member[1] = True, False  # no control; nothing to compare
    distance = rng.integers(0, 6, member.shape).astype(float)
    count = 0
    for canary, model in zip(*np.nonzero(member), strict=True):
        others = [distance[canary, s] for s in range(7) if not member[canary, s]]
        as_near = sum(other <= distance[canary, model] for other in others)
        assert rank(distance[canary], member[canary], model) == (as_near, len(others))
        count += bool(others) and as_near == 0
    assert 0 < count == nearer(distance, member)


def test_what_chance_gives_is_that_of_all_equally_likely_memberships() -> None:
    distance = np.random.default_rng(0).random((1, 6))
    halves = [np.isin(np.arange(6), half)[None] for half in itertools.combinations(range(6), 3)]
    expected = np.mean([nearer(distance, half) for half in halves])
    assert expected == pytest.approx(3 / 4)  # three IN models, each first among itself and 3 OUT
    many = np.tile(distance, (50, 1))
    found = nearness(evidence_of(many, np.tile(halves[0], (50, 1))))
    assert found["chance"] == pytest.approx(50 * expected, rel=0.02)


@pytest.mark.parametrize("design", ["paired", "balanced", "bernoulli"])
def test_without_a_leak_the_mark_is_rare_and_with_one_certain(design: str) -> None:
    marked = []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        draws = {
            "paired": paired(12, 8, seed),
            "balanced": membership(12, 8, seed=seed),
            "bernoulli": rng.random((12, 8)) < 0.5,
        }
        own = rng.exponential(size=(12, 1))  # some canaries resemble everything
        evidence = evidence_of(own + rng.random((12, 8)), draws[design], design)
        marked.append(nearness(evidence, rounds=199)["above_chance"])
        copied = np.where(draws[design], 0.1, evidence.nearest)
        if seed % 20 == 0:
            leaky = dataclasses.replace(evidence, nearest=copied.astype(np.float32))
            assert nearness(leaky)["above_chance"]
    assert np.mean(marked) <= 0.1  # 2.5% of 40 is 1; more than 4 has probability 0.003


def test_what_releases_no_images_is_refused_in_words() -> None:
    member = membership(4, 4, seed=0)
    evidence = dataclasses.replace(evidence_of(member * 1.0, member), nearest=None)
    with pytest.raises(ValueError, match="releases no images"):
        nearness(evidence)
