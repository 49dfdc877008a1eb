"""Models trained elsewhere: what a file of theirs must hold, and that its report is a cell's."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from numpy.typing import NDArray

from synpriv import audits, elsewhere
from synpriv.audit import __main__ as command
from synpriv.audit.attacks.lira import lira
from synpriv.audit.audit import audit
from synpriv.audit.evidence import Evidence
from synpriv.results import brought, reports, shape
from synpriv.results import rows as rows_of
from synpriv.results.design import design_of

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.usefixtures("few_rounds", "no_pictures")
C, S, Q, K = 30, 8, 2, 4
Arrays = dict[str, NDArray]


def paired(num_canaries: int = C, num_models: int = S) -> NDArray[np.bool_]:
    first = np.random.default_rng(1).random((num_canaries, num_models // 2)) < 0.5
    return np.stack([first, ~first], axis=2).reshape(num_canaries, num_models)


def arrays(**others: Any) -> Arrays:
    rng = np.random.default_rng(0)
    member, labels = paired(), rng.integers(0, K, C)
    logits = rng.normal(size=(C, S, Q, K)).astype(np.float32)
    logits[np.arange(C), :, :, labels] += 3 * member[:, :, None]
    whole = {"logits": logits, "member": member, "labels": labels, "true_labels": (labels + 1) % K}
    return {name: value for name, value in (whole | others).items() if value is not None}


def scores(**others: Any) -> Arrays:
    rng = np.random.default_rng(0)
    member = paired()
    whole = {"scores": rng.normal(size=(C, S)) + 2 * member, "member": member}
    return {name: value for name, value in (whole | others).items() if value is not None}


def test_a_file_s_report_says_what_the_audit_of_its_evidence_says(tmp_path: Path) -> None:
    given = arrays()
    np.savez(tmp_path / "mine.npz", **given)
    assert command.main([str(tmp_path / "mine.npz"), "--out", str(tmp_path / "mine")]) == 0
    report = json.loads((tmp_path / "mine" / "lira.json").read_bytes())
    expected, statistic = audit(lira, Evidence(**given, design="paired"))  # type: ignore[arg-type]
    assert {key: report[key] for key in expected} == json.loads(json.dumps(expected))
    with np.load(tmp_path / "mine" / "lira.npz") as kept:
        np.testing.assert_array_equal(kept["statistic"], statistic)


def test_a_file_s_report_has_the_keys_of_a_cell_s(tmp_path: Path) -> None:
    elsewhere.audit_models(**arrays(), out=tmp_path / "mine")
    report = reports.read(tmp_path / "mine" / "lira.json")
    assert report is not None  # its shape is the one of every report
    asked = {k for k, v in shape.Shape.__annotations__.items() if "NotRequired" not in str(v)}
    assert asked <= report.keys()
    assert report["accuracy"] is report["train_s"] is None
    assert audits.on_disk(tmp_path / "mine" / "lira.json").not_compared is None
    table = (tmp_path / "mine" / "lira.md").read_text()
    assert "None" not in table
    assert " nan" not in table


def test_scores_alone_are_what_lira_reads_of_logits_with_these_scores() -> None:
    rng = np.random.default_rng(3)
    member, z = paired(), rng.normal(size=(C, S, Q))
    labels = np.zeros(C, dtype=np.int64)
    two = np.stack([z, np.zeros_like(z)], axis=3).astype(np.float32)  # hinge is z itself
    alone = brought.of_arrays(member, scores=two[..., 0].astype(np.float64)).evidence
    logits = Evidence(two, member, labels, labels, design="paired")
    found, expected = lira(alone), lira(logits, scores=["hinge"])
    assert list(found) == ["all/given", "view0/given"]
    for mine, theirs in zip(found.values(), expected.values(), strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-5)


@pytest.mark.parametrize("attack", ["lira", "lira_parent", "threshold"])
def test_every_attack_on_scores_says_dash_where_logits_would_tell(attack: str) -> None:
    report = elsewhere.audit_models(**scores(), attack=attack)
    assert report["answers"] is None
    assert report["auc"] > 0.7


def test_a_csv_reads_as_the_array_of_the_same_scores(tmp_path: Path) -> None:
    given = scores()
    rows = [(f"x{c}", s, int(given["member"][c, s]), given["scores"][c, s])
            for c in range(C) for s in range(S)]  # fmt: skip
    file = tmp_path / "mine.csv"
    with file.open("w", newline="") as stream:
        csv.writer(stream).writerows([rows_of.COLUMNS, *np.random.default_rng(0).permutation(rows)])
    found, names, _ = brought.read(file)
    assert names is not None
    order = [int(name[1:]) for name in names]
    assert found.given is not None
    np.testing.assert_array_equal(found.given[:, :, 0], given["scores"][order])
    np.testing.assert_array_equal(found.member, given["member"][order])
    assert found.design == "paired"  # models are in the order of their numbers


def test_no_torch_is_imported(tmp_path: Path) -> None:
    np.savez(tmp_path / "mine.npz", **scores())
    code = (
        "import sys; from synpriv.audit import audit; "
        "audit.audit.__kwdefaults__.update(null_rounds=20, bootstrap_rounds=50); "
        "from synpriv.audit.__main__ import main; "
        f"assert main([{str(tmp_path / 'mine.npz')!r}]) == 0; "
        "assert not {'torch', 'pytorch_lightning', 'sklearn', 'wandb'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, capture_output=True)


def test_the_same_audit_is_not_made_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = elsewhere.audit_models(**scores(), out=tmp_path / "a")
    with monkeypatch.context() as patch:
        patch.setattr(elsewhere.audit, "audit", None)
        assert elsewhere.audit_models(**scores(), out=tmp_path / "a") == first
        with pytest.raises(TypeError):
            elsewhere.audit_models(**scores(), out=tmp_path / "a", delta=1e-5)


def test_the_attacks_options_are_those_of_the_yamls() -> None:
    for name in elsewhere.ATTACKS:
        written = yaml.safe_load((ROOT / "conf" / "attack" / f"{name}.yaml").read_text())
        assert elsewhere._options(name, {}) == written


def rows(num_canaries: int, num_models: int, num_in: int) -> NDArray[np.bool_]:
    base = np.arange(num_models) < num_in
    return np.random.default_rng(2).permuted(np.tile(base, (num_canaries, 1)), axis=1)


def test_the_design_is_what_the_rows_say() -> None:
    assert design_of(paired(40, 10)).name == "paired"
    assert design_of(rows(40, 10, 5)).name == "balanced"
    assert design_of(rows(200, 10, 2)).name == "balanced"  # shuffled rows: whatever the share
    coins = np.random.default_rng(4).random((200, 10)) < 0.5
    assert design_of(coins).name == "bernoulli"
    assert design_of(rows(40, 9, 4)).name == "bernoulli"
    assert design_of(paired(40, 10), "balanced").name == "balanced"


@pytest.mark.parametrize(
    ("member", "design", "words"),
    [
        (rows(40, 10, 5), "paired", "models 0, 1, 2, 3, 4 and 5 more have no partner"),
        (paired(40, 10)[:, :9], "paired", "model . has no partner"),
        (rows(40, 10, 5), "bernoulli", "IN exactly half of the models: must be balanced"),
        (rows(400, 10, 2), "bernoulli", "IN 20% of the models: must be balanced"),
        (rows(40, 10, 5), "fair", "design=fair: must be one of paired, balanced, bernoulli"),
    ],
)
def test_a_design_that_the_bits_refute_is_refused(
    member: NDArray[np.bool_], design: str, words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        design_of(member, design)


def uneven() -> NDArray[np.bool_]:
    member = np.random.default_rng(5).random((C, S)) < 0.5
    member[:, 0], member[:, 1], member[:, 2] = True, False, True
    return member


def put(array: NDArray, place: tuple[int, ...], value: float) -> NDArray:
    other = array.copy()
    other[place] = value
    return other


BAD = [
    (arrays(member=np.ones((C, S), bool)), "30 of 30 canaries are IN every model"),
    (arrays(member=put(paired(), (7,), False)), "1 of 30 canaries are IN no model .rows 7."),
    (arrays(member=uneven()), "model . holds .* of 30 canaries, a fair draw about"),
    (arrays(member=2 * paired()), "member holds other numbers: must be 0 and 1"),
    (arrays(member=paired().T), r"logits .30, 8, 2, 4. and member .8, 30.: must be of the same"),
    (arrays(member=np.full((C, S), "in")), "member of type <U2: must be bool"),
    (
        arrays(logits=put(arrays()["logits"], (3, 4, 0, 1), np.nan)),
        "canary 3, model 4: must be",
    ),
    (
        arrays(logits=1e300 * arrays()["logits"].astype(float)),
        "logits up to .*e.300: must be within",
    ),
    (scores(scores=1e300 * scores()["scores"]), "scores up to .*e.300: must be within 1e.100"),
    (arrays(logits=arrays()["logits"].astype("U9")), "logits of type <U9: must be numbers"),
    (arrays(logits=arrays()["logits"][:, :, 0, 0]), r"logits .30, 8.: must be .C,S,Q,K. or"),
    (arrays(logits=np.full((C, S, Q, K), 0.25)), "logits are probabilities"),
    (arrays(logits=arrays()["logits"][..., :1], labels=np.zeros(C, int)), "two or more classes"),
    (arrays(labels=None), "labels of the logits are missing"),
    (arrays(labels=np.arange(C)), "labels 0..29: must be 0..3"),
    (arrays(labels=arrays()["labels"] - 1), "labels -1..2: must be 0..3"),
    (arrays(labels=arrays()["labels"] / 2), "labels of type float64: must be integers"),
    (arrays(labels=arrays()["labels"][1:]), r"labels .29,.: must be .30,., one per canary"),
    (arrays(true_labels=np.arange(C)), "true_labels 0..29: must be 0..3"),
    (scores(scores=put(scores()["scores"], (0, 1), np.inf)), "first of canary 0, model 1"),
    (scores(scores=scores()["scores"][:, :, None, None]), r"scores .*: must be .C,S,Q. or .C,S."),
    (scores(labels=np.zeros(C - 1, int)), "labels .29,.: must be .30,., one per canary"),
    (scores(nearest=-scores()["member"].astype(float)), "nearest down to -1.0: must be 0 or more"),
    ({**arrays(), **scores()}, "logits and scores: must be one of the two"),
    (scores(design=np.array("fair")), "design=fair: must be one of"),
    (scores(member=None), "has no member; it must hold logits or scores, and member"),
    (scores(scores=None), "has no logits or scores"),
    (scores(lables=np.zeros(C)), "nothing reads lables; it may hold logits"),
    (scores(member=paired().astype(object)), "member.npy holds Python objects"),
    (scores(member=paired()[:, :4], scores=scores()["scores"][:, :4]), "train more"),
]


@pytest.mark.parametrize(("given", "words"), BAD, ids=[words[:30] for _, words in BAD])
def test_what_is_no_evidence_is_one_line_and_writes_nothing(
    given: Arrays, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.savez(tmp_path / "mine.npz", **given)
    assert command.main([str(tmp_path / "mine.npz"), "--out", str(tmp_path / "out")]) == 1
    line = capsys.readouterr().err
    assert line.startswith("error: ")
    assert line.count("\n") == 1
    with pytest.raises(ValueError, match=words):
        raise ValueError(line)
    assert not (tmp_path / "out").exists()


HEAD = "canary,model,member,score\n"
ROWS = [
    ("", "columns none"),
    (
        "canary,model,score\n",
        "columns canary, model, score: must be canary, model, member, score, ",
    ),
    (HEAD, "no rows: must be one per canary and model"),
    (HEAD + "a,0,1,0.5\na,1,0,0.5\nb,0,1,0.2\n", "1 of 2 x 2 pairs have no score, .* b, model 1"),
    (HEAD + "a,0,1,0.5\na,0,1,0.5\n", "line 3: canary a, model 0 is there twice"),
    (HEAD + "a,0,maybe,0.5\n", "line 2: member='maybe': must be 0 or 1"),
    (HEAD + "a,0,1,nan\n", "line 2: score='nan': must be a finite number"),
    (HEAD + "a,0,1\n", "line 2: must have 4 values"),
    (HEAD + "a,0,1,2,3\n", "line 2: must have 4 values"),
]


@pytest.mark.parametrize(("text", "words"), ROWS)
def test_a_bad_csv_names_its_line(text: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "mine.csv").write_text(text)
    with pytest.raises(ValueError, match=words):
        brought.read(tmp_path / "mine.csv")


def test_files_that_are_none_are_named(tmp_path: Path) -> None:
    (tmp_path / "a.npz").write_bytes(b"PK\x03\x04 no archive")
    np.save(tmp_path / "b.npy", np.zeros(3))
    for name, words in (("a.npz", "not a readable npz"), ("b.npy", "it is a single array")):
        with pytest.raises(ValueError, match=words):
            brought.read(tmp_path / name)
    for name, words in ((".", "is a folder"), ("c.npz", "no such file")):
        with pytest.raises(ValueError, match=words):
            brought.read(tmp_path / name)
