"""A network of the user's own: the document's example as it stands, and what is refused."""

import functools
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from conftest import ROOT, Compose, RunPy
from omegaconf import DictConfig
from safetensors import safe_open

from synpriv.config import science
from synpriv.report import networks
from synpriv.results import names, store
from synpriv.shadow import runs
from synpriv.shadow.networks import check_networks
from synpriv.shadow.pools import load_pools
from synpriv.shadow.recipes import own_networks, recipes_of

DOCUMENT = (ROOT / "docs" / "add_a_model.md").read_text()
SMALL = ["dataset.num_train=60", "dataset.num_test=20", "canary.num_canaries=10", "num_models=6"]
QUIET = ["logger=none", "trainer=cpu", "accuracy_models=0"]
Make = Callable[..., DictConfig]


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder with my_net.py and my_conf/ of the document, on the Python path."""
    folder = tmp_path_factory.mktemp("example")
    (folder / "my_conf" / "model").mkdir(parents=True)
    blocks = dict(re.findall(r"```(python|yaml)\n(.*?)```", DOCUMENT, re.DOTALL)[1::-1])
    (folder / "my_net.py").write_text(blocks["python"])
    (folder / "my_conf" / "model" / "my_net.yaml").write_text(blocks["yaml"])
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        yield folder
    sys.modules.pop("my_net", None)


@pytest.fixture
def make(compose: Compose, example: Path) -> Make:
    found = f"hydra.searchpath=[file://{example}/my_conf]"
    return lambda *words: compose(found, *SMALL, *QUIET, *words)  # equal words are composed once


def refused(cfg: DictConfig) -> None:
    check_networks(own_networks(cfg, recipes_of(cfg).get("method")), load_pools(cfg), cfg)


def test_the_example_is_tried_and_its_content_names_the_cell(make: Make, example: Path) -> None:
    cfg = make("model=my_net")
    state = torch.random.get_rng_state()
    own = own_networks(cfg, recipes_of(cfg)["method"])
    assert [(each.where, each.needs) for each in own] == [("model", ())]
    refused(cfg)
    assert torch.equal(torch.random.get_rng_state(), state)
    named = science(cfg)["model"]
    assert named["_target_"] == "my_net.my_net"
    file = example / "my_net.py"
    content = file.read_text()
    file.write_text(content.replace("GroupNorm(8", "GroupNorm(4"))
    assert science(cfg)["model"]["code_sha256"] != named["code_sha256"]
    file.write_text(content)


def test_every_part_s_own_network_is_tried_for_what_its_method_needs(make: Make) -> None:
    def parts(*words: str) -> dict[str, tuple[str, ...]]:
        cfg = make(*words)
        return {where: needs for where, _, needs in own_networks(cfg, recipes_of(cfg)["method"])}

    assert parts("method=distill", "model@method.embedder=my_net") == {
        "method.embedder": ("features",)
    }
    proxy, student = "model@method.proxy.model=my_net", "model@method.student.model=my_net"
    assert parts("method=coreset_herding", proxy) == {"method.proxy.model": ("features",)}
    assert parts("method=coreset_el2n", student) == {"method.student.model": ()}
    assert parts("method=dfkd", "model@method.teacher.model=my_net") == {
        "method.teacher.model": ("batch_norm",)
    }


def test_a_teacher_without_batch_norm_is_refused_and_group_norm_suits_dp_sgd(make: Make) -> None:
    right = r"^method\.teacher\.model: a network without BatchNorm: must be with BatchNorm"
    with pytest.raises(ValueError, match=right):
        refused(make("method=dfkd", "model@method.teacher.model=my_net"))
    refused(make("method=dpsgd", "model=my_net"))
    refused(make("method=distill", "model@method.embedder=my_net"))


WRONG = """
import torch
from torch import nn
from synpriv.models import Network

def make(*, kind: str, channels, size, num_classes, mean, std):
    body, wide = nn.Sequential(nn.Conv2d(channels, 8, 3, 2, 1), nn.ReLU(), nn.Flatten()), 8 * 16
    if kind == "plain":
        return nn.Sequential(body, nn.Linear(wide, num_classes))
    if kind == "norm":
        body.insert(1, nn.BatchNorm2d(8))
    if kind == "frozen":
        body.insert(0, nn.BatchNorm2d(channels, track_running_stats=False))
    if kind == "dropout":
        body.append(nn.Dropout(0.5))
    if kind == "wide":
        wide += 1
    if kind == "maps":
        body = body[:2]
        return Network(body, nn.Sequential(nn.Flatten(), nn.Linear(wide, num_classes)), mean, std)
    if kind == "idle":
        body.unused = nn.Linear(3, 3)
        body.forward = lambda x: body[2](body[1](body[0](x)))
    network = Network(body, nn.Linear(wide, num_classes + (kind == "classes")), mean, std)
    if kind == "nan":
        nn.init.constant_(network.head.bias, float("nan"))
    if kind == "bytes":
        network.normalise = lambda images: images.float()
    if kind == "random":
        network.head.register_forward_hook(lambda m, i, out: out + torch.rand_like(out))
    if kind == "twice":
        network.head.register_forward_hook(lambda m, i, out: out + m.forward(i[0]))
    return network
"""
MESSAGES = {
    "plain": r"model: makes a Sequential: must be a synpriv\.models\.Network\(features, head",
    "classes": r"model: logits are torch\.float32 \(4, 11\): must be floating \(4, 10\)",
    "nan": "model: logits are not finite",
    "idle": r"model: features\.unused\.weight, features\.unused\.bias get no gradient: must",
    "wide": r"model\._target_=odd_net\.make: tried on 4 images: RuntimeError: .*mat1 and mat2",
    "random": "model: gives other logits when asked again: must be deterministic in eval mode",
    "frozen": "model: logits depend on the rest of a batch",
    "bytes": "model: logits of bytes and of the same images in 0..1 differ",
}


@pytest.fixture
def odd(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, make: Make) -> Iterator[Make]:
    """A config whose network of that name is one of WRONG's kinds."""
    (tmp_path / "odd_net.py").write_text(WRONG)
    monkeypatch.syspath_prepend(str(tmp_path))

    def made(kind: str, *words: str, part: str = "model") -> DictConfig:
        cfg = make(*words)
        node = {"_target_": "odd_net.make", "name": "odd", "kind": kind}
        if part == "model":
            cfg.model = node
        else:
            cfg.method[part] = node
        return cfg

    yield made
    sys.modules.pop("odd_net", None)


@pytest.mark.parametrize("kind", MESSAGES)
def test_a_network_that_breaks_the_contract_is_one_line(odd: Make, kind: str) -> None:
    with pytest.raises(ValueError, match=f"^{MESSAGES[kind]}") as caught:
        refused(odd(kind))
    assert "\n" not in str(caught.value)


def test_dropout_and_statistics_keep_the_contract(odd: Make) -> None:
    for kind in ("good", "dropout", "norm", "maps"):
        refused(odd(kind))
    refused(odd("norm", "method=dfkd"))  # the teacher's too
    refused(odd("dropout", "method=dpsgd"))


def test_what_a_method_needs_is_said_of_the_part_that_lacks_it(odd: Make) -> None:
    with pytest.raises(
        ValueError, match=r"^method\.embedder: its head is a Sequential: must be an"
    ):
        refused(odd("maps", "method=distill", part="embedder"))
    with pytest.raises(ValueError, match=r"^model: BatchNorm at features\.1: must be GroupNorm"):
        refused(odd("norm", "method=dpsgd"))
    with pytest.raises(ValueError, match=r"^model: per-sample gradients do not add up to the"):
        refused(odd("twice", "method=dpsgd"))
    with pytest.raises(ValueError, match=r"^model: a network without BatchNorm"):
        refused(odd("good", "method=dfkd"))
    with pytest.raises(ValueError, match=r"^model: its head is a Sequential"):
        refused(odd("maps", "method=coreset_k_center"))
    refused(odd("maps", "method=coreset_el2n"))


def test_another_embedder_is_asked_and_another_student_is_released(
    make: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import my_net

    asked: Counter[str] = Counter()
    original = my_net.my_net

    @functools.wraps(original)
    def counted(**options: object) -> torch.nn.Module:
        network = original(**options)
        network.features.register_forward_hook(lambda *_: asked.update(["features"]))
        return network

    monkeypatch.setattr(my_net, "my_net", counted)
    tiny = ["method=distill", "method.num_iterations=2", "method.images_per_class=1"]
    tiny += ["method.student.num_epochs=1", "method.student.warmup_epochs=0"]
    parts = ["model@method.embedder=my_net", "model@method.student.model=convnet3"]
    cfg = make(*tiny, *parts, "method.student.model.width=6")
    cfg.results = str(tmp_path)
    folder = runs.ensure(cfg)
    assert asked["features"] >= 4  # real and synthetic images, twice
    with safe_open(folder / store.CLASSIFIER, "pt") as weights:
        names = weights.keys()
        shapes = {name: tuple(weights.get_tensor(name).shape) for name in names}
    assert shapes["features.0.weight"] == (6, 1, 3, 3)
    assert shapes["head.weight"][0] == 10
    assert sum(name.endswith("weight") for name in shapes) == 3 * 2 + 1  # convnet3's depth


def test_a_page_names_the_audited_network_and_the_others(make: Make) -> None:
    parts = ["model@method.embedder=my_net", "model@method.student.model=convnet3"]
    said = networks.in_words(names.flat(science(make("method=distill", *parts))))
    audited = "audited network: convnet3 (width 128, depth 3, norm instance)"
    assert re.fullmatch(
        re.escape(audited) + r"; embedder: my_net \(width 32, code_sha256 \w+\)", said
    )
    cfg = make("method=dfkd", "model@method.teacher.model=my_net")
    same = networks.in_words(names.flat(science(cfg)))
    assert same.startswith("audited network: convnet (width 16, norm batch); teacher: my_net (")
    del cfg.method.teacher.model
    same = networks.in_words(names.flat(science(cfg)))
    assert same == "audited network and teacher: convnet (width 16, norm batch)"


@pytest.mark.slow
def test_the_document_s_command_runs(example: Path, run_py: RunPy, tmp_path: Path) -> None:
    words = ["--config-dir", str(example / "my_conf"), "model=my_net", f"results={tmp_path}"]
    tiny = [
        "method=coreset_random",
        "method.student.num_epochs=2",
        "method.student.warmup_epochs=0",
    ]
    env = {"PYTHONPATH": f"{example}:{ROOT}"}
    done = run_py(
        *words,
        *tiny,
        *SMALL,
        *QUIET,
        "hydra.launcher.num_workers=1",
        "-m",
        "seed=0..1",
        env=env,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr + done.stdout
    assert len(list(tmp_path.rglob(store.CLASSIFIER))) == 2
