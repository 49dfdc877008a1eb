"""Names of audits: equal exactly if the audits are, as short as that allows."""

import hashlib
import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from synpriv.results.names import distinct_methods, distinct_names, flat

Report = dict


def report(settings: dict, *, attack: str = "lira", options: dict | None = None) -> Report:
    """As `pipeline` writes it: the cell's name ends in a hash of its settings."""
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:8]
    return {
        "cell": f"undefended-digits-clean-{digest}",
        "method": "undefended",
        "dataset": "digits",
        "canary": "clean",
        "attack": attack,
        "attack_options": {"name": attack, "_target_": "x", **(options or {})},
        "settings": settings,
    }


KEYS = (
    *("num_models", "audit_seed", "method.lr", "method.num_epochs", "method.student.num_epochs"),
    *("model.width", "dataset.sha256"),
)
values = st.none() | st.integers(0, 2) | st.sampled_from(["0", "a" * 40, "a" * 39 + "b", [1, 2]])
cells = st.dictionaries(st.sampled_from(KEYS), values, max_size=len(KEYS))


@given(st.lists(st.tuples(cells, st.sampled_from(["lira", "threshold"])), min_size=1, max_size=8))
def test_names_are_equal_exactly_if_cell_and_attack_are(drawn: list[tuple[dict, str]]) -> None:
    reports = [report(settings, attack=attack) for settings, attack in drawn]
    names = distinct_names(reports)
    for one, other in itertools.combinations(range(len(reports)), 2):
        same = all(reports[one][key] == reports[other][key] for key in ("cell", "attack"))
        assert (names[one] == names[other]) == same, names
    assert all(name.count("=") <= 3 for name in names)
    assert max(map(len, names)) < 200


def test_a_report_without_a_twin_is_named_by_its_method_alone() -> None:
    reports = [report({"method.lr": 1}), report({"method.lr": 2}, attack="threshold")]
    assert distinct_methods(reports) == ["undefended", "undefended"]
    assert distinct_names(reports) == [
        "undefended, digits, clean, lira",
        "undefended, digits, clean, threshold",
    ]


def test_one_setting_is_preferred_to_two_and_a_shallow_one_to_its_copies() -> None:
    reports = [
        report({"method.lr": lr, "method.student.lr": lr, "num_models": n, "model.width": width})
        for lr, n, width in ((1, 6, 4), (2, 6, 4), (3, 8, 4))
    ]
    assert distinct_methods(reports) == [f"undefended method.lr={lr}" for lr in (1, 2, 3)]


def test_a_grid_shows_both_its_axes_and_not_what_all_share() -> None:
    grid = itertools.product((3, 10), (0.1, 0.5))
    reports = [
        report({"method.num_epochs": epochs, "method.lr": lr, "model.width": 4})
        for epochs, lr in grid
    ]
    assert distinct_methods(reports) == [
        f"undefended num_epochs={epochs} lr={lr}"
        for epochs, lr in itertools.product((3, 10), (0.1, 0.5))
    ]


@pytest.mark.parametrize("num", [4, 50])
def test_more_than_three_settings_end_in_the_hash(num: int) -> None:
    keys = [f"method.k{i}" for i in range(num)]
    reports = [report({key: int(key == special) for key in keys}) for special in [*keys, "none"]]
    names = distinct_methods(reports)
    assert len(set(names)) == num + 1
    hashed = [r["cell"][-8:] for r in reports if r["cell"][-8:] in " ".join(names)]
    assert len(hashed) == num + 1 - 3  # three settings tell three cells apart, the rest are alike


def test_an_option_of_the_attack_tells_cells_apart_where_no_setting_is_known() -> None:
    reports = [
        report({}, options={"score": score}) | {"cell": f"undefended-digits-clean-{score}"}
        for score in ("hinge", "logit")
    ]
    assert distinct_methods(reports) == ["undefended score=hinge", "undefended score=logit"]


def test_flat_keys_are_dotted_and_an_empty_node_is_kept() -> None:
    node = {"a": {"b": {"c": 1}, "d": []}, "e": {}, "f": None}
    assert flat(node) == {"a.b.c": 1, "a.d": [], "e": {}, "f": None}


def test_a_network_is_named_as_it_is_chosen_and_not_by_its_code() -> None:
    networks = ("vit_digits", "resnet18_digits")
    own = [report({"model._target_": name[:3], "model.name": name}) for name in networks]
    assert distinct_methods(own) == [f"undefended name={name}" for name in networks]
