"""The example of docs/audit_your_models.md runs, and finds the leak that is in it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

DOC = Path(__file__).parents[1] / "docs" / "audit_your_models.md"


@pytest.mark.usefixtures("few_rounds")
def test_the_example_runs_as_it_is_written(capsys: pytest.CaptureFixture[str]) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", DOC.read_text(), re.DOTALL)
    names: dict[str, Any] = {}
    exec(code, names)
    report = names["report"]
    assert report["membership"] == "paired"
    assert report["tpr@fpr=0.01"]["resolvable"]
    assert report["auc"] > 0.6
    assert report["answers"]["true_label"]["out"] > 0.8
    assert capsys.readouterr().out.startswith("TPR at 1% FPR 0.")
