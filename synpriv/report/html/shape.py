"""What the page shows, as plain data: everything that a script or a reader can check.

Every number is that of the reports; nothing is computed in the browser but what a slider asks for.
"""

from __future__ import annotations

from typing import Any, Literal, TypedDict

Kind = Literal["leak", "none", "unresolved"]
Numbers = list[float]


class Verdict(TypedDict):
    """What one audit says, in words; `kind` decides its colour, which no AUC does."""

    kind: Kind
    words: str  # evidence of a leak | no evidence at this FPR | not resolvable with these ...
    sentence: str  # scoped by threat model, canaries, data, attack, with figure and interval
    reasons: list[str]


class Beside(TypedDict):
    """A number with its interval and what it has to be read against."""

    value: float | None
    low: float | None
    high: float | None
    in_words: str  # as the table of the terminal writes it, marks included
    reference: str  # what it stands beside, in words: the chance band, the undefended accuracy, ...
    reference_low: float | None
    reference_high: float | None


class Point(TypedDict):
    """Where a cell lies in the figure of privacy against accuracy."""

    panel: str  # key of the rate, or auc
    x: float
    x_half: float
    y: float
    y_low: float
    y_high: float
    above_chance: bool


class Scores(TypedDict):
    """Histograms of the statistic, and what each threshold would accuse."""

    edges: Numbers  # B + 1
    members: list[int]  # B
    non_members: list[int]  # B
    thresholds: Numbers  # T, falling, thinned; score >= threshold is accused
    true_positives: list[int]  # T
    false_positives: list[int]  # T


class Curve(TypedDict):
    """The ROC, thinned to what a picture can show."""

    fpr: Numbers
    tpr: Numbers
    resolved_from: float  # 10 / n_out: left of it a curve is mostly noise


class Nearest(TypedDict):
    """The released image that comes nearest to a canary."""

    picture: str  # key of View.pictures
    seed: int
    distance: float
    as_near: int  # models without the canary whose release is as near
    out: int  # of so many
    chance: float  # of canaries that are learnt nothing of, the share with so few or fewer


class Canary(TypedDict):
    """One of the most exposed canaries."""

    canary: int
    place: str | None  # row, file or group in the data as read
    trained_label: str
    true_label: str
    effect: float  # in sd
    found: float | None  # share of the models with it in which it is accused at an FPR of 1%
    accused: float | None  # share of the models without it
    picture: str | None  # key of View.pictures
    no_picture: str | None  # why there is none
    nearest: Nearest | None
    no_nearest: str | None


class AllCanaries(TypedDict):
    """Of every canary, for the csv that the page exports; columns of equal length C."""

    canary: list[int]
    place: list[str | None]
    trained_label: list[str]
    true_label: list[str]
    effect: list[float | None]  # None: too few models on a side
    found: list[float | None]
    accused: list[float | None]


class StageCost(TypedDict):
    """Mean over shadow models."""

    stage: str
    wall_s: float
    cpu_s: float
    peak_mb: float
    rise_mb: float | None  # above what was held before
    flops: float | None


class Cell(TypedDict):
    """One audit: a cell under one attack."""

    id: str  # c0, c1, ... in the order of the table
    name: str  # tells it apart: names.distinct_names
    short: str  # names.distinct_methods
    cell: str
    method: str
    paradigm: str  # decides colour and marker
    dataset: str
    canary: str
    attack: str
    membership: str
    partial: bool
    threat_model: str  # what the attacker sees and knows, in words
    verdict: Verdict
    plain: str  # what was found, for whoever does not speak of rates
    comparable: str  # cells of one value can stand in one figure
    dominated_by: list[str]  # ids: at least as accurate and less leaky, one of both beyond doubt
    dominated_at: str  # what less leaky is judged by, in words
    accuracy: Beside
    random_subset: str | None  # accuracy of a coreset of as many random images, in words
    rates: dict[str, Beside]  # tpr@fpr=0.001, tpr@fpr=0.01, tpr@fpr=0.1
    auc: Beside
    epsilon_proven: str  # as the table writes it
    epsilon_bound: Beside  # audited: a valid lower bound, beside what is proven
    nearness: Beside | None  # pairs nearer than in every OUT model, beside chance
    nearness_in_words: str | None  # what all pairs say together, which no single one does
    quality: str | None
    train_s: float | None
    train_flops: float | None
    stages: list[StageCost]
    points: list[Point]
    roc: Curve
    scores: Scores
    n_in: int
    n_out: int
    num_models: int
    num_canaries: int
    most_exposed_null: float | None  # up to which the largest effect goes by chance
    canaries: list[Canary]
    all_canaries: AllCanaries
    settings: dict[str, Any]  # dotted keys
    provenance: list[str]
    about: list[str]  # networks, data, guarantee: lines in words
    warnings: list[str]


class Release(TypedDict):
    """One way of training on one data set, all its audits together, in words for a decision."""

    name: str
    baseline: bool  # undefended: no release, but what releases are compared with
    kind: Kind  # the worst of its audits
    words: str  # of that verdict
    cells: list[str]  # ids of its audits, the one that decides first
    found: str
    advice: str
    audits: str  # which attack decides and what others say; empty where there is one audit
    partial: bool


class Heat(TypedDict):
    """Exposure of the same canaries under several audits: effect sizes [rows, columns]."""

    title: str
    rows: list[str]  # names of the audits
    columns: list[int]  # canaries, the most exposed first
    values: list[list[float | None]]
    chance: list[float | None]  # of each row, up to which the largest effect goes by chance


class Missing(TypedDict):
    """What is there but cannot be shown, and why."""

    name: str
    why: str


class View(TypedDict):
    """The whole page."""

    title: str
    version: str
    family: str  # what the marks are corrected over
    marks: dict[str, str]
    legend: list[str]
    releases: list[Release]  # the worst first, what is undefended last
    cells: list[Cell]
    heat: list[Heat]
    missing: list[Missing]
    pictures: dict[str, str]  # data:image/png;base64,... each once
    definitions: dict[str, str]
