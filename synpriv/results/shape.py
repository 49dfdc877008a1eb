"""The shape of a report: what is checked of one that is read."""

from __future__ import annotations

from typing import Annotated, Any, NotRequired

from annotated_types import Ge, Len
from typing_extensions import TypedDict  # typing's own is too old for pydantic

Count = Annotated[int, Ge(1)]
Band = Annotated[list[float], Len(2, 2)]


class Moments(TypedDict):
    """Over shadow models."""

    mean: float
    sd: float


class Measured(Moments):
    """The same with its standard error and the number of shadow models."""

    se: float
    n: int


class Accuracy(TypedDict):
    """What the trained method is good for, and what runs measured it."""

    mean: float
    se: float
    half: float  # of the 95% interval
    n: int
    source: str  # clean canaries | audited models
    wrong_labels: float  # share of wrong labels in the audited models' private set


Sides = TypedDict("Sides", {"in": float, "out": float})  # shares of members and of non-members


class Answers(TypedDict):
    """To how many canaries the models give a label of theirs."""

    trained_label: Sides
    true_label: Sides


class Nearness(TypedDict):
    """Pairs nearer to the release than in every model without the canary."""

    nearer: int
    pairs: Count
    chance: float
    p: float
    above_chance: bool


class Quality(TypedDict):
    """Of released images against held-out ones, and of as many private images."""

    fid: float
    precision: float
    recall: float
    private_fid: float
    private_precision: float
    private_recall: float


class Rate(TypedDict):
    """A true positive rate, its interval, and what chance gives."""

    tpr: float
    low: float
    high: float
    fpr: float
    expected_fpr: float  # of the point that is read, over repeated audits
    p: float
    null_band: Band
    above_chance: bool
    resolvable: bool


class Groups(TypedDict):
    """Images of the canary groups."""

    images: Count
    smallest: Count
    largest: Count


class OfData(TypedDict):
    """Groups of the private set, and images in the smallest and the largest."""

    num: Count
    smallest: Count
    largest: Count


class Source(TypedDict):
    """Where the canaries come from, see `synpriv.data.chosen.source_of`."""

    of: str
    rows: list[int]
    files: NotRequired[list[str]]
    groups: NotRequired[list[str]]
    group: NotRequired[list[int]]


class Data(TypedDict):
    """What was seen of the data."""

    in_words: str
    sha256: str
    num_private: Count | None
    groups: NotRequired[OfData | None]


class Heading(TypedDict):
    """What was asked of an audit."""

    cell: str
    method: str
    dataset: str
    canary: str
    membership: str  # how it was drawn: paired, balanced or bernoulli
    attack: str
    attack_options: dict[str, Any]
    tuning: dict[str, Any]
    settings: dict[str, Any]
    seeds: list[int]
    accuracy_cell: str | None  # of the clean-canary runs, where they measure the accuracy
    accuracy_seeds: list[int]
    num_planned: int  # shadow models that were to be audited, the first ones of the cell
    pictures_told: NotRequired[bool | None]  # `logger.pictures` of the sweep, for later mirrors
    evidence_file: NotRequired[str]  # of models trained elsewhere; there is no cell then


Rates = TypedDict("Rates", {"tpr@fpr=0.001": Rate, "tpr@fpr=0.01": Rate, "tpr@fpr=0.1": Rate})


class Shape(Rates, Heading):
    """What every report holds that tables and figures read; a proven guarantee may be beside it.

    None is what is not known of models that were trained elsewhere.
    """

    partial: bool
    inputs_sha256: str
    num_canaries: Count
    num_models: Count
    n_in: Count
    n_out: Count
    canaries_sha256: str
    canary_source: NotRequired[Source]
    groups: NotRequired[Groups]
    most_exposed: NotRequired[list[list[float]]]
    most_exposed_null: NotRequired[float | None]
    auc: float
    auc_low: float
    auc_high: float
    auc_p: float
    null_auc: float
    auc_null_band: Band
    null_rounds: Count
    variants: NotRequired[dict[str, dict[str, float]]]
    variants_chosen: NotRequired[dict[str, float]]
    answers: Answers | None
    nearness: NotRequired[Nearness]
    definitions: dict[str, str]
    balanced_accuracy: float
    epsilon_audited: float
    epsilon_audited_largest: float
    epsilon_gdp: NotRequired[float]
    epsilon_gdp_delta: NotRequired[float]
    epsilon_bound: NotRequired[float | None]
    epsilon_bound_none: NotRequired[str]
    epsilon_bound_largest: NotRequired[float]
    epsilon_bound_at_proven: NotRequired[float]
    test_accuracy: Measured | None
    accuracy: Accuracy | None
    train_s: Moments | None
    train_flops: NotRequired[Moments]
    peak_mb: NotRequired[Moments]
    canary_selection_rate: NotRequired[Moments]
    quality: NotRequired[Quality]
    admission: NotRequired[float]  # of the table it stands in, never on disk: accuracy asked for
    provenance: list[str]
    data: Data
    warnings: list[str]
    files: dict[str, str]
    epsilon: NotRequired[float | None]
    epsilon_tuned: NotRequired[float | None]
    epsilon_group: NotRequired[float | None]
    epsilon_at_most: NotRequired[bool]
