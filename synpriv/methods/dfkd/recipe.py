"""The recipe of data-free distillation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

from synpriv.recipe import Facts, Recipe, check_padding
from synpriv.signatures import require

LOSSES = ("batch_norm", "one_hot", "adversarial", "balance")
NO_STATISTICS = (
    "dfkd needs a teacher with BatchNorm: model.norm=batch; where a network has none (norm=layer) "
    "another teacher: method.teacher.model=resnet18"
)
ZERO = ("warmup_rounds", "final_lr", "momentum", "weight_decay", "statistics_momentum")  # may be 0


@dataclass(frozen=True, kw_only=True)
class DFKD(Recipe):
    """Options of `methods.dfkd.fast.DFKD`.

    losses: weight of each term in `LOSSES`. statistics_momentum: share of past rounds in the
    statistics that are matched. cosine_rounds: rounds over which lr falls; null = all.
    """

    makes = "synpriv.methods.dfkd.fast.DFKD"
    parts = ("teacher",)

    num_rounds: int
    warmup_rounds: int
    codes_per_round: int
    losses: Mapping[str, float]
    code_size: int = 256
    width: int = 64
    synthesis_steps: int = 2
    generator_lr: float = 5e-3
    code_lr: float = 0.015
    betas: Sequence[float] = (0.5, 0.999)
    statistics_momentum: float = 0.9
    passes_per_round: int = 5
    batch_size: int = 256
    temperature: float = 20.0
    lr: float = 0.1
    final_lr: float = 2e-4
    cosine_rounds: int | None = None
    momentum: float = 0.9
    weight_decay: float = 5e-4
    crop: bool = True
    padding: str = "zero"
    flip: bool = False

    def __post_init__(self) -> None:
        check_padding(self.padding)
        given = {field.name: getattr(self, field.name) for field in fields(self)}
        for name, value in given.items():
            if type(value) in (int, float):
                least = "at least 0" if name in ZERO else "positive"
                require(value > 0 or (value == 0 and name in ZERO), f"{name}={value}", least)
        rounds, betas, past = self.num_rounds, self.betas, self.statistics_momentum
        require(self.codes_per_round > 1, f"codes_per_round={self.codes_per_round}", "at least 2")
        waits = self.warmup_rounds < rounds
        require(waits, f"warmup_rounds={self.warmup_rounds}", f"below num_rounds={rounds}")
        require(past < 1, f"statistics_momentum={past}", "below 1")
        two = len(betas) == 2 and all(0 <= beta < 1 for beta in betas)
        require(two, f"betas={betas}", "two numbers, 0 <= . < 1")
        self._check_losses()

    def _check_losses(self) -> None:
        for name, weight in self.losses.items():
            if name not in LOSSES:
                raise ValueError(f"losses.{name}: no such term; there are {', '.join(LOSSES)}")
            fits = isinstance(weight, int | float) and weight >= 0
            require(fits, f"losses.{name}={weight}", "a number of at least 0")
        some = any(self.losses.values())
        require(some, f"losses={dict(self.losses)}", "positive for at least one term")

    def needs(self) -> dict[str, tuple[str, ...]]:
        return {"teacher": ("batch_norm",)}

    def check(self, facts: Facts) -> None:
        if facts.teacher_norm not in ("batch", "unknown"):  # of somebody's own network: see `needs`
            raise ValueError(NO_STATISTICS)
