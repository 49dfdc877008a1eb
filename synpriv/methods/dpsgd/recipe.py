"""The recipe of DP-SGD."""

from __future__ import annotations

from dataclasses import dataclass

from synpriv.recipe import Facts, Recipe, check_momentum, check_padding
from synpriv.signatures import require

ACCOUNTANTS = ("prv", "rdp")
EXPECTED = "the expected number of private images"
BATCH_NORM = (
    "model.norm=batch: BatchNorm mixes the samples of a batch, so that no sample's "
    "influence is bounded; DP-SGD needs model.norm=group"
)

LEAST, MOST = 1e-3, 1e6  # of epsilon: beyond them no noise is found


@dataclass(frozen=True, kw_only=True)
class DPSGD(Recipe):
    """Options of `methods.dpsgd.dpsgd.DPSGD`.

    Exactly one of noise_multiplier and target_epsilon is given. num_views: augmented views K over
    which a sample's gradient is averaged before it is clipped. physical_batch_size: samples whose
    gradients are in memory at a time, K views each. ema_decay: at most; it warms up as
    (1+t)/(10+t).
    """

    makes = "synpriv.methods.dpsgd.dpsgd.DPSGD"
    promises_privacy = True
    releases_images = False

    num_epochs: int
    batch_size: int
    lr: float
    delta: float
    noise_multiplier: float | None = None
    target_epsilon: float | None = None
    max_grad_norm: float = 1.0
    num_views: int = 1
    physical_batch_size: int = 64
    momentum: float = 0.0
    weight_decay: float = 0.0
    ema_decay: float | None = 0.9999
    crop: bool = True
    padding: str = "zero"
    flip: bool = False
    accountant: str = "prv"

    def __post_init__(self) -> None:
        check_padding(self.padding)
        positive = ("num_epochs", "batch_size", "lr", "max_grad_norm", "num_views")
        for name in (*positive, "physical_batch_size"):
            value = getattr(self, name)
            require(value > 0, f"{name}={value}", "positive")
        require(0 < self.delta < 1, f"delta={self.delta}", f"above 0, below one over {EXPECTED}")
        accountant, views, decay = self.accountant, self.num_views, self.ema_decay
        require(accountant in ACCOUNTANTS, f"accountant={accountant}", " or ".join(ACCOUNTANTS))
        varied = views == 1 or self.crop or self.flip
        require(varied, f"num_views={views}", "1 without crop and flip: all views are the same")
        average = decay is None or 0 < decay < 1
        require(average, f"ema_decay={decay}", "between 0 and 1, or null")
        check_momentum(self.momentum, self.weight_decay)
        self._check_noise()

    def _check_noise(self) -> None:
        noise, epsilon = self.noise_multiplier, self.target_epsilon
        if (noise is None) == (epsilon is None):
            none = "both are null" if noise is None else f"{noise} and {epsilon}"
            raise ValueError(
                f"noise_multiplier, target_epsilon: {none}; exactly one decides, the other must be "
                "null: method.target_epsilon=null method.noise_multiplier=0.5, say"
            )
        require(noise is None or noise >= 0, f"noise_multiplier={noise}", "at least 0")
        require(epsilon is None or epsilon > 0, f"target_epsilon={epsilon}", "positive")
        within = epsilon is None or LEAST <= epsilon <= MOST
        require(within, f"target_epsilon={epsilon}", f"{LEAST:g} to {MOST:g}, or null")

    def needs(self) -> dict[str, tuple[str, ...]]:
        return {"model": ("sample_gradients",)}

    def check(self, facts: Facts) -> None:
        size = facts.expected_size
        fits = self.batch_size <= size
        require(fits, f"batch_size={self.batch_size}", f"at most {size}, {EXPECTED}")
        low = self.delta < 1 / size
        require(low, f"delta={self.delta}", f"above 0 and below 1/{size}, one over {EXPECTED}")
        if facts.norm == "batch":
            raise ValueError(BATCH_NORM)
