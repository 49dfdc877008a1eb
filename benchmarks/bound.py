"""The valid bound on epsilon over audit seeds: never above what is proven, high where all leaks.

Trains one cell of the digits per method and audit seed (7 s a model of dpsgd_eps8 on one core, a
second of undefended) and audits it; finished runs are not trained again.
Usage: python -m benchmarks.bound RESULTS [--methods undefended,dpsgd_eps8] [--audit-seeds 20]
       [--models 8] [overrides of run.py, such as canary.num_canaries=250]
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path
from statistics import mean
from typing import Any

from synpriv.results import reports


def sweep(results: Path, methods: str, num_seeds: int, num_models: int, extra: list[str]) -> None:
    """Train and audit one cell per method and audit seed."""
    audit_seeds = ",".join(map(str, range(num_seeds)))
    command = [sys.executable, "run.py", f"method={methods}", f"audit_seed={audit_seeds}"]
    command += [f"num_models={num_models}", "logger=none", f"results={results}", *extra]
    subprocess.run([*command, "-m", f"seed=0..{num_models - 1}"], check=True)


def read(results: Path, methods: list[str], num_seeds: int, num_models: int) -> dict[str, Any]:
    """The reports of each method that the sweep made, by audit seed."""
    found: dict[str, Any] = {method: {} for method in methods}
    for file in sorted(results.glob("*/lira.json")):
        report = reports.read(file)
        if report is None:
            raise ValueError(f"{file}: {reports.problem(file)}")
        seed = report["settings"]["audit_seed"]
        if report["method"] in found and seed < num_seeds and report["num_models"] == num_models:
            found[report["method"]][seed] = report
    return found


def show(method: str, found: dict[int, Any]) -> None:
    """One line per audit seed, then how often the bound is above what is proven."""
    print(
        f"{method}: audit seed, bound (largest, at the proven epsilon), right of guesses of bits,"
    )
    print("  bits, estimate, GDP reading, TPR@1%")
    for seed, report in sorted(found.items()):
        if report["epsilon_bound"] is None:
            raise ValueError(f"audit seed {seed}: {report['epsilon_bound_none']}")
        counts = report["epsilon_bound_counts"]
        proven = report.get("epsilon_bound_at_proven")
        print(
            f"  {seed:3d}  {report['epsilon_bound']:.2f} ({report['epsilon_bound_largest']:.2f}, "
            f"{'-' if proven is None else f'{proven:.2f}'})  "
            f"{counts['right']} of {counts['guesses']} of {counts['bits']}  "
            f"{report['epsilon_audited']:.2f}  {report['epsilon_gdp']:.2f}  "
            f"{report['tpr@fpr=0.01']['tpr']:.3f}"
        )
    read = [report["epsilon_bound"] for report in found.values()]
    above = sum(r["epsilon_bound"] > (r.get("epsilon") or float("inf")) for r in found.values())
    print(
        f"  n={len(read)}: mean {mean(read):.2f}, smallest {min(read):.2f}, largest "
        f"{max(read):.2f}; {above} above the proven epsilon, "
        f"{sum(value > 0 for value in read)} above 0"
    )


def main() -> None:
    """Print the bounds of each method."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("results", type=Path)
    parser.add_argument("--methods", default="undefended,dpsgd_eps8")
    parser.add_argument("--audit-seeds", type=int, default=20)
    parser.add_argument("--models", type=int, default=8)
    given, extra = parser.parse_known_args()
    sweep(given.results, given.methods, given.audit_seeds, given.models, extra)
    methods = given.methods.split(",")
    for method, found in read(given.results, methods, given.audit_seeds, given.models).items():
        show(method, found)


if __name__ == "__main__":
    main()
