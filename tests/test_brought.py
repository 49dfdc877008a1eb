"""How members were drawn, canaries of one person, and the folder that an audit is written to."""

from __future__ import annotations

import csv
import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from synpriv import elsewhere
from synpriv.audit import __main__ as command
from synpriv.audit import groups
from synpriv.report import figure, members, table
from synpriv.results import brought, locks, reports, rows
from synpriv.results.design import design_of, refuse_repeated

pytestmark = pytest.mark.usefixtures("few_rounds", "no_pictures")
Bits = NDArray[np.bool_]


def paired(num_canaries: int = 40, num_models: int = 24, seed: int = 1) -> Bits:
    first = np.random.default_rng(seed).random((num_canaries, num_models // 2)) < 0.5
    return np.stack([first, ~first], axis=2).reshape(num_canaries, num_models)


def scores(member: Bits, **others: Any) -> dict[str, Any]:
    noise = np.random.default_rng(0).normal(size=member.shape)
    return {"scores": noise + 2 * member, "member": member, **others}


def written(file: Path, member: Bits, models: list[str], person: list[str] | None = None) -> Path:
    values = scores(member)["scores"]
    head = [*rows.COLUMNS, *([rows.GROUP] if person else [])]
    lines = [[f"c{c}", models[s], int(member[c, s]), values[c, s], *(person[c:c + 1] if person else
             [])] for c, s in itertools.product(*map(range, member.shape))]  # fmt: skip
    with file.open("w", newline="") as stream:
        csv.writer(stream).writerows([head, *np.random.default_rng(5).permutation(lines)])
    return file


def test_names_with_numbers_are_sorted_by_these() -> None:
    names = ["m1", "m10", "m2", "2", "10", "a", "m02b", "m2b", "1" * 5000]
    for order in (names, names[::-1]):
        found = sorted(order, key=rows._natural)
        assert found == ["2", "10", "1" * 5000, "a", "m1", "m2", "m02b", "m2b", "m10"]


def test_models_with_a_name_before_their_number_stay_pairs(tmp_path: Path) -> None:
    member = paired()
    file = written(tmp_path / "a.csv", member, [f"model_{s}" for s in range(24)])
    found = brought.read(file)
    assert found.evidence.design == "paired"
    assert found.evidence.seeds is None
    np.testing.assert_array_equal(found.evidence.member, member)


def test_pairs_that_do_not_lie_side_by_side_are_found_and_said() -> None:
    member = paired()
    apart = np.concatenate([member[:, ::2], member[:, 1::2]], axis=1)  # 0 with 12, 1 with 13, ...
    found = brought.of_arrays(**scores(apart))
    first, second = found.evidence.partners
    assert set(zip(first.tolist(), second.tolist(), strict=True)) == set(
        zip(range(12), range(12, 24), strict=True)
    )
    assert found.notes[0].startswith(
        "models were paired by who holds the other canaries: 0 with 12"
    )
    report = elsewhere.audit_models(**scores(apart))
    assert (report["membership"], report["seeds"][:2]) == ("paired", [0, 2])
    assert found.notes[0] in report["warnings"]
    # The same audit as of the columns side by side.
    order = np.argsort(report["seeds"])
    beside = {key: value[:, order] for key, value in scores(apart).items()}
    assert elsewhere.audit_models(**beside)["auc"] == pytest.approx(report["auc"], abs=1e-12)


def test_models_without_partner_among_pairs_are_named(tmp_path: Path) -> None:
    names = [f"m{s}" for s in range(24) if s != 5]
    file = written(tmp_path / "a.csv", np.delete(paired(), 5, axis=1), names)
    with pytest.raises(
        ValueError, match=r"models m0 and m1 are a pair, .* model m4 has no partner"
    ):
        brought.read(file)
    assert brought.read(file, design="balanced").evidence.design == "balanced"
    held = paired()
    held[:39, 4] = True
    with pytest.raises(ValueError, match="model m4 holds"):
        brought.read(written(file, held, [f"m{s}" for s in range(24)]), design="bernoulli")


def together(num_models: int = 24) -> tuple[Bits, NDArray[np.int64]]:
    person = np.random.default_rng(2).permutation(np.repeat(np.arange(20), 6))
    return paired(20, num_models)[person], person


def test_canaries_of_one_person_are_no_coins_of_their_own(tmp_path: Path) -> None:
    member, person = together()
    with pytest.raises(ValueError, match=r"have the same members.* give groups"):
        brought.of_arrays(**scores(member))
    ids = [f"p{x}" for x in person]
    np.savez(tmp_path / "a.npz", **scores(member, groups=np.array(ids)))
    file = written(tmp_path / "a.csv", member, [f"m{s}" for s in range(24)], ids)
    for found in (brought.read(tmp_path / "a.npz"), brought.read(file)):
        assert found.evidence.groups is not None
        assert found.names is not None
        assert found.evidence.bits.shape == (20, 24)
        assert [found.names[g] for g in found.evidence.groups] == ids
        assert found.evidence.design == "paired"
    report = elsewhere.audit_models(**scores(member, groups=person))
    assert report["num_canaries"] == 20
    assert report["groups"] == groups.report(found.evidence)["groups"]
    assert "members are groups of 6 images, not images: 20 groups" in table.text(
        [report], family="", rest=""
    )


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (np.arange(119), r"groups .119,.: must be .120,., one per canary"),
        (np.zeros(120, int), "all canaries are of one, 0: must be two or more"),
        (np.ones(120), "groups are float64"),
        (np.arange(120) // 6, "is IN and OUT of model .* must be a member as a whole"),
    ],
)
def test_groups_that_are_none_are_refused(given: NDArray, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        brought.of_arrays(**scores(together()[0], groups=given))


def test_a_canary_of_two_groups_is_named(tmp_path: Path) -> None:
    head = "canary,model,member,score,group\n"
    (tmp_path / "a.csv").write_text(f"{head}x,0,1,0.5,p\nx,1,0,0.5,q\n")
    with pytest.raises(ValueError, match="canary x is of groups p, q: must be of one"):
        brought.read(tmp_path / "a.csv")


def test_fair_draws_are_not_taken_for_persons() -> None:
    for seed in range(60):
        rng = np.random.default_rng(seed)
        size, models = int(rng.integers(2, 400)), 2 * int(rng.integers(2, 10))
        half = np.arange(models) < models // 2
        third = np.arange(models) < max(1, models // 3)
        names = list(map(str, range(size)))
        for member in (
            paired(size, models, seed),
            rng.random((size, models)) < 0.5,
            rng.permuted(np.tile(half, (size, 1)), axis=1),
            rng.permuted(np.tile(third, (size, 1)), axis=1),
        ):
            refuse_repeated(member, names)


def test_persons_of_two_records_are_seen_where_there_are_many_models() -> None:
    for member in (paired(50, 16), np.random.default_rng(3).random((50, 16)) < 0.5):
        with pytest.raises(ValueError, match=r"rows a\d+, a\d+.* have the same members"):
            refuse_repeated(np.concatenate([member, member]), [f"a{i}" for i in range(100)])


def test_a_lone_pair_by_chance_among_few_canaries_is_no_pair() -> None:
    member = np.array([[1, 0, 0, 1, 1], [0, 1, 0, 1, 0], [1, 0, 1, 1, 0]], bool)
    assert design_of(member).name == "bernoulli"


def test_the_page_is_that_of_its_attack_and_is_always_there(tmp_path: Path) -> None:
    given = scores(paired())
    for attack in ("threshold", "lira"):
        elsewhere.audit_models(**given, attack=attack, out=tmp_path)
    assert "threshold.png" in (tmp_path / "threshold.md").read_text()
    page = (tmp_path / "lira.md").read_text()
    (tmp_path / "lira.md").write_text("stale")
    elsewhere.audit_models(**given, out=tmp_path)
    assert (tmp_path / "lira.md").read_text() == page


def test_no_other_audit_is_overwritten(tmp_path: Path) -> None:
    elsewhere.audit_models(**scores(paired()), out=tmp_path / "a")
    before = (tmp_path / "a" / "lira.json").read_bytes()
    for attack in ("lira", "threshold"):
        with pytest.raises(ValueError, match=r"lira.json there is of other evidence: must"):
            elsewhere.audit_models(**scores(paired(seed=2)), attack=attack, out=tmp_path / "a")
    assert (tmp_path / "a" / "lira.json").read_bytes() == before
    (tmp_path / "a" / "lira.json").write_bytes(before[:-9])  # damaged: the same command mends it
    elsewhere.audit_models(**scores(paired()), out=tmp_path / "a")
    assert (tmp_path / "a" / "lira.json").read_bytes() == before
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "cell.yaml").touch()
    with pytest.raises(ValueError, match="is a cell of a sweep: must be another folder"):
        elsewhere.audit_models(**scores(paired()), out=tmp_path / "b")


def test_what_is_written_is_written_under_the_folder_s_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def save(file: Path, *_: Any) -> None:
        assert (file.parent / locks.HOLDER).exists()
        raise OSError("full")

    monkeypatch.setattr(elsewhere.audits, "save", save)
    with pytest.raises(OSError, match="full"):
        elsewhere.audit_models(**scores(paired()), out=tmp_path / "a")
    assert not (tmp_path / "a" / locks.HOLDER).exists()


def test_a_bad_place_is_found_before_the_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "there").touch()
    for out in ("there", "there/below"):
        assert command.main(["no_such.npz", "--out", str(tmp_path / out)]) == 1
        assert "is a file: must be a folder" in capsys.readouterr().err
        with pytest.raises(ValueError, match="is a file: must be a folder"):
            elsewhere.audit_models(np.ones(3), out=tmp_path / out)


def test_the_table_is_printed_where_writing_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: Any) -> None:
        raise OSError("No space left on device")

    np.savez(tmp_path / "a.npz", **scores(paired()))
    monkeypatch.setattr(reports.store, "write_bytes", full)
    assert command.main([str(tmp_path / "a.npz"), "--out", str(tmp_path / "a")]) == 1
    said = capsys.readouterr()
    assert "AUC" in said.out
    assert said.err.startswith("error: OSError: No space left on device")


def test_nothing_is_written_of_a_report_that_cannot_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(elsewhere, "_about", lambda *_: {"partial": False, "data": float("nan")})
    monkeypatch.setattr(elsewhere.page, "markdown", lambda *_, **__: "")
    monkeypatch.setattr(figure, "png", lambda *_: b"")
    with pytest.raises(ValueError, match="JSON"):
        elsewhere.audit_models(**scores(paired()), out=tmp_path / "a")
    assert not [file for file in (tmp_path / "a").iterdir() if file.name != locks.LOCK]


def test_labels_beside_scores_are_accepted_and_said_to_be_unread(tmp_path: Path) -> None:
    member = paired()
    labels = np.arange(40) % 10
    for design in (np.array("paired"), np.array(["paired"]), np.array(b"paired")):
        np.savez(tmp_path / "a.npz", **scores(member, labels=labels, design=design))
        found = brought.read(tmp_path / "a.npz")
        assert found.evidence.design == "paired"
        assert found.notes == ("labels are not read: scores say all that they would",)
    report = elsewhere.audit_models(**scores(member, labels=labels))
    assert found.notes[0] in report["warnings"]


def test_arrays_that_are_none_are_one_line() -> None:
    member = paired(40, 8)
    ragged = [[0.5] * 8] * 39 + [[0.5] * 7]
    with pytest.raises(ValueError, match=r"^scores with rows of unequal length: must be .C,S,Q."):
        elsewhere.audit_models(member, scores=ragged)
    with pytest.raises(ValueError, match=r"^options._target_: no such option; it has"):
        elsewhere.audit_models(**scores(member), options={"_target_": "os.system"})
    with pytest.raises(ValueError, match=r"^options.shrinkag: no such option; did you mean shrink"):
        elsewhere.audit_models(**scores(member), options={"shrinkag": 1})


@pytest.mark.filterwarnings("error")
def test_large_scores_are_told_from_infinite_ones_and_give_no_warnings() -> None:
    given = scores(paired(40, 8))
    with pytest.raises(ValueError, match=r"scores up to .*e.300: must be within 1e.100"):
        elsewhere.audit_models(**given | {"scores": 1e300 * given["scores"]})
    large = elsewhere.audit_models(**given | {"scores": 1e98 * given["scores"]})
    assert large["auc"] > 0.7


def test_a_table_says_of_what_its_epsilons_are() -> None:
    image: dict[str, Any] = {}
    group: dict[str, Any] = {"groups": {}}
    assert members.step([image]) == "epsilon: add or remove one image"
    assert members.step([group]).endswith("all else of one group")
    assert members.step([image, group]).endswith("one group in rows of groups")
    member, person = together()
    report = elsewhere.audit_models(**scores(member, groups=person))
    for text in (
        table.text([report], family="", rest=""),
        elsewhere.page.markdown([json.loads(json.dumps(report))], family=""),
    ):
        assert members.step([report]) in text
