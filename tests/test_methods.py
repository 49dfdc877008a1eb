"""What holds of every training method, and the classifier against a bare loop."""

import dataclasses
import functools
import json
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import OUTSIDE, _compose
from omegaconf import DictConfig, OmegaConf

from synpriv import config, models, schema, tracking
from synpriv.data import dsa
from synpriv.data.datasets import Source, digits
from synpriv.data.draws import draw
from synpriv.data.images import LabelledImages, random_crop
from synpriv.data.intake import Pools, take_in
from synpriv.data.split import AuditSplit, make_split
from synpriv.methods.base import Release, stream
from synpriv.methods.classifier import Classifier, lr_factor
from synpriv.results import artefacts, store
from synpriv.shadow import fitting, offering, query, runs, stages, training
from synpriv.shadow.checkpoints import Checkpoint, Fitted

CONF = Path(__file__).parents[1] / "conf"
MADE_ELSEWHERE = "precomputed"  # for one private set each: tests/test_sets.py
METHODS = sorted({file.stem for file in (CONF / "method").glob("*.yaml")} - {MADE_ELSEWHERE})
TINY = {"num_epochs": 2, "batch_size": 16, "warmup_epochs": 0, "num_iterations": 3}
TINY |= {"images_per_class": 2, "num_rounds": 4, "warmup_rounds": 2, "codes_per_round": 16}
TINY |= {"num_inference_steps": 4, "num_generated": 40}
TINY |= {"accountant": "rdp"}  # the exact one takes seconds and has tests of its own
First = Callable[[str], tuple[np.ndarray, tuple[str, ...]]]
TESTED = ["logger=none", "num_models=8", "model.width=4"]
PUBLIC = tempfile.TemporaryDirectory()  # models of the public pool, trained once for all tests
CPU = OmegaConf.structured(schema.Trainer(accelerator="cpu"))
network = functools.partial(
    models.convnet, channels=1, size=8, num_classes=10, mean=[0.3], std=[0.37], width=4
)
# How many stages may see private images, for every method with a stage after them: a proxy and the
# selection, or a teacher, or what learns the synthetic set.
LAST = [
    (name, 2 if name.startswith("coreset") and name != "coreset_random" else 1)
    for name in METHODS
    if not name.startswith(("undefended", "dpsgd"))
]


@pytest.fixture(scope="module")
def pools() -> Pools:
    whole = digits()
    source = Source(whole.private[np.arange(120)], whole.test[np.arange(40)], whole.public)
    return take_in(source)


def split_of(pools: Pools) -> AuditSplit:
    drawn = draw(
        pools,
        kind="mislabelled",
        num_canaries=20,
        member_draw="balanced",
        num_models=8,
        audit_seed=0,
    )
    return make_split(pools, drawn, seed=0)


@pytest.fixture
def split(pools: Pools) -> AuditSplit:
    return split_of(pools)


def configured(*overrides: str, trainer: str = "cpu") -> DictConfig:
    """The composed config with every schedule cut to a few steps."""
    own = OUTSIDE["method=external"] if "method=external" in overrides else []
    cfg = _compose(*TESTED, f"trainer={trainer}", *overrides, *own)

    def shrink(node: DictConfig) -> None:
        for key in node:
            if OmegaConf.is_dict(node[key]):
                shrink(node[key])
            elif key in TINY:
                node[key] = TINY[key]

    shrink(cfg.method)
    return cfg


def obtained(
    cfg: DictConfig, split: AuditSplit, pools: Pools, checkpoint: Checkpoint | None = None
) -> tuple[Release, Fitted]:
    """What `stages.obtain` gives, after training what the method builds on."""
    training.quieten()
    tracker, costs = tracking.NoTracker(), training.Costs()
    with tempfile.TemporaryDirectory() as folder:
        basis = {}
        for name in config.prerequisites(cfg.method):
            own = config.of_prerequisite(cfg, name)
            if name == "public_model":
                own.results = PUBLIC.name
                basis[name] = runs._ensure_public(own) / runs.FILES[name]
                continue
            release, left = obtained(own, split, pools)
            artefacts.save_release(Path(folder), release)
            artefacts.save_arrays(Path(folder, store.RECORDS), left.records)
            basis[name] = Path(folder, runs.FILES[name])
        return stages.obtain(cfg, split, pools, tracker, costs, basis=basis, checkpoint=checkpoint)


def obtain(cfg: DictConfig, split: AuditSplit, pools: Pools) -> Release:
    return obtained(cfg, split, pools)[0]


def logits(release: Release, split: AuditSplit) -> np.ndarray:
    assert release.classifier is not None
    return query.canary_logits(release.classifier, split.canaries, flip=False)


def fitted(method: torch.nn.Module, precision: str = "32-true") -> Release:
    training.quieten()
    trainer = OmegaConf.merge(CPU, {"precision": precision})
    return fitting.fit(method, trainer, tracking.NoTracker(), "fit")


@pytest.fixture(scope="module")
def first(pools: Pools) -> First:
    """Logits and provenance of each method as configured, fitted once for all tests."""

    @functools.cache
    def fit_once(name: str) -> tuple[np.ndarray, tuple[str, ...]]:
        split = split_of(pools)
        release, left = obtained(configured(f"method={name}"), split, pools)
        found = logits(release, split)
        found.setflags(write=False)
        return found, tuple(left.provenance)

    return fit_once


@pytest.mark.parametrize("name", METHODS)
def test_every_method_fits_and_names_its_provenance(name: str, first: First) -> None:
    cfg = configured(f"method={name}")
    found, provenance = first(name)
    assert np.isfinite(found).all()
    assert provenance
    assert ("public pre-training" in provenance) == ("public_model" in cfg.method)


@pytest.mark.parametrize("name", METHODS)
def test_another_seed_gives_other_bits(
    name: str, first: First, split: AuditSplit, pools: Pools
) -> None:
    cfg = configured(f"method={name}", "seed=1")
    assert not np.array_equal(first(name)[0], logits(obtain(cfg, split, pools), split))


@pytest.mark.parametrize("name", METHODS)
def test_the_same_seed_gives_the_same_bits_whichever_images_are_canaries(
    name: str, first: First, split: AuditSplit, pools: Pools
) -> None:
    cfg = configured(f"method={name}")
    others = dataclasses.replace(
        split, canaries=LabelledImages.of(pools.private)[torch.arange(20)], member=~split.member
    )
    expected, _ = first(name)
    np.testing.assert_array_equal(expected, logits(obtain(cfg, others, pools), split))


@pytest.mark.parametrize(("name", "stage"), LAST)
def test_after_the_stage_that_may_see_them_private_images_are_not_looked_at(
    name: str,
    stage: int,
    first: First,
    split: AuditSplit,
    pools: Pools,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cfg = configured(f"method={name}")
    expected, _ = first(name)
    real_fit, stages = fitting.fit, list[object]()

    def fit_then_destroy(*args: object) -> Release:
        release = real_fit(*args)
        stages.append(args)
        if len(stages) == stage:
            split.train.images.random_(0, 256)
            split.train.labels.fill_(0)
        return release

    monkeypatch.setattr(fitting, "fit", fit_then_destroy)
    np.testing.assert_array_equal(expected, logits(obtain(cfg, split, pools), split))
    assert len(stages) == stage + 1


def test_who_is_a_member_changes_the_private_set_alone_of_what_is_offered(pools: Pools) -> None:
    sizes, offers = set(), []
    for seed in range(3):
        cfg = configured("method=distill_dm", "canary.membership=bernoulli", f"seed={seed}")
        cfg.canary.num_canaries = 40
        split = offering.split_of(cfg, pools)
        offered = offering.offer_private(split) | offering.offer(cfg, pools)
        sizes.add(len(offered.pop("private")))
        offers.append(offered | {"embedder": str(offered["embedder"])})
    assert len(sizes) == 3
    assert offers[0]["expected_size"] == 80 + 40 // 2
    public = [offer.pop("public").digest() for offer in offers]
    assert pools.public is not None
    assert public == [pools.public.digest()] * 3
    assert offers[0] == offers[1] == offers[2]


def test_classifier_is_bit_identical_to_a_bare_loop(split: AuditSplit) -> None:
    torch.manual_seed(3)
    method = Classifier(
        private=split.train, model=network, num_epochs=3, batch_size=16, lr=0.1, momentum=0.9
    )
    trained = fitted(method).classifier
    torch.manual_seed(3)
    net = network().train()
    optimiser = torch.optim.SGD(
        net.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4, nesterov=True, fused=True
    )
    order, draw = stream("order"), stream("augmentation")
    per_epoch = -(-len(split.train) // 16)
    step = 0
    for _ in range(3):
        for batch in torch.randperm(len(split.train), generator=order).split(16):
            warm, after = (step + 1) / per_epoch, step - per_epoch
            cosine = 0.5 * (1 + np.cos(np.pi * after / (2 * per_epoch)))
            optimiser.param_groups[0]["lr"] = 0.1 * (warm if after < 0 else cosine)
            images = random_crop(split.train.images[batch], 1, draw)
            loss = torch.nn.functional.cross_entropy(net(images), split.train.labels[batch])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            step += 1
    for name, value in net.state_dict().items():
        torch.testing.assert_close(trained.state_dict()[name], value, rtol=0, atol=0, msg=name)


@pytest.mark.parametrize("nesterov", [True, False])
@pytest.mark.parametrize(("momentum", "weight_decay"), [(0.9, 5e-4), (0.5, 0.0), (0.0, 5e-4)])
def test_steps_are_those_of_torch_s_optimiser(
    momentum: float, weight_decay: float, nesterov: bool, split: AuditSplit
) -> None:
    options = {"lr": 0.1, "momentum": momentum, "weight_decay": weight_decay}
    few = split.train[torch.arange(32)]
    torch.manual_seed(3)
    method = Classifier(
        private=few, model=network, num_epochs=1, batch_size=8, warmup_epochs=0, schedule="step",
        crop=False, nesterov=nesterov, **options,
    )  # fmt: skip
    trained = fitted(method).classifier
    torch.manual_seed(3)
    net = network().train()
    options |= {"nesterov": nesterov and momentum > 0, "foreach": False}
    optimiser = torch.optim.SGD(net.parameters(), **options)
    for batch in torch.randperm(32, generator=stream("order")).split(8):
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(net(few.images[batch]), few.labels[batch]).backward()
        optimiser.step()
    for name, value in net.state_dict().items():
        torch.testing.assert_close(trained.state_dict()[name], value, msg=name)


def test_a_student_is_trained_with_siamese_augmentation_in_normalised_space(
    split: AuditSplit,
) -> None:
    torch.manual_seed(3)
    names = ["colour", "cutout"]
    method = Classifier(
        private=split.train, model=network, num_epochs=2, batch_size=8, lr=0.1, crop=False,
        augment=names,
    )  # fmt: skip
    method.on_fit_start()
    images = split.train.images[:8]
    seen = method.network.normalise(method.augment(images))
    expected = dsa.each(method.network.normalise(images), names, stream("siamese"))
    torch.testing.assert_close(seen, expected, rtol=1e-4, atol=1e-5)
    assert fitted(method).classifier is not None


# bf16: autocast may cache its copies of the weights until its context ends, which a chunk shares.
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_steps_per_chunk_make_no_difference(
    precision: str, split: AuditSplit, monkeypatch: pytest.MonkeyPatch
) -> None:
    states = []
    for chunk in (1, 50):
        monkeypatch.setattr("synpriv.data.images.CHUNK", chunk)
        torch.manual_seed(0)
        method = Classifier(private=split.train, model=network, num_epochs=2, batch_size=8, lr=0.1)
        states.append(fitted(method, precision).classifier.state_dict())
    for name, value in states[0].items():
        torch.testing.assert_close(states[1][name], value, rtol=0, atol=0, msg=name)


def test_released_average_is_the_recursion_over_all_steps(split: AuditSplit) -> None:
    torch.manual_seed(0)
    method = Classifier(
        private=split.train, model=network, num_epochs=1, batch_size=8, lr=0.1,
        warmup_epochs=0, ema_decay=0.5,
    )  # fmt: skip
    history: list[torch.Tensor] = []
    update = method.average.update_parameters
    method.average.update_parameters = lambda net: (
        history.append(net.head.weight.detach().clone()),
        update(net),
    )
    released = fitted(method).classifier
    expected = history[0]
    for weights in history[1:]:
        expected = 0.5 * expected + 0.5 * weights
    torch.testing.assert_close(released.head.weight, expected)
    assert len(history) == -(-len(split.train) // 8)


def test_training_on_a_learnable_set_learns_it(pools: Pools) -> None:
    private = LabelledImages.of(pools.private)
    torch.manual_seed(0)
    method = Classifier(
        private=private, model=network, num_epochs=30, batch_size=16, lr=0.1, crop=False
    )
    assert query.accuracy(fitted(method).classifier, private) > 0.95


def test_step_schedule_counts_milestones_after_the_warm_up() -> None:
    # The recipe of Aerni et al.: warm-up over epoch 1, times 0.2 at 60, 120, 160 counted after it.
    factor = lr_factor(
        schedule="step",
        num_steps=200 * 10,
        warmup_steps=10,
        milestones=[600, 1200, 1600],
        gamma=0.2,
    )
    assert factor(0) == pytest.approx(0.1)
    assert factor(9) == factor(10) == factor(609) == 1
    assert factor(610) == pytest.approx(0.2)
    assert factor(1210) == pytest.approx(0.04)
    assert factor(1999) == pytest.approx(0.008)


def test_one_cycle_rises_to_the_peak_and_falls_towards_zero() -> None:
    factor = lr_factor(schedule="one_cycle", num_steps=100, warmup_steps=10, milestones=[], gamma=1)
    rates = [factor(step) for step in range(100)]
    assert rates[9] == rates[10] == 1
    assert rates[0] == pytest.approx(0.1)
    assert rates[55] == pytest.approx(0.5)
    assert 0 < rates[99] < 0.001


@pytest.mark.parametrize(
    ("option", "value"),
    [("num_epochs", 0), ("lr", -1), ("schedule", "x"), ("warmup_epochs", 9), ("ema_decay", 1.0)],
)
def test_classifier_names_a_bad_option(option: str, value: object, split: AuditSplit) -> None:
    options = {"num_epochs": 3, "batch_size": 8, "lr": 0.1} | {option: value}
    with pytest.raises(ValueError, match=f"{option}={value}"):
        Classifier(private=split.train, model=network, **options)


gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


@pytest.mark.gpu
@gpu
@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("trainer", ["auto", "gpu"])  # in float32; in bf16 with recorded steps
def test_every_method_runs_on_a_gpu(name: str, trainer: str, tmp_path: Path) -> None:
    metrics, stored = ran(name, trainer, tmp_path)
    assert metrics["device"] == torch.cuda.get_device_name()
    exact = trainer == "auto" or name.startswith("dpsgd")
    assert metrics["arithmetic"]["precision"] == ("32-true" if exact else "bf16-mixed")
    assert np.isfinite(stored).all()


def ran(name: str, trainer: str, results: Path) -> tuple[dict, np.ndarray]:
    """Metrics and logits of a whole run on a part of the digits, and before it of its basis."""
    sizes = ("dataset.num_train=150", "dataset.num_test=60", "canary.num_canaries=20")
    cfg = configured(f"method={name}", *sizes, f"results={results}", trainer=trainer)
    folder = runs.ensure(cfg)
    with np.load(folder / "evidence.npz", allow_pickle=False) as evidence:
        return json.loads((folder / store.METRICS).read_bytes()), evidence["logits"]


def test_a_whole_run_says_what_it_was_computed_in(tmp_path: Path) -> None:
    metrics, stored = ran("coreset_random", "cpu", tmp_path)
    assert metrics["device"] == "cpu"
    assert metrics["arithmetic"]["precision"] == "32-true"
    assert metrics["arithmetic"]["classifier_step"] == "eager"
    assert stored.shape == (20, 9, 10)
    assert np.isfinite(stored).all()


@pytest.mark.gpu
@gpu
def test_queries_on_a_gpu_are_those_on_a_cpu(split: AuditSplit) -> None:
    fitting.no_tf32()
    device, classifier = torch.device("cuda"), network()
    on_cpu = query.canary_logits(classifier, split.canaries, flip=False)
    classifier.to(device, memory_format=torch.channels_last)
    with torch.autocast("cuda", dtype=torch.bfloat16):
        on_gpu = query.canary_logits(classifier, split.canaries.to(device), flip=False)
    np.testing.assert_allclose(on_gpu, on_cpu, rtol=1e-4, atol=1e-4)
