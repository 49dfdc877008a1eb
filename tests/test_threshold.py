"""The threshold attack is the score of the unmodified image, whatever the other models say."""

import dataclasses

import numpy as np
import pytest

from synpriv.audit.attacks.threshold import threshold
from synpriv.audit.evidence import Evidence
from synpriv.audit.scores import SCORES
from synpriv.data.draws import membership


@pytest.fixture
def evidence() -> Evidence:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, size=20)
    logits = rng.normal(size=(20, 8, 9, 4)).astype(np.float32)
    return Evidence(logits, membership(20, 8, seed=0), labels, (labels + 1) % 4)


@pytest.mark.parametrize("score", SCORES)
def test_it_is_the_score_of_view_0(evidence: Evidence, score: str) -> None:
    expected = SCORES[score](evidence.logits, evidence.labels)[:, :, 0]
    np.testing.assert_array_equal(threshold(evidence, score=score), expected)


def test_it_ignores_membership_and_other_views(evidence: Evidence) -> None:
    logits = evidence.logits.copy()
    logits[:, :, 1:] = np.nan
    changed = dataclasses.replace(evidence, logits=logits, member=~evidence.member)
    np.testing.assert_array_equal(threshold(changed), threshold(evidence))


def test_one_model_is_enough(evidence: Evidence) -> None:
    one = dataclasses.replace(
        evidence, logits=evidence.logits[:, :1], member=evidence.member[:, :1]
    )
    np.testing.assert_array_equal(threshold(one), threshold(evidence)[:, :1])


def test_unknown_scores_are_refused(evidence: Evidence) -> None:
    with pytest.raises(ValueError, match=r"attack\.score=loss: must be one of hinge, logit"):
        threshold(evidence, score="loss")
