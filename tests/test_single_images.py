"""A batch of a single image, of which BatchNorm has no variance where images are 1x1."""

import functools

import pytest
import torch
from conftest import digits_as_tensors
from omegaconf import OmegaConf

from synpriv import models, schema, tracking
from synpriv.data.images import LabelledImages
from synpriv.methods.classifier import Classifier
from synpriv.shadow.fitting import fit

CPU = OmegaConf.structured(schema.Trainer(accelerator="cpu"))
FACTS = {"channels": 1, "size": 8, "num_classes": 10, "mean": [0.3], "std": [0.37], "width": 8}
resnet = functools.partial(models.resnet18, **FACTS)  # 1x1 in its last stage
convnet = functools.partial(models.convnet, **FACTS)  # 4x4 in its last


def some(num: int) -> LabelledImages:
    return digits_as_tensors().private[torch.arange(num)]


def test_a_training_set_that_leaves_one_image_over_trains_a_resnet() -> None:
    method = Classifier(private=some(33), model=resnet, num_epochs=2, batch_size=32, lr=0.1)
    fit(method, CPU, tracking.NoTracker(), "fit")


def test_the_schedule_ends_with_the_steps_that_are_taken() -> None:
    method = Classifier(
        private=some(33), model=resnet, num_epochs=4, batch_size=16, lr=0.1, warmup_epochs=0
    )
    fit(method, CPU, tracking.NoTracker(), "fit")
    scheduler = method.lr_schedulers()
    assert isinstance(scheduler, torch.optim.lr_scheduler.LambdaLR)
    assert scheduler.last_epoch == 8  # two steps per epoch, not three
    assert scheduler.get_last_lr() == [0.0]


def test_batches_of_one_are_refused_only_where_they_would_fail() -> None:
    single = {"private": some(5), "num_epochs": 2, "batch_size": 1, "lr": 0.1}
    with pytest.raises(ValueError, match=r"^batch_size=1: must be at least 2: a norm layer"):
        Classifier(model=resnet, **single)
    method = Classifier(model=convnet, **single)
    assert int(method.network.features[1].num_batches_tracked) == 0  # trying it left no trace
    fit(method, CPU, tracking.NoTracker(), "fit")
