"""A class-conditional denoiser of images: its network, noise schedule, loss and samplers.

Ho, Jain and Abbeel, "Denoising Diffusion Probabilistic Models" (NeurIPS 2020), with v-prediction
(Salimans and Ho, ICLR 2022) and classifier-free guidance (Ho and Salimans, 2022).

diffusers takes seconds to import, so its classes are imported where they are made.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import mse_loss, pixel_shuffle

from synpriv.methods import flops
from synpriv.methods.diffusion.recipe import HEAD, TIMES
from synpriv.signatures import require

# Pixels, as the UNet sees them, that are generated at a time. Of channels 32, 64 and 64 the first
# take 80 MB, and a CPU is no faster with more; the second take 2.5 GB.
AT_A_TIME = {"cpu": 2**15, "cuda": 2**20}
UNet = Any  # diffusers' classes
Schedule = Any
Draw = torch.Generator


def make_unet(
    image_shape: Sequence[int],
    *,
    num_classes: int,
    channels: Sequence[int],
    layers_per_block: int,
    patch_size: int = 1,
    attention: Sequence[int] = (),
    dropout: float = 0.0,
) -> UNet:
    """A UNet with one level per entry of `channels`; its last class is the null one.

    image_shape: (ch, H, W); levels halve H and W. patch_size: it takes and gives squares of p x p
    pixels as p^2 channels (Luhman and Luhman, 2022), which costs a CPU a fraction. attention: the
    levels that have it.
    """
    from diffusers import UNet2DModel

    channels_in = image_shape[0] * patch_size**2
    attend = ["Attn" if level in attention else "" for level in range(len(channels))]
    return UNet2DModel(
        sample_size=tuple(side // patch_size for side in image_shape[1:]),
        in_channels=channels_in,
        out_channels=channels_in,
        block_out_channels=tuple(channels),
        layers_per_block=layers_per_block,
        down_block_types=tuple(f"{kind}DownBlock2D" for kind in attend),
        up_block_types=tuple(f"{kind}UpBlock2D" for kind in reversed(attend)),
        add_attention=bool(attend[-1]),
        attention_head_dim=HEAD,
        dropout=dropout,
        norm_num_groups=math.gcd(8, *channels),
        num_class_embeds=num_classes + 1,
    )


def load(network: UNet, weights: Mapping[str, Tensor]) -> None:
    """Start from the weights of a public model of the same architecture."""
    own, given = ({k: v.shape for k, v in w.items()} for w in (network.state_dict(), weights))
    same = "of the same channels, layers_per_block, attention, patch_size and number of classes"
    require(own == given, "public_model: its weights do not fit this UNet", same)
    network.load_state_dict(weights)


def make_schedule(prediction: str) -> Schedule:
    """The cosine noise schedule (Nichol and Dhariwal, ICML 2021) and what is predicted."""
    from diffusers import DDIMScheduler

    # The noisiest level holds no signal: epsilon, divided by that signal, cannot start from there.
    spacing = "trailing" if prediction == "v_prediction" else "leading"
    return DDIMScheduler(
        num_train_timesteps=TIMES,
        beta_schedule="squaredcos_cap_v2",
        clip_sample=True,
        prediction_type=prediction,
        timestep_spacing=spacing,
    )


def make_sampler(name: str, schedule: Schedule) -> Schedule:
    """How to walk from noise to an image, deterministically given the noise."""
    if name == "ddim":
        return schedule
    from diffusers import DPMSolverMultistepScheduler

    lowest = -5.1  # of the log signal-to-noise ratio, which a cosine schedule sends to -infinity
    return DPMSolverMultistepScheduler.from_config(schedule.config, lambda_min_clipped=lowest)


def denoising_loss(
    network: UNet, schedule: Schedule, images: Tensor, labels: Tensor, draw: Draw
) -> Tensor:
    """Mean squared error at random noise levels: images float [B,ch,H,W] in -1..1 -> scalar."""
    time = torch.randint(TIMES, (len(images),), generator=draw, device=images.device)
    noise = torch.randn(images.shape, generator=draw, device=images.device)
    noisy = schedule.add_noise(images, noise, time)
    velocity = schedule.config.prediction_type == "v_prediction"
    target = schedule.get_velocity(images, noise, time) if velocity else noise
    return mse_loss(network(noisy, time, labels).sample.float(), target)


def drop_labels(labels: Tensor, *, null: int, rate: float, draw: Draw) -> Tensor:
    """Replace each label by the null class with probability `rate`."""
    coin = torch.rand(labels.shape, generator=draw, device=labels.device) < rate
    return labels.masked_fill(coin, null)


def guided(network: UNet, noisy: Tensor, time: Tensor, labels: Tensor, guidance: float) -> Tensor:
    """The prediction u + guidance * (c - u): c given the label, u given the null class."""
    if guidance == 1:
        return network(noisy, time, labels).sample.float()
    both = torch.cat([labels, torch.full_like(labels, network.config.num_class_embeds - 1)])
    c, u = network(noisy.repeat(2, 1, 1, 1), time, both).sample.float().chunk(2)
    return u + guidance * (c - u)


@torch.no_grad()
def generate(
    network: UNet,
    sampler: Schedule,
    labels: Tensor,
    *,
    steps: int,
    guidance: float,
    draw: Draw,
    patch_size: int = 1,
) -> Tensor:
    """One image per label, int64 [N] -> uint8 [N,ch,H,W], on the device of the labels."""
    network.eval()
    channels, size = network.config.in_channels, network.config.sample_size
    images = []
    together = AT_A_TIME[labels.device.type] // math.prod(size)
    for batch in labels.split(max(1, together)):
        # On the CPU, whence the sampler reads them one by one; and it forgets the batch before.
        sampler.set_timesteps(steps)
        x = torch.randn((len(batch), channels, *size), generator=draw, device=labels.device)
        for time in sampler.timesteps:
            with flops.part("sampling", len(batch)):
                prediction = guided(network, x, time, batch, guidance)
            x = sampler.step(prediction, time, x).prev_sample
        pixels = pixel_shuffle(x, patch_size)
        images.append(((pixels + 1) * 127.5).round().clamp(0, 255).to(torch.uint8))
    return torch.cat(images)
