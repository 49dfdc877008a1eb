"""Distribution matching: its loss, where it starts, and what it releases."""

import functools
import re

import pytest
import torch
from conftest import digits_as_tensors, facts_like
from omegaconf import OmegaConf
from torch import Tensor

from synpriv import models, schema, tracking
from synpriv.data import dsa
from synpriv.data.images import LabelledImages
from synpriv.methods.base import Release, stream
from synpriv.methods.distill import dm as distill
from synpriv.methods.distill import recipe
from synpriv.methods.distill.dm import DistributionMatching, class_means, matching_loss
from synpriv.shadow import fitting

CPU = OmegaConf.structured(schema.Trainer(accelerator="cpu"))
WHOLE = digits_as_tensors()
PRIVATE = WHOLE.private[torch.arange(120)]
BLANK = LabelledImages(torch.zeros_like(PRIVATE.images), PRIVATE.labels)
network = functools.partial(
    models.convnet, channels=1, size=8, num_classes=10, mean=[0.3], std=[0.37], width=4
)
embedder = functools.partial(
    models.convnet3, channels=1, size=8, num_classes=10, mean=[0.3], std=[0.37], width=4, depth=2
)


def fitted(method: DistributionMatching) -> Release:
    fitting.quieten()
    return fitting.fit(method, CPU, tracking.NoTracker(), "fit")


def matching(private: LabelledImages, **options: object) -> DistributionMatching:
    defaults = {"num_classes": 10, "images_per_class": 2, "num_iterations": 3}
    return DistributionMatching(
        private=private, model=network, embedder=embedder, **(defaults | options)
    )


def start(private: LabelledImages, *, seed: int = 5, **options: object) -> Tensor:
    """The pixels before the first step."""
    torch.manual_seed(seed)
    return matching(private, **options).pixels.detach()


def test_class_means_and_loss_against_a_loop() -> None:
    features, labels = torch.randn(20, 5), torch.randint(0, 4, (20,))
    labels[labels == 2] = 3  # an empty class
    means = class_means(features, labels, 4)
    total = 0.0
    for k in range(4):
        rows = features[labels == k]
        expected = rows.mean(0) if len(rows) else torch.zeros(5)
        torch.testing.assert_close(means[k], expected)
        total += float(expected.square().sum())
    assert float(matching_loss(means, torch.zeros(4, 5))) == pytest.approx(total)


def test_matching_loss_is_zero_when_the_synthetic_set_is_the_private_set() -> None:
    smallest = int(torch.bincount(PRIVATE.labels).min())
    rank = distill.rank_in_class(PRIVATE.labels, 10)
    balanced = PRIVATE[rank <= smallest]
    method = matching(balanced, images_per_class=smallest)
    assert float(method.loss()) < 1e-8
    noise = matching(balanced, images_per_class=smallest, init="noise")
    assert float(noise.loss()) > 1


def test_distillation_lowers_its_loss_and_releases_what_it_optimised() -> None:
    torch.manual_seed(0)
    method = matching(PRIVATE, num_iterations=60, init="noise", lr=5.0)

    def mean_loss() -> float:
        with torch.no_grad():
            return float(torch.stack([method.loss() for _ in range(20)]).mean())

    before = mean_loss()
    released = fitted(method).synthetic
    assert mean_loss() < 0.7 * before
    net = embedder()
    torch.testing.assert_close(
        net.normalise(released.images), method.pixels.detach(), rtol=0, atol=0.5 / 255 / 0.37 + 1e-5
    )
    assert released.labels.tolist() == [k for k in range(10) for _ in range(2)]


def hashes(data: LabelledImages) -> list[bytes]:
    """What tells one image from another: its bytes."""
    return [image.numpy().tobytes() for image in data.images]


def test_real_initialisation_takes_images_of_the_class_and_noise_takes_none() -> None:
    real = matching(PRIVATE, num_iterations=1, lr=0.0).release().synthetic
    known = dict(zip(hashes(PRIVATE), PRIVATE.labels.tolist(), strict=True))
    assert [known[image] for image in hashes(real)] == real.labels.tolist()
    noise = start(PRIVATE, init="noise")
    torch.testing.assert_close(noise, start(BLANK, init="noise"), rtol=0, atol=0)


def test_public_initialisation_takes_public_images_and_nothing_private() -> None:
    public = WHOLE.public
    taken = matching(PRIVATE, init="public", public=public).release().synthetic
    assert len(set(hashes(taken))) == 20
    assert set(hashes(taken)) <= set(hashes(public))
    pixels = start(PRIVATE, init="public", public=public)
    relabelled = LabelledImages(public.images, public.labels.flip(0))
    for private, pool in ((BLANK, public), (PRIVATE, relabelled)):
        same = start(private, init="public", public=pool)
        torch.testing.assert_close(same, pixels, rtol=0, atol=0)
    assert not torch.equal(start(PRIVATE, seed=6, init="public", public=public), pixels)


def test_average_initialisation_is_the_loop_over_disjoint_groups() -> None:
    pixels = start(PRIVATE, init="average", images_per_class=3)
    order = torch.randperm(120, generator=stream("distillation")).tolist()
    rows = (PRIVATE.images.double() / 255 - 0.3) / 0.37
    expected = []
    for k in range(10):
        members = [i for i in order if PRIVATE.labels[i] == k]
        for group in (members[0::3], members[1::3], members[2::3]):
            expected.append(sum(rows[i] for i in group) / len(group))
    torch.testing.assert_close(pixels.double(), torch.stack(expected), rtol=0, atol=1e-5)


def test_real_batch_holds_the_same_number_of_each_class() -> None:
    batch, classes = matching(PRIVATE, real_per_class=3)._real_batch()
    assert torch.bincount(batch.labels).tolist() == [3] * 10
    assert torch.equal(batch.labels, classes)


def test_no_iteration_releases_the_start_and_names_no_matching() -> None:
    method = matching(PRIVATE, num_iterations=0)
    method_start = method.pixels.detach().clone()
    fitted(method)
    torch.testing.assert_close(method.pixels.detach(), method_start, rtol=0, atol=0)
    assert method.provenance == ("labels", "initial pixels")
    assert set(hashes(method.release().synthetic)) <= set(hashes(PRIVATE))


def test_the_loss_is_a_loop_over_classes_that_draw_for_themselves() -> None:
    torch.manual_seed(0)
    options = {"augment": ["cutout", "flip"], "real_per_class": 3, "init": "noise"}
    method = matching(PRIVATE, **options)
    state, draw = torch.get_rng_state(), method.draw.get_state()
    loss = method.loss()
    torch.set_rng_state(state)
    method.draw.set_state(draw)
    net, (real, classes) = embedder(), method._real_batch()
    which = torch.randint(2, (10,), generator=method.draw).tolist()
    numbers = torch.rand(10, 3, generator=method.draw)
    total = 0.0
    for k in range(10):
        means = []
        for images in (net.normalise(real.images[classes == k]), method.pixels[2 * k : 2 * k + 2]):
            strategy = dsa.STRATEGIES[("cutout", "flip")[which[k]]]
            features = net.features(strategy(images, numbers[k].expand(len(images), 3)))
            means.append(features.mean(0))
        total += float((means[0] - means[1]).square().sum())
    assert float(loss) == pytest.approx(total, rel=1e-4)


@pytest.mark.parametrize("per_class", [1, 3, 50])
def test_the_first_of_each_class_are_those_that_counting_finds(per_class: int) -> None:
    labels = torch.randint(0, 4, (60,), generator=torch.Generator().manual_seed(0))
    labels[labels == 2] = 3  # a class without samples, and one larger than others
    members = distill.Members(labels, 4)
    for seed in range(5):
        order = torch.randperm(60, generator=torch.Generator().manual_seed(seed))
        seen, naive = [0] * 4, list[int]()
        for i in order.tolist():
            seen[labels[i]] += 1
            naive += [i] if seen[labels[i]] <= per_class else []
        assert members.first(order, per_class).tolist() == naive


@pytest.mark.parametrize(
    ("option", "value"),
    [("init", "x"), ("images_per_class", 0), ("real_per_class", 0), ("augment", ["blur"])],
)
def test_distillation_names_a_bad_option(option: str, value: object) -> None:
    with pytest.raises(ValueError, match=re.escape(f"{option}={value}: must be")):
        matching(PRIVATE, **{option: value})


def test_where_it_starts_must_have_images_enough() -> None:
    options = {"images_per_class": 5, "num_iterations": 1}
    for init in ("real", "average"):
        made = recipe.DistributionMatching(init=init, **options)
        made.check(facts_like(smallest_class=5))
        with pytest.raises(
            ValueError, match=r"images_per_class=5: the smallest class has 4 images"
        ):
            made.check(facts_like(smallest_class=4))
    public = recipe.DistributionMatching(init="public", **options)
    public.check(facts_like(num_public=50, smallest_class=0))
    for num in (None, 49):
        with pytest.raises(ValueError, match="init=public: needs a public pool of at least 50"):
            public.check(facts_like(num_public=num))
