"""Diffusion: training, the moving average, and what the release may depend on."""

import inspect

import pytest
import torch
from conftest import facts_like
from omegaconf import OmegaConf

from synpriv import schema, tracking
from synpriv.data.images import LabelledImages
from synpriv.methods.base import Release, stream
from synpriv.methods.diffusion import denoising, recipe
from synpriv.methods.diffusion.ddpm import DenoiserTraining, Diffusion, DiffusionPretraining
from synpriv.shadow import fitting

CPU = OmegaConf.structured(schema.Trainer(accelerator="cpu"))
OPTIONS = {"channels": [4, 8], "layers_per_block": 1, "prediction": "v_prediction"}
OPTIONS |= {"num_iterations": 3, "batch_size": 8, "lr": 0.01, "warmup_iterations": 1}
OPTIONS |= {"ema_decay": 0.9, "null_rate": 0.1}
SAMPLING = {"sampler": "ddim", "num_inference_steps": 4, "guidance": 1.0}
DATA = {"num_classes": 10, "image_shape": (1, 8, 8)}


def images(seed: int, num: int = 30, shape: tuple[int, ...] = (1, 8, 8)) -> LabelledImages:
    draw = torch.Generator().manual_seed(seed)
    pixels = torch.randint(256, (num, *shape), generator=draw, dtype=torch.uint8)
    return LabelledImages(pixels, torch.randint(10, (num,), generator=draw))


def private(data: LabelledImages, *, seed: int = 0, **options: object) -> Diffusion:
    torch.manual_seed(seed)
    given = {"public_model": None, "expected_size": 25} | DATA | OPTIONS | SAMPLING | options
    return Diffusion(private=data, **given)


def pretraining(data: LabelledImages, **options: object) -> DiffusionPretraining:
    torch.manual_seed(0)
    return DiffusionPretraining(public=data, **(DATA | OPTIONS | options))


def fitted(method: DenoiserTraining, precision: str = "32-true") -> Release:
    fitting.quieten()
    trainer = OmegaConf.merge(CPU, {"precision": precision})
    return fitting.fit(method, trainer, tracking.NoTracker(), "fit")


def pixels(release: Release) -> torch.Tensor:
    assert release.synthetic is not None
    return release.synthetic.images


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 28, 28)])
def test_release_is_balanced_uint8_whatever_the_private_labels(shape: tuple[int, ...]) -> None:
    data = images(0, shape=shape)
    data = LabelledImages(data.images, torch.zeros_like(data.labels))
    release = fitted(private(data, image_shape=shape, channels=[4, 6, 8][: 2 + shape[0] // 3]))
    assert release.synthetic is not None
    assert pixels(release).shape == (25, *shape)
    assert pixels(release).dtype == torch.uint8
    assert pixels(release).float().std() > 1
    assert torch.bincount(release.synthetic.labels).tolist() == [3] * 5 + [2] * 5
    assert len(pixels(fitted(private(images(0), num_generated=17)))) == 17


def test_after_training_the_private_images_are_not_looked_at() -> None:
    method = private(images(0))
    release = fitted(method)
    before = pixels(release).clone()
    method.private.images.zero_()
    torch.testing.assert_close(pixels(method.release()), before, rtol=0, atol=0)
    torch.testing.assert_close(method.generate().images, before, rtol=0, atol=0)


def test_same_seed_same_bits_and_training_sees_pixels_and_labels() -> None:
    data = images(0)
    first = pixels(fitted(private(data)))
    torch.testing.assert_close(pixels(fitted(private(data))), first, rtol=0, atol=0)
    relabelled = LabelledImages(data.images, (data.labels + 1) % 10)
    for other in (private(data, seed=1), private(images(1)), private(relabelled)):
        assert not torch.equal(pixels(fitted(other)), first)


def test_the_average_is_a_recursion_and_it_is_what_is_sampled() -> None:
    method = private(images(0), num_iterations=12)
    expected = method.network.conv_in.weight.detach().clone()
    update, step = method._update_average, 0

    def follow() -> None:
        nonlocal expected, step
        decay = min(0.9, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * method.network.conv_in.weight.detach()
        step += 1
        update()

    method._update_average = follow
    release = fitted(method)
    assert step == 12
    torch.testing.assert_close(release.generator.conv_in.weight, expected)
    with torch.no_grad():
        method.network.conv_out.weight.zero_()
    assert torch.equal(method.generate().images, pixels(release))
    with torch.no_grad():
        method.average.conv_out.weight.zero_()
    assert not torch.equal(method.generate().images, pixels(release))


def test_private_training_starts_from_the_public_weights() -> None:
    weights = fitted(pretraining(images(5))).generator.state_dict()
    method = private(images(0), public_model=weights)
    network = denoising.make_unet((1, 8, 8), num_classes=10, channels=[4, 8], layers_per_block=1)
    network.load_state_dict(weights)
    labels, draw = torch.arange(25) % 10, stream("sampling")
    walk = denoising.make_sampler("ddim", denoising.make_schedule("v_prediction"))
    expected = denoising.generate(network, walk, labels, steps=4, guidance=1, draw=draw)
    assert torch.equal(method.generate().images, expected)
    assert not torch.equal(private(images(0)).generate().images, expected)
    assert not torch.equal(pixels(fitted(method)), expected)
    assert method.provenance[1:] == ("public pre-training",)
    assert private(images(0)).provenance == method.provenance[:1]


def test_pretraining_never_sees_private_images_and_repeats_itself() -> None:
    first, second = (fitted(pretraining(images(5))) for _ in range(2))
    assert not hasattr(pretraining(images(5)), "private")
    for name, value in first.generator.state_dict().items():
        torch.testing.assert_close(
            second.generator.state_dict()[name], value, rtol=0, atol=0, msg=name
        )


def test_public_labels_of_other_classes_are_not_learnt() -> None:
    public = images(5)
    public = LabelledImages(public.images, public.labels + 90)
    moved = [
        (fitted(method).generator.class_embedding.weight != start).any(1)
        for method in (pretraining(public), pretraining(images(5)))
        for start in [method.average.class_embedding.weight.detach().clone()]
    ]
    assert moved[0].tolist() == 10 * [False] + [True]  # ten different classes, as they started
    assert moved[1][:10].sum() > 5  # few steps do not meet every class
    assert not pretraining(images(5), conditional=False).conditional
    made = recipe.DiffusionPretraining(conditional=True, **OPTIONS)
    made.check(facts_like(num_public=30, largest_public_label=9))
    with pytest.raises(ValueError, match=r"conditional=true: must be .* up to 99$"):
        made.check(facts_like(num_public=30, largest_public_label=99))


def test_another_architecture_is_refused() -> None:
    fitting = {"num_classes": 10, "channels": [4, 8], "layers_per_block": 1}
    patches = {"patch_size": 2}
    for other in ({"channels": [4, 4]}, {"layers_per_block": 2}, {"num_classes": 3}, patches):
        weights = denoising.make_unet((1, 8, 8), **(fitting | other)).state_dict()
        with pytest.raises(ValueError, match=r"^public_model: [^\n]* channels, layers_per_block"):
            private(images(0), public_model=weights)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        *[("prediction", "x"), ("sampler", "x"), ("channels", [4, 4, 4, 4, 4]), ("channels", [])],
        *[("guidance", -1.0), ("num_inference_steps", 0), ("num_generated", 9), ("ema_decay", 1.0)],
        *[("num_inference_steps", 30), ("num_inference_steps", 1), ("warmup_iterations", -1)],
        *[("num_iterations", 0), ("lr", 0.0), ("null_rate", 1.0), ("channels", [3])],
        *[("dropout", 1.0), ("weight_decay", -0.1), ("max_grad_norm", 0.0), ("patch_size", 0)],
        *[("attention", [2]), ("attention", [1, 1]), ("attention", [0])],  # level 0 has 4 channels
    ],
)
def test_a_bad_option_is_named_in_one_line(option: str, value: object) -> None:
    with pytest.raises(ValueError, match="must be") as error:
        recipe.Diffusion(**(OPTIONS | SAMPLING | {option: value})).check(facts_like())
    assert f"{option}={value}" in str(error.value)
    assert "\n" not in str(error.value)


def test_patches_must_fit_the_images_with_all_levels() -> None:
    recipe.Diffusion(patch_size=4, **(OPTIONS | SAMPLING)).check(facts_like())
    with pytest.raises(ValueError, match=r"^channels=\[4, 8\], patch_size=8: .* divisible by 16, "):
        recipe.Diffusion(patch_size=8, **(OPTIONS | SAMPLING)).check(facts_like())


def test_guidance_needs_hidden_labels_and_pretraining_a_public_pool() -> None:
    with pytest.raises(ValueError, match=r"guidance=2.0: must be 1 with null_rate=0"):
        private(images(0), guidance=2.0, null_rate=0.0)
    with pytest.raises(ValueError, match=r"public=null: .* dataset@public"):
        recipe.DiffusionPretraining(**OPTIONS).check(facts_like())


def test_training_that_diverges_is_an_error_and_no_black_images() -> None:
    with pytest.raises(ValueError, match=r"^lr=1e\+30: the denoising loss diverged"):
        fitted(private(images(0), lr=1e30, warmup_iterations=0))


def test_only_the_two_methods_can_be_made() -> None:
    assert inspect.isabstract(DenoiserTraining)
    assert not inspect.isabstract(Diffusion)
    assert not inspect.isabstract(DiffusionPretraining)


def test_bfloat16_training_generates_too() -> None:
    assert pixels(fitted(private(images(0)), "bf16-mixed")).float().std() > 1
