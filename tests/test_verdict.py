"""What an audit says in words: of simulated cells whose truth is known, and in between."""

from __future__ import annotations

import numpy as np
import pytest
from example_reports import rate_of, report_of

from synpriv.audit.attacks.threshold import threshold
from synpriv.audit.audit import audit
from synpriv.audit.evidence import Evidence
from synpriv.report import marks, threat
from synpriv.report.verdict import verdict


def simulated(num_canaries: int, num_models: int, leak: float, seed: int) -> dict:
    """The report of an audit of scores that members have `leak` sd higher."""
    rng = np.random.default_rng(seed)
    first = rng.random((num_canaries, num_models // 2)) < 0.5
    member = np.stack([first, ~first], axis=2).reshape(num_canaries, num_models)
    logits = np.zeros((num_canaries, num_models, 1, 2), np.float32)
    logits[..., 0] = (rng.normal(size=member.shape) + leak * member)[:, :, None]
    labels = np.zeros(num_canaries, np.int64)
    given = Evidence(logits, member, labels, labels + 1, design="paired")
    found, _ = audit(threshold, given, null_rounds=99, bootstrap_rounds=20)
    (report,), _ = marks.corrected([report_of() | found])
    return report


def test_without_a_leak_evidence_is_found_no_more_often_than_its_level() -> None:
    kinds = [verdict(simulated(100, 20, 0.0, seed))["kind"] for seed in range(16)]
    # Each is wrong in at most 2.5%, so more than 2 of 16 in 0.7% of such simulations.
    assert kinds.count("leak") <= 2
    assert kinds.count("unresolved") == 0


@pytest.mark.parametrize(
    ("size", "leak", "kind"),
    [((100, 20), 3.0, "leak"), ((30, 8), 0.0, "unresolved"), ((30, 8), 4.0, "leak")],
)
def test_a_known_truth_is_told(size: tuple[int, int], leak: float, kind: str) -> None:
    report = simulated(*size, leak, seed=1)
    found = verdict(report)
    assert found["kind"] == kind
    rate = report["tpr@fpr=0.01"]
    assert f"{rate['tpr']:.1%} [{rate['low']:.1%}, {rate['high']:.1%}]" in found["sentence"]
    if size == (30, 8):  # 120 non-members, so an FPR of 1% allows one: 2/121 is to be expected
        assert "at an expected FPR of 1.7%" in found["sentence"]
        assert any("30 canaries x 68 models, or 250 x 8" in reason for reason in found["reasons"])


def test_chance_findings_of_a_study_are_corrected_before_anything_is_said() -> None:
    some = {"tpr@fpr=0.001": rate_of(0.01, p=0.4), "auc_p": 0.4}
    lucky = report_of(tpr=0.02, **some) | {"tpr@fpr=0.01": rate_of(0.02, p=0.02)}
    assert lucky["tpr@fpr=0.01"]["above_chance"]
    alone, _ = marks.corrected([lucky])
    assert verdict(alone[0])["kind"] == "none"  # of the three numbers that it shows itself
    assert not alone[0]["tpr@fpr=0.01"]["above_chance"]  # and the table says the same
    others = [report_of(f"m{i}", p=0.5, cell=f"m-{i}") for i in range(3)]
    marked, _ = marks.corrected([lucky, *others])
    assert [verdict(report)["kind"] for report in marked] == ["none"] * 4


def test_an_unresolved_headline_stands_in_the_family_that_corrects_it() -> None:
    few = [report_of(f"m{i}", n_out=500, tpr=0.03, p=0.012, cell=f"m-{i}") for i in range(4)]
    assert [(t.row, t.key) for t in marks.family(few[:1])] == [(0, "tpr@fpr=0.01"), (0, "auc")]
    assert verdict(marks.corrected(few[:1])[0][0])["kind"] == "leak"
    marked, _ = marks.corrected(few)
    assert {verdict(report)["kind"] for report in marked} == {"unresolved"}


@pytest.mark.parametrize("n_out", [16_000, 500])
def test_no_verdict_is_read_as_no_leak_where_members_score_higher(n_out: int) -> None:
    report = report_of(tpr=0.01, p=0.5, n_out=n_out, auc=0.61, auc_p=0.001)
    found = verdict(report)
    assert found["kind"] == ("none" if n_out == 16_000 else "unresolved")
    assert "members score higher than non-members on average" in found["reasons"][0]
    assert "0.610" in found["reasons"][0]
    assert "p = 0.001" in found["reasons"][0]


def test_images_that_come_nearer_to_members_are_a_reason_whatever_the_attack_finds() -> None:
    near = {"nearer": 33, "pairs": 90, "chance": 14.4, "p": 0.001, "above_chance": True}
    found = verdict(report_of(tpr=0.01, p=0.5, nearness=near))
    assert found["kind"] == "none"
    assert "33 of 90 pairs" in found["reasons"][0]
    assert "chance gives 14 (p = 0.001" in found["reasons"][0]
    other = verdict(report_of(tpr=0.01, p=0.5, nearness=near | {"above_chance": False}))
    assert not any("pairs" in reason for reason in other["reasons"])


def test_an_auc_alone_decides_nothing() -> None:
    for auc, p in ((0.99, 0.001), (0.5, 0.5), (0.2, 1.0)):
        assert verdict(report_of(tpr=0.01, p=0.5, auc=auc, auc_p=p))["kind"] == "none"
        assert verdict(report_of(auc=auc, auc_p=p))["kind"] == "leak"
    below = verdict(report_of(tpr=0.01, p=0.5, auc=0.2, auc_p=1.0))["reasons"]
    assert any(reason.startswith("below the null: AUC 0.200") for reason in below)


def test_a_valid_bound_and_what_weakens_a_null_result_are_reasons() -> None:
    blind = {"trained_label": {"in": 0.08, "out": 0.07}, "true_label": {"in": 0.7, "out": 0.7}}
    warned = ["partial: 8 of 64 shadow models", "tpr@fpr=0.01 = 0.01 is no evidence"]
    report = report_of(tpr=0.01, p=0.5, answers=blind, warnings=warned, num_models=8, epsilon=0.5)
    reasons = verdict(report)["reasons"]
    assert any("answer its wrong label in 8% of cases" in r for r in reasons)
    assert any(r.startswith("8 shadow models") for r in reasons)
    assert warned[0] in reasons
    assert warned[1] not in reasons  # the rate's own line says it
    assert warned[0] not in verdict(report_of(warnings=warned))["reasons"]  # it is one of a null


def test_a_refuted_proof_stands_before_all_else() -> None:
    few = {"tpr": 0.01, "p": 0.5, "n_out": 500, "auc_p": 0.001, "auc": 0.61}
    found = verdict(report_of(**few, epsilon=1.0, epsilon_bound=3.0))
    contradiction = "The proof is contradicted: epsilon is at least 3.00 (valid lower bound, 95%)"
    assert found["sentence"].startswith(contradiction)
    assert found["reasons"][0].startswith(contradiction)
    assert "above the 1 that is proven" in found["sentence"]
    groups = verdict(report_of(**few, epsilon=1.0, epsilon_group=8.0, epsilon_bound=3.0))
    for kept in (groups, verdict(report_of(**few, epsilon_bound=3.0))):
        assert "contradicted" not in " ".join([kept["sentence"], *kept["reasons"]])
        assert kept["reasons"][1].startswith("epsilon is at least 3.00 (valid")  # after the AUC
        assert "would resolve it" in kept["reasons"][2]
    assert groups["reasons"][1].endswith("at most 8 is proven")


@pytest.mark.parametrize(
    ("others", "words"),
    [
        ({}, "queries the released classifier and knows nothing else"),
        ({"attack": "lira"}, "queries the released classifier and knows the recipe and all"),
        ({"attack": "nearest"}, "sees the released images alone and knows the recipe"),
        ({"attack": "mine", "target": "my.module.attack"}, "sees what the attack mine reads"),
        ({"attack": "lira", "student": True}, "was trained on the released images and knows"),
        ({"attack": "lira", "evidence_file": "a.npz"}, "models whose outputs were brought"),
    ],
)
def test_who_attacks_is_told_from_attack_and_method(others: dict, words: str) -> None:
    attack = others.get("attack", "threshold")
    target = others.get("target", f"synpriv.audit.attacks.{attack}.{attack}")
    report = report_of(attack=attack, attack_options={"_target_": target, "name": attack})
    if "student" in others:
        report["settings"] = report["settings"] | {"method.student.lr": 0.1}
    report |= {key: others[key] for key in ("evidence_file",) if key in others}
    assert words in threat.attacker(report)
    assert words in verdict(report)["sentence"]
    assert "asks of each canary whether it was trained on" in threat.in_words(report)
