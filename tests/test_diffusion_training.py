"""Diffusion: what the network is fed, at which learning rate, and how its images are sampled."""

import math

import diffusers
import pytest
import torch
from omegaconf import OmegaConf
from torch import Tensor

from synpriv import schema, tracking
from synpriv.data.images import LabelledImages
from synpriv.methods.base import Release, stream
from synpriv.methods.diffusion import ddpm
from synpriv.methods.diffusion.ddpm import Diffusion
from synpriv.shadow import fitting

CPU = OmegaConf.structured(schema.Trainer(accelerator="cpu"))
OPTIONS = {"channels": [4, 8], "layers_per_block": 1, "prediction": "v_prediction"}
OPTIONS |= {"num_iterations": 20, "batch_size": 8, "lr": 0.01, "warmup_iterations": 1}
OPTIONS |= {"ema_decay": 0.9, "null_rate": 0.0, "num_classes": 2, "image_shape": (1, 8, 8)}
OPTIONS |= {"sampler": "ddim", "num_inference_steps": 4, "guidance": 1.0, "expected_size": 20}
OPTIONS |= {"public_model": None}


def diffusion(data: LabelledImages, *, seed: int = 0, **options: object) -> Diffusion:
    torch.manual_seed(seed)
    return Diffusion(private=data, **(OPTIONS | options))


def fitted(method: Diffusion) -> Release:
    fitting.quieten()
    return fitting.fit(method, CPU, tracking.NoTracker(), "fit")


def noise(num: int) -> LabelledImages:
    pixels = torch.randint(256, (num, 1, 8, 8), generator=torch.Generator().manual_seed(0))
    return LabelledImages(pixels.to(torch.uint8), torch.arange(num) % 2)


def fed(method: Diffusion, monkeypatch: pytest.MonkeyPatch) -> tuple[Tensor, Tensor]:
    """The images [N,ch,H,W] and labels [N] that the loss is given in training."""
    seen: list[tuple[Tensor, Tensor]] = []

    def loss(
        network: torch.nn.Module, schedule: object, images: Tensor, labels: Tensor, draw: object
    ) -> Tensor:
        seen.append((images, labels))
        return 0 * network.conv_out.weight.sum()

    monkeypatch.setattr(ddpm, "denoising_loss", loss)
    fitted(method)
    images, labels = zip(*seen, strict=True)
    return torch.cat(images), torch.cat(labels)


def test_a_dark_and_a_bright_class_are_learnt_apart() -> None:
    labels = torch.arange(64) % 2
    shades = torch.tensor([20, 235], dtype=torch.uint8)
    data = LabelledImages(shades[labels].view(64, 1, 1, 1).repeat(1, 1, 8, 8), labels)
    options = {"channels": [16], "num_iterations": 150, "batch_size": 32, "warmup_iterations": 10}
    made = fitted(diffusion(data, num_inference_steps=10, **options)).synthetic
    means = made.images.float().mean((1, 2, 3))
    assert float(means[made.labels == 0].max()) < 100
    assert float(means[made.labels == 1].min()) > 155


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("crop", [False, True])
def test_the_loss_is_given_each_augmentation_in_minus_one_to_one(
    crop: bool, flip: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = noise(1)
    options = {"crop": crop, "flip": flip, "batch_size": 100, "num_iterations": 3}
    images, _ = fed(diffusion(data, **options), monkeypatch)
    padded = torch.zeros(10, 10)
    padded[1:9, 1:9] = data.images[0, 0]
    corners = [(y, x) for y in range(3) for x in range(3)] if crop else [(1, 1)]
    views = [padded[y : y + 8, x : x + 8] for y, x in corners]
    views += [view.flip(1) for view in views] if flip else []
    expected = torch.stack(views)[:, None] / 127.5 - 1
    torch.testing.assert_close(images.unique(dim=0), expected.unique(dim=0))


@pytest.mark.parametrize("rate", [0.0, 0.5])
def test_labels_stay_with_their_images_or_are_hidden(
    rate: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = noise(40)
    options = {"null_rate": rate, "num_iterations": 50}
    images, labels = fed(diffusion(data, **options), monkeypatch)
    assert len(images) == 400
    distance = torch.cdist(images.flatten(1), data.images.flatten(1) / 127.5 - 1)
    assert torch.bincount(distance.argmin(1)).tolist() == [10] * 40  # passes of the whole set
    hidden = labels == 2
    assert torch.equal(labels[~hidden], data.labels[distance.argmin(1)][~hidden])
    assert float(hidden.float().mean()) == pytest.approx(rate, abs=0.125 * (rate > 0))  # 5 errors


def test_the_learning_rate_warms_up_and_falls_along_half_a_cosine() -> None:
    method = diffusion(noise(8), lr=0.02, num_iterations=12, warmup_iterations=4)
    optimise, rates = method.optimise, list[float]()

    def watched(loss: Tensor) -> None:
        rates.append(method.trainer.optimizers[0].param_groups[0]["lr"])
        optimise(loss)

    method.optimise = watched
    fitted(method)
    falling = [0.02 * (1 + math.cos(math.pi * k / 8)) / 2 for k in range(8)]
    assert rates == pytest.approx([0.005, 0.01, 0.015, 0.02, *falling])


def gradient_and_weights(method: Diffusion) -> tuple[list[Tensor], list[Tensor]]:
    """The loss's gradients at the first step, then the weights after it, computed by the method."""
    found: list[Tensor] = []
    optimise = method.optimise

    def watched(loss: Tensor) -> None:
        found.extend(torch.autograd.grad(loss, [*method.network.parameters()], retain_graph=True))
        optimise(loss)

    method.optimise = watched
    fitted(method)
    return found, [weight.detach() for weight in method.network.parameters()]


@pytest.mark.parametrize("most", [None, 0.01])
def test_a_step_is_adamw_on_clipped_gradients(most: float | None) -> None:
    options = {"num_iterations": 1, "warmup_iterations": 0, "lr": 0.01, "weight_decay": 0.5}
    method = diffusion(noise(40), max_grad_norm=most, **options)
    before = [weight.detach().clone() for weight in method.network.parameters()]
    gradients, after = gradient_and_weights(method)
    norm = math.sqrt(sum(float(g.double().square().sum()) for g in gradients))
    assert norm > 0.01  # it is clipped
    scale = 1.0 if most is None else most / (norm + 1e-6)
    for old, new, g in zip(before, after, gradients, strict=True):
        # Bias-corrected moments of a first step are g and g^2 (Loshchilov and Hutter, ICLR 2019).
        expected = old * (1 - 0.01 * 0.5) - 0.01 * scale * g / (scale * g.abs() + 1e-8)
        torch.testing.assert_close(new, expected, rtol=1e-4, atol=2e-5)


def test_without_decay_it_is_adam_to_the_last_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    method = fitted(diffusion(noise(40))).generator

    def adam(weights: list[Tensor], *, weight_decay: float, **options: object) -> object:
        assert weight_decay == 0
        return torch.optim.Adam(weights, **options)

    monkeypatch.setattr(torch.optim, "AdamW", adam)
    other = fitted(diffusion(noise(40))).generator
    for one, same in zip(method.parameters(), other.parameters(), strict=True):
        assert torch.equal(one, same)


def test_the_network_of_patches_sees_each_square_as_channels(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data = noise(1)
    options = {"patch_size": 2, "channels": [4, 8], "num_iterations": 1, "batch_size": 1}
    method = diffusion(data, **options)
    images, _ = fed(method, monkeypatch)
    expected = torch.empty(1, 4, 4, 4)
    for y in range(8):
        for x in range(8):
            expected[0, 2 * (y % 2) + x % 2, y // 2, x // 2] = data.images[0, 0, y, x] / 127.5 - 1
    torch.testing.assert_close(images, expected)
    assert method.synthetic.images.shape == (20, 1, 8, 8)


@pytest.mark.parametrize("sampler", ["ddim", "dpm_solver"])
def test_sampling_is_the_walk_that_the_options_ask_for(sampler: str) -> None:
    given = {"beta_schedule": "squaredcos_cap_v2", "prediction_type": "v_prediction"}
    walks = {
        "ddim": diffusers.DDIMScheduler(timestep_spacing="trailing", **given),
        "dpm_solver": diffusers.DPMSolverMultistepScheduler(
            timestep_spacing="trailing", lambda_min_clipped=-5.1, **given
        ),
    }
    options = {"guidance": 2.0, "sampler": sampler, "num_inference_steps": 5, "null_rate": 0.5}
    method = diffusion(noise(40), **options)
    made, network = fitted(method).synthetic, method.average
    labels, walk = torch.arange(20) % 2, walks[sampler]
    x = torch.randn(20, 1, 8, 8, generator=stream("sampling"))
    walk.set_timesteps(5)
    with torch.no_grad():
        for time in walk.timesteps:
            c = network(x, time, labels).sample
            u = network(x, time, torch.full_like(labels, 2)).sample
            x = walk.step(2 * c - u, time, x).prev_sample
    expected = ((x + 1) * 127.5).round().clamp(0, 255)
    assert torch.equal(made.labels, labels)
    torch.testing.assert_close(made.images.float(), expected, rtol=0, atol=1)
