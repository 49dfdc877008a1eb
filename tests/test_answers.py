"""What the models call the canaries, against a loop, and what it explains."""

import numpy as np
import pytest

from synpriv.audit.answers import answers, warnings_of
from synpriv.audit.evidence import Evidence
from synpriv.data.draws import membership

C, S, K = 20, 8, 5


def evidence_of(*, learnt: float, clean: bool = False) -> Evidence:
    """Models that give members their label in a share `learnt` of the cases, else the true one."""
    rng = np.random.default_rng(0)
    true = rng.integers(0, K, C)
    labels = true if clean else (true + 1) % K
    member = membership(C, S, seed=0)
    says = np.where(member & (rng.random((C, S)) < learnt), labels[:, None], true[:, None])
    logits = rng.normal(size=(C, S, 3, K)).astype(np.float32)
    np.put_along_axis(logits[:, :, 0], says[..., None], 9.0, axis=-1)
    return Evidence(logits, member, labels, true)


def test_shares_are_those_of_a_loop_over_the_unmodified_image() -> None:
    evidence = evidence_of(learnt=0.5)
    found = answers(evidence)
    for name, labels in (("trained_label", evidence.labels), ("true_label", evidence.true_labels)):
        for side, wanted in (("in", True), ("out", False)):
            right = [
                int(evidence.logits[c, s, 0].argmax()) == labels[c]
                for c in range(C)
                for s in range(S)
                if evidence.member[c, s] == wanted
            ]
            assert found[name][side] == pytest.approx(np.mean(right))
    assert 0.3 < found["trained_label"]["in"] < 0.7
    assert found["trained_label"]["out"] == 0
    assert found["true_label"]["out"] == 1


@pytest.mark.parametrize(
    ("learnt", "clean", "above", "said"),
    [
        (0.0, False, False, True),
        (0.0, False, True, False),  # found all the same: nothing to explain
        (0.5, False, False, False),
        (0.0, True, False, False),
    ],
)
def test_a_null_row_is_explained_where_the_wrong_labels_were_not_learnt(
    learnt: float, clean: bool, above: bool, said: bool
) -> None:
    evidence = evidence_of(learnt=learnt, clean=clean)
    report = {"answers": answers(evidence), "tpr@fpr=0.01": {"above_chance": above}}
    lines = warnings_of(report, evidence)
    assert len(lines) == said
    if said:
        assert "wrong label in 0.0% of the cases (non-members 0.0%)" in lines[0]
        assert "true one in 100.0% (100.0%)" in lines[0]
