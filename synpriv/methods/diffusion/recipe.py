"""The recipes of diffusion and of the pre-training that it may start from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from synpriv.recipe import Facts, Recipe, check_padding
from synpriv.signatures import require

TIMES = 1000  # noise levels in training
HEAD = 8  # channels of an attention head
PREDICTIONS = ("v_prediction", "epsilon")
SAMPLERS = {"ddim": TIMES, "dpm_solver": 100}  # and the most steps they take


@dataclass(frozen=True, kw_only=True)
class DenoiserTraining(Recipe):
    """How a denoiser is trained: AdamW on the denoising loss, a moving average of the weights.

    The learning rate warms up linearly and falls along a half cosine. The average's decay warms up
    as (1+t)/(10+t). patch_size: to the UNet, squares of p x p pixels are one of p^2 channels.
    channels: of the UNet, one level each; levels halve the images. attention: the levels (0 = the
    largest) with self-attention; the last one's is also at the bottom of the UNet. null_rate: how
    often the label is hidden. max_grad_norm: of all gradients together, null = any.
    """

    channels: Sequence[int]
    layers_per_block: int
    prediction: str
    num_iterations: int
    batch_size: int
    lr: float
    warmup_iterations: int
    ema_decay: float
    null_rate: float
    patch_size: int = 1
    attention: Sequence[int] = ()
    dropout: float = 0.0
    weight_decay: float = 0.0
    max_grad_norm: float | None = None
    crop: bool = False
    padding: str = "zero"
    flip: bool = False

    def __post_init__(self) -> None:
        check_padding(self.padding)
        channels, prediction = self.channels, self.prediction
        even = len(channels) > 0 and all(c > 0 and c % 2 == 0 for c in channels)
        require(even, f"channels={[*channels]}", "even, > 0")
        layers = self.layers_per_block
        require(layers >= 1, f"layers_per_block={layers}", "at least 1")
        require(self.patch_size >= 1, f"patch_size={self.patch_size}", "at least 1")
        known = prediction in PREDICTIONS
        require(known, f"prediction={prediction}", " or ".join(PREDICTIONS))
        for name in ("num_iterations", "batch_size", "lr"):
            value = getattr(self, name)
            require(value > 0, f"{name}={value}", "positive")
        warmup = self.warmup_iterations
        require(warmup >= 0, f"warmup_iterations={warmup}", "at least 0")
        for name in ("ema_decay", "null_rate", "dropout"):
            value = getattr(self, name)
            require(0 <= value < 1, f"{name}={value}", "0 <= . < 1")
        decay, norm = self.weight_decay, self.max_grad_norm
        require(decay >= 0, f"weight_decay={decay}", "at least 0")
        require(norm is None or norm > 0, f"max_grad_norm={norm}", "positive, or null")
        self._check_attention()

    def _check_attention(self) -> None:
        levels, attention = len(self.channels), list(self.attention)
        known = len(set(attention)) == len(attention) and set(attention) <= set(range(levels))
        require(
            known, f"attention={attention}", f"levels of `channels`, 0..{levels - 1}, each once"
        )
        for level in attention:
            channels = self.channels[level]
            given = f"attention={attention}: level {level} has channels={channels}"
            require(channels % HEAD == 0, given, f"a multiple of {HEAD}")

    def check(self, facts: Facts) -> None:
        size, patch = facts.image_shape[1:], self.patch_size
        factor = patch * 2 ** (len(self.channels) - 1)
        fits = not any(side % factor for side in size)
        patched = f", patch_size={patch}" if patch > 1 else ""
        given = f"channels={[*self.channels]}{patched}: images of {size}"
        fewer = "fewer levels or a smaller patch" if patched else "fewer levels"
        require(fits, given, f"divisible by {factor}, or use {fewer}")


@dataclass(frozen=True, kw_only=True)
class Diffusion(DenoiserTraining):
    """Options of `methods.diffusion.ddpm.Diffusion`.

    guidance: weight of the label's prediction against no label's; 1 = none.
    num_generated: null = the expected size of the private set.
    """

    makes = "synpriv.methods.diffusion.ddpm.Diffusion"
    parts = ("public_model", "student")

    sampler: str
    num_inference_steps: int
    guidance: float
    num_generated: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_sampler(self.sampler, self.num_inference_steps)
        require(self.guidance >= 0, f"guidance={self.guidance}", "at least 0")
        learnt = self.guidance == 1 or self.null_rate > 0
        require(learnt, f"guidance={self.guidance}", "1 with null_rate=0: no null class is learnt")

    def check(self, facts: Facts) -> None:
        super().check(facts)
        number = facts.expected_size if self.num_generated is None else self.num_generated
        fewest = f"at least {facts.num_classes}, one per class, or null"
        require(number >= facts.num_classes, f"num_generated={number}", fewest)


@dataclass(frozen=True, kw_only=True)
class DiffusionPretraining(DenoiserTraining):
    """Options of `methods.diffusion.ddpm.DiffusionPretraining`.

    conditional: on the public labels; null = if they are below the number of private classes.
    """

    makes = "synpriv.methods.diffusion.ddpm.DiffusionPretraining"

    conditional: bool | None = None

    def check(self, facts: Facts) -> None:
        super().check(facts)
        last = facts.largest_public_label
        if last is None:
            raise ValueError(
                "public=null: a diffusion that starts from a public model needs a public pool: "
                "write dataset@public=npz public.path=FILE, or dataset@public=cifar100, or "
                "method=diffusion_scratch, which needs none"
            )
        known = not self.conditional or last < facts.num_classes
        require(known, "conditional=true", f"false or null: public labels go up to {last}")


def check_sampler(name: str, steps: int) -> None:
    """Refuse walks that diffusers would silently begin or end at the wrong noise level.

    It strides by whole levels: with 600 steps it ends at level 400 (or begins at 599), with 61 the
    last stride starts from pure noise again.
    """
    require(name in SAMPLERS, f"sampler={name}", " or ".join(SAMPLERS))
    fits = 2 <= steps <= SAMPLERS[name] and TIMES % steps == 0
    right = f"a divisor of {TIMES} in 2..{SAMPLERS[name]} for {name}"
    require(fits, f"num_inference_steps={steps}", right)
