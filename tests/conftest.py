"""What the tests share: one thread, no account, run.py as a subprocess, conf/ composed."""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before anything imports torch
os.environ.pop("WANDB_API_KEY", None)

import functools
import importlib.util
import pickle
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import absl.logging
import hydra
import hypothesis
import numpy as np
import pytest
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.sources_registry import SourcesRegistry
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.plugins.config_source import ConfigResult, ConfigSource
from omegaconf import DictConfig

from synpriv import config
from synpriv.audit import audit
from synpriv.data import datasets
from synpriv.data.pool import Pool
from synpriv.recipe import Facts
from synpriv.report import figure, pairs

if TYPE_CHECKING:
    from synpriv.data.images import LabelledImages

ROOT = Path(__file__).parents[1]
# Minutes each: begun first, so that at the end no worker is left alone with one of them.
_LONGEST = ("test_study", "test_sweep", "test_tutorial", "test_chaos", "test_docs", "test_growth")
hypothesis.settings.register_profile("any machine", deadline=None)  # however busy
hypothesis.settings.load_profile("any machine")
# A shell starts background jobs deaf to Ctrl-C, and their children inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
# dp-accounting logs through absl, and Hydra closes all log handlers when it starts: absl's would
# close pytest's own stderr with it. The interpreter's it leaves open.
absl.logging.get_absl_handler().python_handler.setStream(sys.__stderr__)
sys.path.insert(0, str(ROOT))  # as `python run.py` does: Hydra looks for hydra_plugins there
# What methods that have no generator or sets of their own cannot do without.
MEANS = f"{ROOT}/tests/generators/means.py"
OUTSIDE = {
    "method=external": [f"method.generate={MEANS}:make"],
    "method=precomputed": ["method.path='sets/{seed}.npz'", "method.sha256=not_looked_at"],
}
Compose = Callable[..., DictConfig]
RunPy = Callable[..., subprocess.CompletedProcess[str]]


def pytest_configure() -> None:
    """Where all extras are to be there, as in CI, no test is skipped for want of one."""
    if os.environ.get("SYNPRIV_TEST_EXTRAS"):
        texts = (file.read_text("utf-8") for file in Path(__file__).parent.glob("test_*.py"))
        wanted = {name for text in texts for name in re.findall(r'importorskip\("(\w+)', text)}
        if missing := sorted(name for name in wanted if importlib.util.find_spec(name) is None):
            raise pytest.UsageError(f"not installed: {', '.join(missing)}; pip install -e '.[dev]'")


def facts_like(**others: object) -> Facts:
    """Facts of 60 images in ten classes, no public pool, but for `others`."""
    sizes = {"num_classes": 10, "image_shape": (1, 8, 8), "expected_size": 60, "num_train": 60}
    public = {"num_public": None, "largest_public_label": None}
    return Facts(**(sizes | public | {"smallest_class": 4, "norm": "group"} | others))


def _environment(env: dict[str, str] | None) -> dict[str, str]:
    """This process's without what a user (or an earlier test in this process) may have set."""
    ours = ("WANDB_", "HYDRA_", "SYNPRIV_")
    return {k: v for k, v in os.environ.items() if not k.startswith(ours)} | (env or {})


def _compose(
    *overrides: str, conf: Path = ROOT / "conf", return_hydra_config: bool = False
) -> DictConfig:
    """A config of its own, as `hydra.compose` gives it.

    To choose and merge files takes a third of a second, so each choice is made once; values are
    set on a copy, in their order and by Hydra's own function, as Hydra does after the choices.
    """
    if conf != ROOT / "conf":
        return _composed.__wrapped__(overrides, conf, return_hydra_config)  # its files may change
    if return_hydra_config:
        return _composed(overrides, conf, return_hydra_config).copy()
    values = [word for word in overrides if _is_value(word)]
    choices = tuple(word for word in overrides if word not in values)
    parsed = OverridesParser.create().parse_overrides(values)
    if any(override.is_sweep_override() for override in parsed):
        choices = overrides  # Hydra refuses
    cfg = _composed(choices, conf, return_hydra_config).copy()
    ConfigLoaderImpl._apply_overrides_to_config(parsed, cfg)
    return cfg


def _is_value(override: str) -> bool:
    """Whether an override is of a value, and not of Hydra's own nor a choice of a file."""
    key = override.partition("=")[0].lstrip("+~")
    return not (key.startswith("hydra") or "@" in key or (ROOT / "conf" / key).is_dir())


def _read_each_file_once() -> None:
    """Keep what Hydra parses of its own and our yaml files, a third of the time that it composes.

    A file that changed is read again. The classes are asked for, as Hydra's scan for plugins
    executes their modules a second time.
    """
    for scheme in ("file", "pkg"):
        source = SourcesRegistry.instance().resolve(scheme)
        source.load_config = functools.partialmethod(_read, source.load_config, {})


def _read(source: ConfigSource, read: Callable, kept: dict, config_path: str) -> ConfigResult:
    file = Path(source.path, source._normalize_file_name(config_path))
    state = file.stat() if source.scheme() == "file" and file.is_file() else None
    key = source.provider, str(file), state and (state.st_mtime_ns, state.st_size, state.st_ino)
    if key not in kept:
        kept[key] = pickle.dumps(read(source, config_path))
    return pickle.loads(kept[key])  # one of its own: Hydra writes into it


Plugins.instance()  # scans
_read_each_file_once()


@functools.cache
def _composed(overrides: tuple[str, ...], conf: Path, return_hydra_config: bool) -> DictConfig:
    config.register()
    with hydra.initialize_config_dir(str(conf), version_base="1.3"):
        return hydra.compose("config", list(overrides), return_hydra_config=return_hydra_config)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest files first; --no-loadscope-reorder keeps it so."""
    rank = {name: place for place, name in enumerate(_LONGEST)}
    items.sort(key=lambda item: rank.get(item.path.stem, len(rank)))


@pytest.fixture(scope="session")
def compose() -> Compose:
    """`compose(*overrides)`: the config that run.py would get."""
    return _compose


@pytest.fixture(scope="module")
def few_rounds() -> Iterator[None]:
    """Audits of this process with few rounds, for tests of all around them but the statistics.

    Module-wide, so that it holds for module-wide cells too:
    `pytestmark = pytest.mark.usefixtures("few_rounds")`.
    """
    defaults = audit.audit.__kwdefaults__
    with pytest.MonkeyPatch.context() as patch:
        for name, few in (("null_rounds", 20), ("bootstrap_rounds", 50)):
            assert defaults[name] > few
            patch.setitem(defaults, name, few)
        yield


@pytest.fixture(scope="module")
def no_pictures() -> Iterator[None]:
    """Reports of this process with empty pictures: to draw takes longer than a small audit."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (figure, pairs):
            patch.setattr(module, "png", lambda *_, **__: b"picture")
        yield


@pytest.fixture(scope="session")
def run_py() -> RunPy:
    """`run_py(*args)`: run.py to its end, in a process of its own."""

    def run(
        *args: str, env: dict[str, str] | None = None, timeout: float = 120
    ) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "run.py", *args]
        return subprocess.run(
            command,
            cwd=ROOT,
            env=_environment(env),
            timeout=timeout,
            capture_output=True,
            text=True,
            check=False,
        )

    return run


@pytest.fixture(scope="session")
def start_py() -> Callable[..., subprocess.Popen[str]]:
    """`start_py(*args)`: run.py in a process group of its own, to be interrupted."""

    def start(*args: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "run.py", *args],
            cwd=ROOT,
            env=_environment(None),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    return start


def make_pool(num: int, *, num_classes: int = 4, start: int = 0, size: int = 2) -> Pool:
    """Distinct images whose pixels count up from `start`."""
    images = np.arange(start, start + num, dtype=np.uint8).reshape(-1, 1, 1, 1)
    return Pool(np.tile(images, (1, 1, size, size)), np.arange(num) % num_classes)


def positions(data: Pool) -> list[int]:
    return data.images[:, 0, 0, 0].tolist()


class Tensors(NamedTuple):
    """A data set's pools as methods get them."""

    private: LabelledImages
    test: LabelledImages
    public: LabelledImages


def digits_as_tensors() -> Tensors:
    """The embedded digits."""
    from synpriv.data.images import LabelledImages

    source = datasets.digits()
    assert source.public is not None
    return Tensors(*map(LabelledImages.of, (source.private, source.test, source.public)))
