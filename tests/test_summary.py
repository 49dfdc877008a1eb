"""What a command ends with says where results lie."""

from pathlib import Path

import pytest
from conftest import Compose

from synpriv import summary


def test_a_relative_results_folder_is_named_in_full_once(
    compose: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    text = summary.summary([compose("seed=0"), compose("seed=1"), compose("canary=clean")])
    assert text.count("0 of 64 shadow models are there") == 2
    assert text.count("next: the same command") == 1  # for both cells
    assert text.splitlines()[-1] == f"multirun is {tmp_path / 'multirun'}"
    assert text.count(str(tmp_path)) == 1


def test_an_absolute_one_is_named_already(compose: Compose, tmp_path: Path) -> None:
    text = summary.summary([compose(f"results={tmp_path}")])
    assert f" is {tmp_path}" not in text
