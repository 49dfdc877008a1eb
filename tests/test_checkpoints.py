"""A training that is killed at any moment and taken up again ends as one that was not, to a bit."""

import collections
import functools
import json
import random
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from conftest import ROOT, Compose
from safetensors import SafetensorError
from test_methods import METHODS, configured, obtained, split_of
from test_methods import pools as a_few_digits

from synpriv import config
from synpriv.data import images
from synpriv.data.images import LabelledImages
from synpriv.data.intake import Pools
from synpriv.methods.classifier import Classifier
from synpriv.results import failures, packed, store
from synpriv.shadow import runs, state, training
from synpriv.shadow.checkpoints import Checkpoint
from synpriv.shadow.costs import Costs, Stage

TINY = [
    *("dataset.num_train=120", "dataset.num_test=40", "canary.num_canaries=20", "num_models=6"),
    *("model.width=4", "logger=none", "trainer=cpu", "accuracy_models=0"),
]
AT_ONCE = "trainer.checkpoint_minutes=0"
STUDENT = ["method.student.num_epochs=2", "method.student.warmup_epochs=0"]
UNDEFENDED = [
    *("method=undefended", "method.num_epochs=3", "method.warmup_epochs=1", "method.batch_size=16"),
    *("method.ema_decay=0.9", "method.augment=[crop,colour]"),
]
EXTERNAL = ["method=external", f"method.generate={ROOT}/tests/generators/means.py:make", *STUDENT]


pools = a_few_digits  # a fixture


# A method of each kind, whoever wrote it: the others of conf/method have other values.
KINDS = {configured(f"method={name}").method["_target_"]: name for name in METHODS}


class Kill(BaseException):
    """What nothing catches."""


class Kills:
    """Ends the process, as it were, when a checkpoint was written so many times."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.written, self.after = 0, 10**9
        self.positions: list[tuple[str, int, int] | None] = []
        keep = Checkpoint.keep

        def counted(checkpoint: Checkpoint, training: dict[str, Any] | None) -> None:
            keep(checkpoint, training)
            self.written += 1
            at = training and (training["stage"], training["epoch"], training["done"])
            self.positions.append(at)
            if self.written >= self.after:
                raise Kill

        patch.setattr(Checkpoint, "keep", counted)

    def survive(self, train: Callable[[], Any], after: list[int]) -> Any:
        """What is trained in the end, after kills at those numbers of checkpoints, in turn."""
        for each in after:
            self.written, self.after = 0, each
            with pytest.raises(Kill):
                train()
        self.written, self.after = 0, 10**9
        return train()


@pytest.fixture
def kills(monkeypatch: pytest.MonkeyPatch) -> Kills:
    monkeypatch.setattr(images, "CHUNK", 3)  # several chunks per epoch
    return Kills(monkeypatch)


def left(results: Path) -> dict[str, Any]:
    """All arrays, weights and facts of the runs in a folder, but for seconds."""
    found: dict[str, Any] = {}
    for file in results.rglob("*"):
        name = str(file.relative_to(results))
        if file.suffix in (".npz", ".safetensors"):
            found[name] = file.read_bytes()
        if file.name == store.METRICS:
            about = json.loads(file.read_bytes())
            for key in ("stages", "train_s", "resumed", "metrics_sha256", "builds_on", "command"):
                about.pop(key, None)
            found[name] = about
    return found


@pytest.mark.parametrize(
    ("method", "after"),
    [(UNDEFENDED, [1, 4]), (EXTERNAL, [2, 1, 1])],
    ids=["undefended", "external"],
)
def test_a_run_that_was_killed_is_the_run_that_was_not(
    method: list[str], after: list[int], compose: Compose, kills: Kills, tmp_path: Path
) -> None:
    whole, broken = (compose(*TINY, *method, AT_ONCE, f"results={tmp_path / d}") for d in "ab")
    runs.ensure(whole)
    folder = kills.survive(lambda: runs.ensure(broken), after)
    assert left(tmp_path / "a") == left(tmp_path / "b")
    about = json.loads((folder / store.METRICS).read_bytes())
    assert about["resumed"] == len(after)
    assert not list(tmp_path.rglob(f"*{store.CHECKPOINT}*"))


class Recording:
    """A step that holds what nobody can keep, as a CUDA graph does."""

    def __init__(self, step: Any) -> None:
        self.step, self.replay = step, None

    def __call__(self, *batch: torch.Tensor) -> torch.Tensor:
        self.replay = self.replay or [].append
        return self.step(*batch)


def test_a_recorded_step_is_recorded_anew(
    compose: Compose, kills: Kills, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, broken = (compose(*TINY, *UNDEFENDED, AT_ONCE, f"results={tmp_path / d}") for d in "ab")
    runs.ensure(whole)
    eager = Classifier._stepper
    monkeypatch.setattr(Classifier, "_stepper", lambda method: Recording(eager(method)))
    folder = kills.survive(lambda: runs.ensure(broken), [3])
    assert left(tmp_path / "a") == left(tmp_path / "b")
    assert json.loads((folder / store.METRICS).read_bytes())["resumed"] == 1


@pytest.mark.slow
def test_a_public_model_is_taken_up_too(compose: Compose, kills: Kills, tmp_path: Path) -> None:
    sizes = ["channels=[4,8]", "num_iterations=9", "warmup_iterations=1"]
    method = ["method=diffusion_public", *(f"method.public_model.{each}" for each in sizes)]
    configs = (compose(*TINY, *method, AT_ONCE, f"results={tmp_path / d}") for d in "ab")
    whole, broken = (config.of_prerequisite(cfg, "public_model") for cfg in configs)
    runs._ensure_public(whole)
    folder = kills.survive(lambda: runs._ensure_public(broken), [2])
    assert left(tmp_path / "a") == left(tmp_path / "b")
    assert json.loads((folder / store.METRICS).read_bytes())["resumed"] == 1
    assert not list(tmp_path.rglob(f"*{store.CHECKPOINT}*"))


@pytest.mark.slow
def test_a_process_that_was_killed_is_gone_on_with(
    start_py: Callable[..., subprocess.Popen[str]], compose: Compose, tmp_path: Path
) -> None:
    longer = [word.replace("num_epochs=3", "num_epochs=60") for word in UNDEFENDED]
    cell = [*TINY, *longer, "seed=0"]
    often = "trainer.checkpoint_minutes=0.005"
    broken = [*cell, often, f"results={tmp_path / 'b'}"]
    first = start_py(*broken)
    deadline = time.monotonic() + 100
    while not list((tmp_path / "b").rglob(store.CHECKPOINT)) and time.monotonic() < deadline:
        assert first.poll() is None, first.communicate()
        time.sleep(0.01)
    time.sleep(0.1)  # some more are written, or one is being written
    first.send_signal(signal.SIGKILL)
    first.communicate(timeout=60)
    assert list((tmp_path / "b").rglob(store.CHECKPOINT))
    runs.ensure(compose(*broken))
    runs.ensure(compose(*cell, f"results={tmp_path / 'a'}"))
    assert left(tmp_path / "a") == left(tmp_path / "b")
    (about,) = (json.loads(f.read_bytes()) for f in (tmp_path / "b").rglob(store.METRICS))
    assert about["resumed"] == 1
    assert not list((tmp_path / "b").rglob(f"*{store.CHECKPOINT}*"))


def same_release(one: Any, other: Any) -> bool:
    """Of all that `obtain` returns."""

    def parts(both: Any) -> dict[str, Any]:
        release, fitted = both
        found = {f"c.{k}": v for k, v in release.classifier.state_dict().items()}
        if release.generator is not None:
            found |= {f"g.{k}": v for k, v in release.generator.state_dict().items()}
        if release.synthetic is not None:
            found |= {"images": release.synthetic.images, "labels": release.synthetic.labels}
        if release.indices is not None:
            found["indices"] = release.indices
        return found | {k: torch.from_numpy(v) for k, v in fitted.records.items()}

    a, b = parts(one), parts(other)
    same = a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)
    return same and one[1].metrics == other[1].metrics and one[1].provenance == other[1].provenance


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(KINDS.values()))
def test_every_method_goes_on_to_the_last_bit(
    name: str, pools: Pools, kills: Kills, tmp_path: Path
) -> None:
    cfg, split = configured(f"method={name}", AT_ONCE), split_of(pools)

    def train(folder: str) -> Any:
        found = Checkpoint(tmp_path / folder, 0, Costs(), dict)
        return obtained(cfg, split, pools, found)

    whole, number = train("a"), kills.written
    assert number > 1
    first = random.Random(name).randint(1, number)
    later = random.Random(name).randint(1, max(1, number - first))
    after = [first] if first + later > number else [first, later]
    assert same_release(whole, kills.survive(functools.partial(train, "b"), after)), after


def test_what_was_generated_is_not_generated_again(
    compose: Compose, kills: Kills, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from synpriv.methods.external.external import External

    calls, real = [], External._by_function
    monkeypatch.setattr(External, "_by_function", lambda *a: calls.append(0) or real(*a))
    cfg = compose(*TINY, *EXTERNAL, AT_ONCE, f"results={tmp_path}", "method.check_repeats=false")
    train = functools.partial(runs.ensure, cfg)
    kills.survive(train, [2])
    assert None in kills.positions  # between the stages
    assert len(calls) == 1


def test_a_short_training_writes_nothing(
    compose: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Checkpoint, "keep", lambda *_: pytest.fail("written"))
    monkeypatch.setattr(packed, "read", lambda *_: pytest.fail("read"))
    folder = runs.ensure(compose(*TINY, *UNDEFENDED, f"results={tmp_path}"))
    assert json.loads((folder / store.METRICS).read_bytes())["resumed"] == 0


@pytest.mark.parametrize("harm", ["flip", "seed", "version", "shape", "keys"])
def test_what_cannot_be_trusted_is_named_and_begun_anew(
    harm: str,
    compose: Compose,
    kills: Kills,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    cfg = compose(*TINY, *UNDEFENDED, AT_ONCE, f"results={tmp_path}")
    kills.after = 5
    with pytest.raises(Kill):
        runs.ensure(cfg)
    (file,) = tmp_path.rglob(store.CHECKPOINT)
    content = bytearray(file.read_bytes())
    if harm == "flip":
        content[len(content) // 2] ^= 4
        file.write_bytes(content)
    else:
        tree = packed.read(file)
        if harm == "seed":
            tree["of"]["seed"] = 3
        elif harm == "keys":
            del tree["costs"]
        elif harm == "version":
            tree["of"]["versions"]["numpy"] = "1.0"
        else:
            tree["training"]["method"]["digest"] = "of another method"
            tree["costs"]["fit"]["wall_s"] = 1e6
        packed.write(file, tree)
    failures.note(file.parent, "killed")
    kills.after, kills.positions = 10**9, []
    folder = runs.ensure(cfg)
    (line,) = (m for m in caplog.messages if "begins anew" in m)
    words = {"flip": "damaged", "seed": "another seed", "keys": "is none (KeyError"}
    assert words.get(harm, "versions" if harm == "version" else "not built as") in line
    assert str(file) in line
    assert kills.positions[0] == ("fit", 0, 1)
    about = json.loads((folder / store.METRICS).read_bytes())
    assert about["resumed"] == 0
    assert about["train_s"] < 1e5
    assert failures.of(folder) is None
    assert not file.exists()


@pytest.mark.parametrize(
    "error",
    [OSError(28, "No space left on device"), ValueError("No space left"), SafetensorError("left")],
    ids=lambda error: type(error).__name__,
)
def test_a_full_disk_costs_the_checkpoint_and_not_the_training(
    error: Exception,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def full(file: Path, content: object) -> None:
        raise error

    monkeypatch.setattr(packed, "write", full)
    found = Checkpoint(tmp_path, 0, Costs(), dict)
    found.keep(None)
    found.keep(None)
    (line,) = (m for m in caplog.messages if "checkpoint" in m)
    assert "left" in line


def test_a_folder_in_its_place_costs_the_checkpoint_and_not_the_run(
    compose: Compose,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    cfg = compose(*TINY, *UNDEFENDED, AT_ONCE, f"results={tmp_path}")
    (runs.cell_of(cfg).run(cfg.seed) / store.CHECKPOINT).mkdir(parents=True)
    folder = runs.ensure(cfg)
    assert (folder / store.METRICS).is_file()
    runs.ensure(cfg)
    none, *stays = (m for m in caplog.messages if "checkpoint" in m)
    assert none.startswith("no checkpoint, a killed training begins anew")
    assert len(stays) == 2
    assert all("of no use any more stays" in line for line in stays)


def test_a_checkpoint_is_of_one_device_and_number_of_threads(
    compose: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda *_: "One GPU")
    monkeypatch.setattr(training, "device_of", lambda _: torch.device("cuda"))
    cfg = compose(*TINY, *UNDEFENDED, "trainer.num_threads=3")
    about = training._checkpoint(cfg, tmp_path, Costs(), str, {})._about()
    assert (about["device"], about["number of threads"]) == ("One GPU", 3)


def test_costs_of_interrupted_parts_add_up() -> None:
    costs = Costs()
    costs.add_earlier({"fit": Stage(10.0, 8.0, 50.0)}, {})
    with costs.stage("fit"):
        time.sleep(0.02)
        running = costs.so_far()["fit"]
    assert running.peak_mb > 50  # a Python with torch holds more
    done = costs.stages["fit"]
    assert 10.02 <= running.wall_s <= done.wall_s < 12
    assert 8.0 <= done.cpu_s < 10
    assert done.peak_mb >= running.peak_mb


def test_what_was_spent_on_what_is_begun_anew_does_not_count() -> None:
    costs = Costs()
    costs.add_earlier({"fit": Stage(10.0, flops=1e6), "student": Stage(1.0, flops=5.0)}, {})
    with costs.stage("student"):
        costs.forget_earlier("student")
    assert costs.stages["student"].wall_s < 1
    assert costs.stages["student"].flops is None
    assert costs.stages["fit"].flops == 1e6


class Thing(torch.nn.Module):
    """A bit of everything that a method may hold."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(2, 2)
        self.count, self.best, self.log = 0, None, list[Any]()
        self.draw, self.numpy = torch.Generator().manual_seed(1), np.random.default_rng(1)
        self.data = LabelledImages(torch.zeros(3, 1, 2, 2, dtype=torch.uint8), torch.arange(3))
        self.bank, self.inside = self.data, SimpleNamespace()
        self.named = {"a": torch.zeros(2), "b": self.layer.weight}
        self.window = collections.deque([1, 2], maxlen=2)
        self.seen = {3}

    def step(self) -> None:
        """Change all of it."""
        self.count += 1
        with torch.no_grad():
            self.layer.weight += torch.rand(2, 2, generator=self.draw)
        self.layer.weight.data.mul_(2)
        self.layer.bias.grad = torch.ones(2) * self.count
        self.best = (self.layer.weight.detach().clone(), [self.count, float("nan")])
        self.log.append(self.best[0])
        self.named["a"] += 1
        self.named[f"c{self.count}"] = torch.full((1,), self.numpy.random())
        bank = torch.full((self.count, 1, 2, 2), self.count, dtype=torch.uint8)
        self.bank = LabelledImages(bank, torch.arange(self.count))
        self.window.append(self.count)
        self.seen.add(self.count)
        self.eval()

    def tells(self) -> str:
        tensors = [self.layer.weight, self.layer.bias.grad, *self.log, *self.named.values()]
        plain = [self.count, self.window, self.seen, self.layer.training, self.best[1]]
        rows = [t.tolist() for t in [*tensors, self.bank.images, self.data.images]]
        draws = [torch.rand(2, generator=self.draw).tolist(), self.numpy.random()]
        return repr([*plain, rows, draws])


def test_all_that_a_method_may_hold_is_put_back(tmp_path: Path) -> None:
    worn, anew = Thing(), Thing()
    anew.load_state_dict(worn.state_dict())
    before, after = state.Graph({"method": worn}), state.Graph({"method": anew})
    for _ in range(3):
        worn.step()
    packed.write(tmp_path / "x", before.changes())
    weight = anew.layer.weight
    after.restore(packed.read(tmp_path / "x"))
    assert anew.layer.weight is anew.named["b"] is weight  # whoever holds it sees it
    assert anew.log[-1] is anew.best[0]
    worn.step()
    anew.step()
    assert worn.tells() == anew.tells()


@pytest.mark.parametrize("held", [iter([1]), open, {object(): 1}], ids=["iterator", "file", "key"])
def test_what_nobody_can_keep_is_refused_and_not_left_out(held: Any, tmp_path: Path) -> None:
    thing = Thing()
    if held is open:
        with (tmp_path / "file").open("w") as thing.held:
            graph = state.Graph({"method": thing})
    else:
        thing.held = held
        graph = state.Graph({"method": thing})
    with pytest.raises(state.CannotKeepError, match=r"^method\.held is a"):
        graph.changes()
    later = Thing()
    graph = state.Graph({"method": later})
    later.held = iter([1])
    with pytest.raises(state.CannotKeepError, match=r"^method\.held"):
        graph.changes()


class Spy:
    """A hook that counts."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, *_: Any) -> None:
        self.calls += 1


class NoisySGD(torch.optim.SGD):
    """Holds more than its state_dict tells."""

    calls, noise = 0, ()

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        self.calls += 1
        super().step(closure)


class Window(collections.deque):
    """Has attributes beside its content."""


class Shared:
    """Keeps things with its class."""

    bank: list[int] = []  # noqa: RUF012
    draws = 0


class User(torch.nn.Module):
    """What somebody else's method may hold, by the part of it that changes."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(2, 2)
        self.flag, self.epochs = True, list[int]()
        self.spies = Spy(), Spy(), Spy()
        self.layer.register_forward_hook(self.spies[0])
        self.layer.weight.register_hook(self.spies[1])
        Shared.bank, Shared.draws = [], 0
        self.shared = Shared()
        self.optimiser = NoisySGD(self.layer.parameters(), lr=0.1, momentum=0.9)
        torch.optim.lr_scheduler.ConstantLR(self.optimiser)
        self.optimiser.register_step_post_hook(self.spies[2])
        self.recent = collections.OrderedDict(a=1, b=2)
        self.window = Window([1])
        self.large = torch.zeros(2**19)

    def begin_epoch(self) -> None:
        """What comes before the first step, after the walk, and again before it is put back."""
        self.flag, self.extra = True, 1
        self.epochs.append(len(self.epochs))

    def step(self) -> None:
        self.flag = not self.flag
        vars(self).pop("extra", None)
        self.epochs.clear()
        self.recent.move_to_end("a")
        self.window.append(2)
        self.window.seen = getattr(self.window, "seen", 0) + 1
        self.shared.bank.append(len(self.shared.bank))
        type(self.shared).draws += 1
        self.optimiser.zero_grad()
        self.layer(torch.ones(1, 2)).sum().backward()
        self.optimiser.step()

    def tells(self) -> dict[str, Any]:
        return {
            "flag": (self.flag, hasattr(self, "extra"), list(self.epochs)),
            "hooks": [spy.calls for spy in self.spies],
            "order": list(self.recent),
            "optimiser": (self.optimiser.calls, self.optimiser.param_groups[0]["lr"]),
            "momentum": [x["momentum_buffer"].tolist() for x in self.optimiser.state.values()],
            "class": (list(self.shared.bank), Shared.draws),
            "beside": (list(self.window), self.window.seen),
        }


def test_what_somebody_elses_method_hides_is_found_and_put_back(tmp_path: Path) -> None:
    worn = User()
    graph = state.Graph({"method": worn})
    worn.begin_epoch()
    for _ in range(3):
        worn.step()
    worn.flag = True  # as before the first step
    worn.window.seen = 5
    packed.write(tmp_path / "x", graph.changes())
    told = worn.tells()
    anew = User()
    after = state.Graph({"method": anew})
    anew.begin_epoch()
    anew.flag = False
    anew.step()
    after.restore(packed.read(tmp_path / "x"))
    assert anew.tells() == told
    assert anew.optimiser.calls == 3
    assert anew.spies[0].calls == 3


def test_a_large_tensor_that_a_hook_changed_again_is_not_put_back_wrongly() -> None:
    kept = state.Graph({"method": User()}).changes()
    anew = User()
    graph = state.Graph({"method": anew})
    anew.large += 1
    with pytest.raises(ValueError, match=r"^method\.large was changed"):
        graph.restore(kept)


def _half(thing: User) -> None:
    thing.memory = torch.zeros(4)
    thing.half = thing.memory[:2]


ALIASES: dict[str, Callable[[User], Any]] = {
    "two new": _half,
    "weight": lambda thing: setattr(thing, "weight", thing.layer.weight.data),
    "momentum": lambda thing: setattr(
        thing, "momentum", thing.optimiser.state[thing.layer.bias]["momentum_buffer"]
    ),
    "gradient": lambda thing: setattr(thing, "gradient", thing.layer.bias.grad),
    "array": lambda thing: setattr(thing, "array", thing.layer.weight.detach().numpy()[1:]),
    "hook": lambda thing: thing.layer.register_forward_hook(Spy()),
    "attributes": lambda thing: setattr(thing, "window", Window([1])),
}


@pytest.mark.parametrize("made", ALIASES.values(), ids=ALIASES)
def test_what_would_come_back_as_something_else_is_refused(made: Callable[[User], Any]) -> None:
    thing = User()
    graph = state.Graph({"method": thing})
    thing.step()
    graph.changes()
    made(thing)
    with pytest.raises(state.CannotKeepError, match=r"^method\."):
        graph.changes()


def test_plain_data_comes_back_as_it_was(tmp_path: Path) -> None:
    whole = torch.arange(24, dtype=torch.float32).view(1, 2, 3, 4)
    tree = {
        "last": whole.to(memory_format=torch.channels_last),
        "view": whole[:, 1],
        1: (1, 1.0, 0.1 + 0.2, float("inf"), None, True, "x", -0.0),
        "half": [torch.ones(2, dtype=torch.bfloat16), torch.zeros(0), torch.tensor(3)],
        "array": np.arange(3, dtype=np.uint32),
        "big": 2**127,
    }
    packed.write(tmp_path / "x", tree)
    found = packed.read(tmp_path / "x")
    assert repr(found) == repr(tree)
    assert found["last"].stride() == tree["last"].stride()
    assert (tmp_path / "x").stat().st_size < 4000
    with pytest.raises(TypeError, match="object"):
        packed.write(tmp_path / "y", {"x": object()})
    assert not (tmp_path / "y").exists()
    whole_file = (tmp_path / "x").read_bytes()
    rng = random.Random(0)
    for _ in range(50):
        content = bytearray(whole_file)
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        (tmp_path / "x").write_bytes(
            rng.choice([content, whole_file[: rng.randrange(len(content))]])
        )
        with pytest.raises(ValueError, match="damaged"):
            packed.read(tmp_path / "x")
