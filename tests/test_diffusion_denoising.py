"""The denoiser: its loss, its samplers and guidance, against formulas written out."""

import math
from typing import ClassVar

import pytest
import torch
from omegaconf import OmegaConf

from synpriv.methods.diffusion import denoising, recipe


def tiny_unet() -> torch.nn.Module:
    torch.manual_seed(0)
    return denoising.make_unet((1, 8, 8), num_classes=10, channels=[4, 8], layers_per_block=1)


def test_attention_and_dropout_are_where_the_options_put_them() -> None:
    from diffusers.models.attention_processor import Attention

    sizes = {"num_classes": 10, "channels": [8, 16, 16], "layers_per_block": 1}

    def attending(*levels: int) -> list[str]:
        network = denoising.make_unet((1, 8, 8), attention=levels, dropout=0.25, **sizes)
        rates = {m.p for m in network.modules() if isinstance(m, torch.nn.Dropout)}
        assert max(rates) == 0.25
        return [
            name.rpartition(".attentions")[0]
            for name, module in network.named_modules()
            if isinstance(module, Attention)
        ]

    assert attending() == []
    assert set(attending(0)) == {"down_blocks.0", "up_blocks.2"}  # up from the bottom
    assert set(attending(1, 2)) == {
        *("down_blocks.1", "down_blocks.2", "up_blocks.0", "up_blocks.1", "mid_block")
    }


def test_generated_patches_are_put_together() -> None:
    class Ramp(torch.nn.Module):
        """Leads to 16 channels of one grey each, the darkest first."""

        config = OmegaConf.create({"in_channels": 16, "sample_size": [2, 2]})

        def forward(self, noisy: torch.Tensor, time: torch.Tensor, labels: torch.Tensor) -> object:
            share = alpha_bar()[int(time)]
            goal = torch.linspace(-1, 1, 16).view(1, 16, 1, 1).expand_as(noisy)
            wanted = (noisy - share.sqrt() * goal) / (1 - share).sqrt()
            return OmegaConf.create({"sample": wanted}, flags={"allow_objects": True})

    walk = denoising.make_sampler("ddim", denoising.make_schedule("epsilon"))
    made = denoising.generate(
        *(Ramp(), walk, torch.zeros(3, dtype=torch.int64)),
        **{"steps": 4, "guidance": 1, "draw": torch.Generator(), "patch_size": 4},
    )
    square = torch.linspace(0, 255, 16).round().view(4, 4)
    assert made.shape == (3, 1, 8, 8)
    assert int((made.int() - square.repeat(2, 2).int()).abs().max()) <= 2


def test_large_images_are_generated_few_at_a_time() -> None:
    class Watched(torch.nn.Module):
        config = OmegaConf.create({"in_channels": 1, "sample_size": [64, 64]})
        seen: ClassVar[list[int]] = []

        def forward(self, noisy: torch.Tensor, *_: torch.Tensor) -> object:
            self.seen.append(len(noisy))
            return OmegaConf.create({"sample": noisy}, flags={"allow_objects": True})

    walk = denoising.make_sampler("ddim", denoising.make_schedule("epsilon"))
    labels, draw = torch.arange(20), torch.Generator()
    made = denoising.generate(Watched(), walk, labels, steps=2, guidance=1, draw=draw)
    assert len(made) == 20
    assert Watched.seen == [8, 8, 8, 8, 4, 4]  # 2^15 pixels, in two steps each


def alpha_bar() -> torch.Tensor:
    """The share of signal at each level from the cosine formula, betas capped at 0.999."""

    def level(t: float) -> float:
        return math.cos((t + 0.008) / 1.008 * math.pi / 2) ** 2

    betas = [min(1 - level((t + 1) / 1000) / level(t / 1000), 0.999) for t in range(1000)]
    return torch.cumprod(1 - torch.tensor(betas, dtype=torch.float64), 0).float()


@pytest.mark.parametrize("prediction", ["v_prediction", "epsilon"])
def test_the_loss_against_formulas_written_out(prediction: str) -> None:
    network, labels = tiny_unet(), torch.randint(11, (5,))
    clean = torch.rand(5, 1, 8, 8) * 2 - 1
    draw = torch.Generator().manual_seed(1)
    schedule = denoising.make_schedule(prediction)
    loss = denoising.denoising_loss(network, schedule, clean, labels, draw)
    draw.manual_seed(1)
    time = torch.randint(1000, (5,), generator=draw)
    noise = torch.randn(clean.shape, generator=draw)
    share = alpha_bar()[time].view(-1, 1, 1, 1)
    noisy = share.sqrt() * clean + (1 - share).sqrt() * noise
    torch.testing.assert_close(schedule.add_noise(clean, noise, time), noisy)
    velocity = share.sqrt() * noise - (1 - share).sqrt() * clean
    target = velocity if prediction == "v_prediction" else noise
    expected = (network(noisy, time, labels).sample - target).square().mean()
    torch.testing.assert_close(loss, expected)


class _Perfect(torch.nn.Module):
    """Predicts what leads to one known image, whatever it is given."""

    def __init__(self, prediction: str, goal: torch.Tensor) -> None:
        super().__init__()
        self.prediction, self.goal, self.seen = prediction, goal, 0
        self.config = OmegaConf.create(
            {"in_channels": 1, "sample_size": [8, 8], "num_class_embeds": 11}
        )

    def forward(self, noisy: torch.Tensor, time: torch.Tensor, labels: torch.Tensor) -> object:
        self.seen += len(noisy)
        share = alpha_bar()[int(time)]
        noise = (noisy - share.sqrt() * self.goal) / (1 - share).sqrt()
        velocity = share.sqrt() * noise - (1 - share).sqrt() * self.goal
        wanted = velocity if self.prediction == "v_prediction" else noise
        return OmegaConf.create({"sample": wanted}, flags={"allow_objects": True})


@pytest.mark.parametrize("sampler", ["ddim", "dpm_solver"])
@pytest.mark.parametrize("prediction", ["v_prediction", "epsilon"])
def test_a_perfect_denoiser_generates_the_image_it_knows(sampler: str, prediction: str) -> None:
    draw = torch.Generator().manual_seed(3)
    goal = torch.randint(256, (1, 1, 8, 8), generator=draw, dtype=torch.uint8)
    network = _Perfect(prediction, goal / 127.5 - 1)
    walk = denoising.make_sampler(sampler, denoising.make_schedule(prediction))
    labels, draw = torch.zeros(4, dtype=torch.int64), torch.Generator().manual_seed(0)
    made = denoising.generate(network, walk, labels, steps=12, guidance=1, draw=draw)
    difference = (made.int() - goal.int()).abs()
    assert int(difference.max()) <= 2  # dpm_solver stops a little before the noise is gone


def generated_normal(sampler: str, prediction: str, steps: int) -> torch.Tensor:
    """What the exact denoiser of pixels N(-0.5, 0.25^2), known in closed form, generates."""
    schedule = denoising.make_schedule(prediction)
    walk = denoising.make_sampler(sampler, schedule)
    walk.set_timesteps(steps)
    x = torch.randn(20_000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for time in walk.timesteps:
        share = alpha_bar()[time].double()
        gain = share.sqrt() * 0.25**2 / (share * 0.25**2 + 1 - share)
        clean = -0.5 + gain * (x + 0.5 * share.sqrt())
        noise = (x - share.sqrt() * clean) / (1 - share).sqrt()
        velocity = share.sqrt() * noise - (1 - share).sqrt() * clean
        x = walk.step(velocity if prediction == "v_prediction" else noise, time, x).prev_sample
    return x


@pytest.mark.parametrize("prediction", ["v_prediction", "epsilon"])
@pytest.mark.parametrize(
    ("sampler", "steps"),
    [*[("ddim", n) for n in (20, 100, 500)], *[("dpm_solver", n) for n in (20, 50, 100)]],
)
def test_the_walks_that_are_allowed_end_in_the_distribution_of_the_data(
    sampler: str, steps: int, prediction: str
) -> None:
    recipe.check_sampler(sampler, steps)
    made = generated_normal(sampler, prediction, steps)
    assert float(made.mean()) == pytest.approx(-0.5, abs=0.02)
    assert float(made.std()) == pytest.approx(0.25, abs=0.035)


@pytest.mark.parametrize(
    ("sampler", "prediction", "steps"),
    [("ddim", "v_prediction", 600), ("ddim", "epsilon", 600), ("dpm_solver", "epsilon", 500)],
)
def test_walks_that_start_or_stop_at_the_wrong_level_are_refused(
    sampler: str, prediction: str, steps: int
) -> None:
    made = generated_normal(sampler, prediction, steps)
    assert abs(float(made.mean()) + 0.5) > 0.05
    with pytest.raises(
        ValueError, match=f"^num_inference_steps={steps}: must be a divisor of 1000"
    ):
        recipe.check_sampler(sampler, steps)


def test_every_allowed_walk_visits_each_of_its_levels_once() -> None:
    for sampler, most in recipe.SAMPLERS.items():
        for prediction in recipe.PREDICTIONS:
            walk = denoising.make_sampler(sampler, denoising.make_schedule(prediction))
            for steps in range(2, most + 1):
                if 1000 % steps:
                    continue
                walk.set_timesteps(steps)
                levels = walk.timesteps.tolist()
                assert len(levels) == steps
                assert levels == sorted(set(levels), reverse=True)
                assert 0 <= levels[-1] <= levels[0] < 1000
                if sampler == "ddim":  # what `step` takes for the next level
                    assert set(walk.timesteps.diff().tolist()) == {-(1000 // steps)}


@pytest.mark.parametrize("sampler", ["ddim", "dpm_solver"])
def test_sampling_is_decided_by_its_generator(sampler: str) -> None:
    network, labels = tiny_unet(), torch.arange(10)
    walk = denoising.make_sampler(sampler, denoising.make_schedule("v_prediction"))

    def made(seed: int) -> torch.Tensor:
        draw = torch.Generator().manual_seed(seed)
        return denoising.generate(network, walk, labels, steps=4, guidance=1, draw=draw)

    torch.testing.assert_close(made(0), made(0), rtol=0, atol=0)
    assert not torch.equal(made(0), made(1))


def test_guidance_is_the_formula_and_costs_nothing_at_one() -> None:
    network, time = tiny_unet(), torch.tensor(500)
    noisy, labels = torch.randn(6, 1, 8, 8), torch.arange(6)
    seen: list[int] = []
    network.register_forward_hook(lambda net, inputs, output: seen.append(len(inputs[0])))
    with torch.no_grad():
        c = network(noisy, time, labels).sample
        u = network(noisy, time, torch.full((6,), 10)).sample
        seen.clear()
        for weight in (0.0, 1.0, 2.5):
            made = denoising.guided(network, noisy, time, labels, weight)
            torch.testing.assert_close(made, u + weight * (c - u), rtol=1e-5, atol=1e-5)
    assert seen == [12, 6, 12]
    assert not torch.allclose(c, u)


def test_labels_are_hidden_at_the_null_rate() -> None:
    labels, draw = torch.randint(10, (20_000,)), torch.Generator().manual_seed(0)
    kept = denoising.drop_labels(labels, null=10, rate=0.2, draw=draw)
    hidden = kept == 10
    assert float(hidden.float().mean()) == pytest.approx(0.2, abs=0.015)  # 5 standard errors
    assert torch.equal(kept[~hidden], labels[~hidden])
    assert torch.equal(denoising.drop_labels(labels, null=10, rate=0.0, draw=draw), labels)
