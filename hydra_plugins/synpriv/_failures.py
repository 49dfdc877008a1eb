"""What a sweep says of jobs that failed."""

from __future__ import annotations

from collections.abc import Sequence

from hydra.core.utils import JobReturn

from hydra_plugins.synpriv import _worker
from synpriv import cli

REASONS = 8  # that are printed


def in_short(failed: Sequence[JobReturn], total: int) -> str:
    """The line that a sweep ends with."""
    left_out = sum(isinstance(one._return_value, _worker.NotRun) for one in failed)
    bad = len(failed) - left_out
    jobs = f"{bad} of {total} jobs failed" if total else f"{bad} audits failed"
    stopped = f", {left_out} were not run (hydra.launcher.fail_fast=true)" if left_out else ""
    return f"{jobs}{stopped}, see above; once the cause is mended the same command runs only them"


def listed(failed: Sequence[JobReturn]) -> str:
    """Failed jobs, those with the same reason in one line."""
    by_reason: dict[str, list[str]] = {}
    jobs = [list(result.overrides or []) for result in failed]
    common = set(jobs[0]).intersection(*jobs[1:]) if len(jobs) > 1 else set()
    for result, words in zip(failed, jobs, strict=True):
        reason = cli.one_line(result._return_value)
        own = " ".join(word for word in words if word not in common)
        by_reason.setdefault(reason, []).append(own)
    lines = [f"FAILED {len(jobs)} x {why}\n  {_some(jobs)}" for why, jobs in by_reason.items()]
    if len(lines) > REASONS:
        rest = len(lines) - REASONS
        lines[REASONS:] = [f"and {rest} more reasons, which python -m synpriv.status names"]
    return "\n".join(lines)


def _some(jobs: Sequence[str], num: int = 6) -> str:
    more = f"  (+{len(jobs) - num} more)" if len(jobs) > num else ""
    return " | ".join(jobs[:num]) + more
