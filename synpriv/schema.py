"""The types of conf/config.yaml and of the groups whose options are fixed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING


@dataclass
class Canary:
    """Samples that are IN or OUT."""

    kind: str = MISSING
    num_canaries: int = MISSING
    membership: str = "paired"
    path: str | None = None
    sha256: str | None = None
    indices: list[int] | None = None


@dataclass
class Trainer:
    """Hardware and precision, never a schedule."""

    accelerator: str = "auto"
    precision: str = "32-true"
    channels_last: bool = False
    step: str = "eager"
    cudnn_benchmark: bool = False
    num_threads: int = 1
    checkpoint_minutes: float | None = 5


@dataclass
class Logger:
    """Where runs and audits are mirrored."""

    name: str = MISSING
    project: str = "synpriv"
    entity: str | None = None
    per_seed: bool = True
    pictures: bool | None = None


@dataclass
class Tuning:
    """Trainings on the private set before this one; counted in the epsilon of a DP cell."""

    num_trials: float = 1
    distribution: str = "fixed"


@dataclass
class Objective:
    """What a hyper-parameter search is after: synpriv/objective.py."""

    maximise: str = "accuracy"
    subject_to: str | None = "tpr@fpr=0.01 <= 0.05"


@dataclass
class Config:
    """conf/config.yaml, typed."""

    seed: int = 0
    num_models: int = 64
    audit_seed: int = 0
    accuracy_models: int = 4
    partial: bool = False
    keep_release: bool = True
    results: str = "multirun"
    reports: str | None = None
    verify: bool = False
    repair: bool = False
    objective: Objective = field(default_factory=Objective)
    study: str | None = None
    admission: float | None = None
    check: bool = False
    cell: str = MISSING
    dataset: Any = MISSING
    public: Any = None
    model: Any = MISSING
    scale: Any = None
    canary: Canary = field(default_factory=Canary)
    method: Any = MISSING
    attack: Any = MISSING
    tuning: Tuning = field(default_factory=Tuning)
    trainer: Trainer = field(default_factory=Trainer)
    logger: Logger = field(default_factory=Logger)
