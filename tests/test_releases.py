"""What the page answers to whoever asks whether a release may go out."""

from __future__ import annotations

from typing import Any

import pytest
from example_reports import rate_of, report_of

from synpriv.report.html import releases
from synpriv.report.html.shape import Release
from synpriv.report.verdict import verdict

Report = dict[str, Any]


def _of(*reports: Report) -> list[Release]:
    return releases.releases(reports, [verdict(report) for report in reports])


def _report(
    method: str, cell: str = "", *, tpr: float = 0.16, p: float = 0.001, **more: Any
) -> Any:
    return report_of(method, tpr=tpr, p=p, **({"cell": f"{method}-{cell}"} | more))


def test_audits_of_one_training_are_one_release_and_the_worst_counts() -> None:
    clean = {"canary": "clean", "canaries_sha256": "1"}
    settings = report_of("distill_dm")["settings"]
    found = _of(
        _report("distill_dm", "a", p=0.5),
        _report("distill_dm", "b", settings=settings | {"canary.kind": "clean"}, **clean),
        _report("distill_dm", "a", attack="nearest", tpr=0.002, p=0.9),
        _report("distill_dm", "c", p=0.5, settings=settings | {"method.num_epochs": 9}),
    )
    assert [(one["cells"], one["kind"]) for one in found] == [
        (["c1", "c0", "c2"], "leak"),
        (["c3"], "none"),
    ]
    assert [one["name"] for one in found] == [
        "distill_dm num_epochs=3 (digits)",
        "distill_dm num_epochs=9 (digits)",
    ]
    assert "by nearest: no evidence" in found[0]["audits"]
    assert found[1]["audits"] == ""


def test_what_is_undefended_is_last_and_gets_no_advice() -> None:
    found = _of(_report("undefended", tpr=1.0), _report("dfkd", p=0.5), _report("dpsgd"))
    assert [(one["name"], one["baseline"]) for one in found] == [
        ("dpsgd (digits)", False),
        ("dfkd (digits)", False),
        ("undefended (digits)", True),
    ]
    assert found[0]["advice"] == "Do not release it as protected."
    assert "no proof" in found[1]["advice"]
    assert found[2]["advice"] == ""


def test_models_without_settings_are_not_taken_for_one() -> None:
    assert len(_of(*(_report("theirs", cell, settings={}) for cell in "ab"))) == 2


@pytest.mark.parametrize(
    ("tpr", "said"),
    [
        (0.16, "About 1 in 6 of the worst-case images is found, at one false alarm in about 100."),
        (0.004, "About 1 in 250 of the worst-case images is found"),
        (0.44, "About 4 in 10 of the worst-case images are found"),
        (0.97, "Nearly all of the worst-case images are found"),
        (1.0, "All of the worst-case images are found"),
    ],
)
def test_a_share_is_said_as_people_say_it(tpr: float, said: str) -> None:
    assert _of(_report("dfkd", tpr=tpr))[0]["found"].startswith(said)


def test_a_leak_at_the_stricter_rate_alone_is_told_at_that_rate() -> None:
    weak = {"tpr@fpr=0.01": rate_of(0.02, p=0.5), "tpr@fpr=0.001": rate_of(0.01, fpr=0.001)}
    found = _of(_report("dfkd", n_out=160_000, **weak))[0]["found"]
    assert found == (
        "About 1 in 100 of the worst-case images is found, at one false alarm in about 1,000."
    )


def test_nothing_found_names_what_is_not_excluded_and_other_signs() -> None:
    quiet = {"auc_p": 0.5}
    (found,) = _of(_report("dfkd", tpr=0.02, p=0.5, **quiet))
    assert "Not excluded: that about 1 in 45 of the worst-case images is found." in found["found"]
    assert "Yet" not in found["advice"]
    near = {"nearness": {"above_chance": True, "nearer": 9, "pairs": 10, "chance": 1.0, "p": 0.001}}
    (found,) = _of(_report("dfkd", p=0.5, auc_p=0.001, **near))
    assert "members score higher than others on average and released images come" in found["advice"]
    (found,) = _of(_report("dpsgd", epsilon=0.5, epsilon_bound=1.0))
    assert "its proven epsilon is contradicted" in found["advice"]


def test_too_little_says_how_much_would_do() -> None:
    (found,) = _of(_report("dfkd", p=0.5, n_out=90, num_canaries=30, num_models=6))
    assert found["kind"] == "unresolved"
    assert "30 canaries x 68 models would do, 6 were there" in found["found"]  # 30 x 34 >= 1000
    assert "Nothing can be said yet." in found["advice"]
