"""Image quality against closed forms, a naive loop, and sets that are known to be good or weak."""

import numpy as np
import pytest
from example_reports import report_of
from numpy.typing import NDArray

from synpriv.audit import quality
from synpriv.report import content, table
from synpriv.results import flat

Floats = NDArray[np.float64]


def normal(num: int, dims: int, seed: int = 0) -> Floats:
    return np.random.default_rng(seed).normal(size=(num, dims))


def whitened(points: Floats) -> Floats:
    """The same with mean 0 and covariance 1, exactly."""
    centred = points - points.mean(0)
    return centred @ np.linalg.inv(np.linalg.cholesky(np.cov(centred, rowvar=False))).T


def test_the_distance_of_two_gaussians_is_the_closed_form() -> None:
    points = whitened(normal(50, 4))
    spread, shift = np.array([0.5, 1.0, 2.0, 3.0]), np.array([1.0, -2.0, 0.0, 0.5])
    # Commuting covariances: |m1 - m2|^2 + sum (s1 - s2)^2.
    expected = (shift**2).sum() + ((spread - 1) ** 2).sum()
    found = quality.frechet_distance(points, points * spread + shift)
    assert found == pytest.approx(expected, rel=1e-9)


def test_covariances_that_do_not_commute_against_a_root_by_iteration() -> None:
    one, other = normal(30, 5) @ normal(5, 5, seed=1), normal(40, 5, seed=2) @ normal(5, 5, seed=3)
    first, second = np.cov(one, rowvar=False), np.cov(other, rowvar=False)
    root, inverse = first @ second, np.eye(5)
    for _ in range(60):  # Denman and Beavers (1976): converges to the principal square root
        root, inverse = (root + np.linalg.inv(inverse)) / 2, (inverse + np.linalg.inv(root)) / 2
    np.testing.assert_allclose(root @ root, first @ second, rtol=1e-6, atol=1e-6)
    difference = one.mean(0) - other.mean(0)
    expected = difference @ difference + np.trace(first + second - 2 * root)
    assert quality.frechet_distance(one, other) == pytest.approx(expected, rel=1e-6)


def test_equal_sets_have_no_distance_and_cover_each_other() -> None:
    points = normal(40, 60)  # fewer points than dimensions: a covariance without full rank
    found = quality.quality(points, points, points[::-1])
    assert found is not None
    assert found["fid"] == pytest.approx(0, abs=1e-3)
    assert found["precision"] == found["recall"] == found["private_recall"] == 1
    assert quality.warnings_of(found) == []


def naive_coverage(points: Floats, by: Floats, k: int) -> float:
    inside = 0
    for point in points:
        for index, centre in enumerate(by):
            others = [np.linalg.norm(centre - o) for j, o in enumerate(by) if j != index]
            if np.linalg.norm(centre - point) <= sorted(others)[k - 1]:
                inside += 1
                break
    return inside / len(points)


@pytest.mark.parametrize("k", [1, 3])
def test_coverage_against_a_naive_loop(k: int) -> None:
    points, by = normal(40, 3), normal(25, 3, seed=1) * 0.7
    found = quality.coverage(points, by, neighbours=k)
    assert found == naive_coverage(points, by, k)
    assert 0.1 < found < 0.9


def test_copies_have_radius_zero_and_cover_themselves_alone() -> None:
    by = np.repeat(normal(5, 3), 4, axis=0)
    assert quality.coverage(by[::4], by) == 1
    assert quality.coverage(by + 1e-3, by) == 0


def test_precision_and_recall_tell_noise_from_a_lost_mode() -> None:
    centres = np.where(np.arange(300) % 2, 10.0, -10.0)[:, None]
    real, private = (normal(300, 4, seed) + centres for seed in (0, 1))
    lost = quality.quality(normal(300, 4, seed=2) + 10, real, private)
    assert lost is not None
    assert lost["precision"] > 0.8
    assert 0.3 < lost["recall"] < 0.6 < lost["private_recall"]
    assert lost["fid"] > 50 > lost["private_fid"]
    noise = quality.quality(40 * normal(300, 4, seed=3), real, private)
    assert noise is not None
    assert noise["precision"] < 0.1
    for weak in (lost, noise):  # of the first, FID alone tells
        (line,) = quality.warnings_of(weak)
        assert "a generator this weak leaks little" in line
        assert "\n" not in line
    assert quality.warnings_of(quality.quality(private[:250], real, private) or {}) == []


def test_too_few_images_tell_nothing() -> None:
    many = normal(10, 2)
    assert quality.quality(many[:3], many, many) is None
    assert quality.quality(many, many[:3], many) is None


MEASURED = {"num": 9, "num_real": 9, "fid": 40.0, "precision": 0.01, "recall": 0.5}
MEASURED |= {"private_fid": 4.0, "private_precision": 0.8, "private_recall": 0.7}


def test_a_report_says_how_good_the_images_are() -> None:
    row = table.row(report_of(quality=MEASURED), "mine")
    words = "FID 40.00 (4.00), precision 0.01 (0.80), recall 0.50 (0.70)"
    assert row[table.HEADER.index("image quality")] == words
    assert table.row(report_of(), "mine")[table.HEADER.index("image quality")] == "-"
    assert flat.flatten(report_of(quality=MEASURED))["quality/private_recall"] == 0.7
    assert "image quality" not in table.text([report_of(quality=MEASURED)], family="", rest="")


def test_a_report_holds_means_over_shadow_models() -> None:
    better = MEASURED | {"precision": 0.03}
    assert quality.mean([MEASURED, better])["precision"] == pytest.approx(0.02)


@pytest.mark.parametrize(("stage", "told"), [("student", True), ("fit", False)])
def test_images_are_called_weak_where_a_student_learnt_from_them_alone(
    stage: str, told: bool
) -> None:
    data = {"class_sizes": [10] * 10, "num_private": 100, "warnings": []}
    run = {"builds_on": {}, "data": data, "code_sha256": "x", "provenance": ["pixels"], "seed": 0}
    report = {"partial": False, "test_accuracy": {"mean": 0.9}}
    runs = [run | {"stages": {stage: {}}, "quality": MEASURED}] * 6
    words = content.warnings_of(6, runs, report | {"quality": quality.mean([MEASURED])})
    assert any("leaks little because it makes little" in line for line in words) == told
