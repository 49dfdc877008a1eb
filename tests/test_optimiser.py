"""AdamW as a recipe's optimiser: a training against torch's own, and what names a cell."""

import functools

import pytest
import torch
from conftest import Compose
from omegaconf import OmegaConf
from torch.nn.functional import cross_entropy

from synpriv import config, models
from synpriv.data.images import LabelledImages
from synpriv.methods import recipe
from synpriv.methods.classifier import Classifier, lr_factor
from synpriv.schema import Trainer
from synpriv.shadow import fitting
from synpriv.shadow.training import quieten
from synpriv.tracking import NoTracker

SIZES = {"num_epochs": 3, "batch_size": 4, "lr": 9.0, "crop": False, "warmup_epochs": 0}
ADAMW = {"optimiser": "adamw", "adamw_lr": 0.01, "adamw_weight_decay": 0.2}


def test_steps_are_those_of_torch_s_adamw() -> None:
    """Batches of all images, so that their order is no matter; a rate that falls."""
    torch.manual_seed(0)
    data = LabelledImages(torch.randint(0, 256, (4, 1, 8, 8), dtype=torch.uint8), torch.arange(4))
    make = functools.partial(
        models.convnet, channels=1, size=8, num_classes=4, mean=[0.3], std=[0.4], width=4
    )
    quieten()
    torch.manual_seed(1)
    method = Classifier(private=data, model=make, **SIZES, **ADAMW)
    trainer = OmegaConf.structured(Trainer(accelerator="cpu"))
    learnt = fitting.fit(method, trainer, NoTracker(), "fit").classifier
    assert learnt is not None
    torch.manual_seed(1)
    network = make().train()
    optimiser = torch.optim.AdamW(network.parameters(), lr=0.01, weight_decay=0.2)
    factor = lr_factor(schedule="one_cycle", num_steps=3, warmup_steps=0, milestones=(), gamma=1)
    for step in range(3):
        optimiser.param_groups[0]["lr"] = 0.01 * factor(step)
        optimiser.zero_grad()
        cross_entropy(network(data.images), data.labels).backward()
        optimiser.step()
    for own, expected in zip(learnt.parameters(), network.parameters(), strict=True):
        torch.testing.assert_close(own, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], {"method": "sgd"}),
        (["model=vit_tiny"], {"method": "adamw"}),
        (["method=coreset_random", "model=vit_tiny"], {"method.student": "adamw"}),
        (
            ["method=coreset_random", "model=vit_tiny", "model@method.student.model=convnet"],
            {"method.student": "sgd"},
        ),
        (["method=dfkd", "model@method.teacher.model=vit_tiny"], {"method.teacher": "adamw"}),
        (["method=coreset_el2n", "model=convnext_tiny"], {"method.proxy": "adamw"}),
    ],
)
def test_a_network_says_which_optimiser_its_recipe_takes(
    words: list[str], expected: dict[str, str], compose: Compose
) -> None:
    cfg = compose(*words)
    for where, optimiser in expected.items():
        assert OmegaConf.select(cfg, f"{where}.optimiser") == optimiser
        name = where.rpartition(".")[2]
        if name in config.prerequisites(cfg.method):
            assert config.of_prerequisite(cfg, name).method.optimiser == optimiser


def test_only_what_an_optimiser_reads_names_a_cell(compose: Compose) -> None:
    sgd, adamw = compose().cell, compose("method.optimiser=adamw").cell
    assert compose("method.adamw_lr=0.1", "method.adamw_weight_decay=0").cell == sgd != adamw
    assert compose("method.optimiser=adamw", "method.lr=0.9", "method.momentum=0").cell == adamw
    assert compose("method.optimiser=adamw", "method.adamw_lr=0.1").cell != adamw
    assert compose("model.classifier_optimiser=adamw").cell == adamw  # said, and what it comes to


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"optimiser": "lion"}, r"^optimiser=lion: must be sgd or adamw"),
        ({"adamw_lr": 0.0}, r"^adamw_lr=0.0: must be positive"),
        ({"adamw_weight_decay": -1.0}, r"^adamw_weight_decay=-1.0: must be at least 0"),
    ],
)
def test_wrong_values_are_refused(option: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        recipe.Classifier(**(SIZES | option))
