"""Hinge and logit scores against their definitions."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from reference import lira as naive
from scipy.special import softmax

from synpriv.audit.scores import SCORES, aligned, hinge, logit

Floats = NDArray[np.float64]
Score = Callable[..., Floats]
every = pytest.mark.parametrize("score", SCORES.values(), ids=SCORES.keys())


@pytest.fixture
def logits() -> NDArray[np.float32]:
    return np.random.default_rng(0).normal(0, 3, size=(6, 5, 4, 7)).astype(np.float32)


@pytest.fixture
def labels() -> NDArray[np.int64]:
    return np.array([0, 6, 3, 3, 1, 5])


def test_hinge_is_the_loop(logits: NDArray[np.float32], labels: NDArray[np.int64]) -> None:
    expected = np.empty(logits.shape[:-1])
    for place in np.ndindex(expected.shape):
        z, y = logits[place], labels[place[0]]
        expected[place] = float(z[y]) - max(float(z[k]) for k in range(7) if k != y)
    np.testing.assert_allclose(hinge(logits, labels), expected, rtol=1e-12)


def test_logit_is_the_log_odds_of_the_softmax(
    logits: NDArray[np.float32], labels: NDArray[np.int64]
) -> None:
    probability = softmax(logits.astype(np.float64), axis=-1)
    own = probability[np.arange(6), ..., labels]
    np.testing.assert_allclose(logit(logits, labels), np.log(own / (1 - own)), rtol=1e-9)


def test_logit_agrees_with_torch_cross_entropy(
    logits: NDArray[np.float32], labels: NDArray[np.int64]
) -> None:
    flat = torch.from_numpy(logits[:, 0, 0]).double()
    loss = torch.nn.functional.cross_entropy(flat, torch.from_numpy(labels), reduction="none")
    expected = -loss - torch.log(-torch.expm1(-loss))  # log p - log(1-p)
    np.testing.assert_allclose(logit(logits, labels)[:, 0, 0], expected.numpy(), rtol=1e-9)


def test_both_scores_agree_for_two_classes(logits: NDArray[np.float32]) -> None:
    labels = np.array([0, 1, 0, 1, 1, 0])
    np.testing.assert_allclose(hinge(logits[..., :2], labels), logit(logits[..., :2], labels))


@every
def test_saturated_logits_do_not_clip(score: Score) -> None:
    # Through a softmax both rows would read p = 1 and log(p/(1-p)) = inf.
    saturated = np.array([[1e4, 0, 0], [2e4, 0, 0], [-1e4, 0, 0]])
    np.testing.assert_allclose(score(saturated, [0, 0, 0]), [1e4, 2e4, -1e4], rtol=1e-3)


@every
def test_scores_are_float64_and_inputs_stay(
    score: Score, logits: NDArray[np.float32], labels: NDArray[np.int64]
) -> None:
    for given in (logits, logits.astype(np.float64)):
        before = given.copy()
        result = score(given, labels)
        assert result.dtype == np.float64
        assert result.shape == given.shape[:-1]
        np.testing.assert_array_equal(given, before)


@every
def test_a_common_shift_of_the_logits_changes_nothing(
    score: Score, logits: NDArray[np.float32], labels: NDArray[np.int64]
) -> None:
    shifted = logits.astype(np.float64) + 11
    np.testing.assert_allclose(score(shifted, labels), score(logits, labels), atol=1e-9)


@every
@pytest.mark.parametrize(
    ("shape", "num_labels"), [((5,), 5), ((5, 3), 4), ((5, 1), 5)], ids=["1d", "labels", "K=1"]
)
def test_wrong_shapes_are_refused(score: Score, shape: tuple[int, ...], num_labels: int) -> None:
    with pytest.raises(ValueError, match=r"need \[C,...,K>=2\]"):
        score(np.zeros(shape), np.zeros(num_labels, dtype=int))


@every
@pytest.mark.parametrize("label", [-1, 3])
def test_labels_out_of_range_are_refused(score: Score, label: int) -> None:
    with pytest.raises(ValueError, match=r"need 0\.\.2"):
        score(np.zeros((2, 3)), [0, label])


# --- the shift that all canaries of a model share -------------------------------------------------


def no_effect(num_canaries: int = 200, num_models: int = 8, num_views: int = 2) -> Floats:
    """Scores [C,S,Q] of canaries with means and spreads of their own; models are all alike."""
    rng = np.random.default_rng(3)
    means, spreads = 3 * rng.normal(size=(num_canaries, 1, 1)), rng.uniform(0.3, 2, num_canaries)
    noise = rng.normal(size=(num_canaries, num_models, num_views))
    return means + spreads[:, None, None] * noise


@pytest.mark.parametrize("size", [0.0, 0.1, 1.0, 50.0])
def test_aligned_is_the_loop(size: float) -> None:
    scores = no_effect(12, 6)
    scores += size * np.random.default_rng(4).normal(size=(1, 6, 2))
    scores[:, :, 1] = scores[:, :, 0] ** 2  # views are aligned one by one
    before = scores.copy()
    np.testing.assert_allclose(aligned(scores), naive.aligned(scores), rtol=1e-9, atol=1e-9)
    np.testing.assert_array_equal(scores, before)


def test_without_a_shift_scores_stay_nearly_as_they_are() -> None:
    scores = no_effect()
    moved = np.abs(aligned(scores) - scores)
    plain = np.abs((scores - scores.mean(axis=1, keepdims=True)).mean(axis=0))  # not shrunk
    assert moved.max() < 0.1  # of spreads of 0.3 to 2
    assert moved.mean() < plain.mean() / 2


def test_a_known_shift_is_removed() -> None:
    scores = no_effect()
    shift = np.random.default_rng(5).normal(size=(1, 8, 2))
    left = (aligned(scores + shift) - scores)[0]
    # What all models share compares nothing; a shift is seen up to the noise of 200 canaries.
    np.testing.assert_allclose(left - left.mean(axis=0), 0, atol=4 * 1.3 / np.sqrt(200))
    np.testing.assert_allclose(left.mean(axis=0), shift[0].mean(axis=0), atol=1e-9)


def test_alignment_moves_all_canaries_of_a_model_alike() -> None:
    scores = no_effect()
    moved = aligned(scores + np.arange(8.0)[:, None]) - scores
    np.testing.assert_allclose(moved, np.broadcast_to(moved[:1], moved.shape), atol=1e-9)


@pytest.mark.parametrize("value", [0.0, 7.25])
def test_scores_that_do_not_differ_stay(value: float) -> None:
    np.testing.assert_array_equal(aligned(np.full((5, 6, 2), value)), value)
