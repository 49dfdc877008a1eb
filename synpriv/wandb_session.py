"""W&B as this process reaches it: settings, key, mode; the only file that imports wandb.

Importing it takes most of a second, so that is done when a run begins.
"""

from __future__ import annotations

import importlib
import io
import logging
import os
import re
import shlex
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from synpriv import probe

log = logging.getLogger(__name__)
INIT_TIMEOUT_S = 3.0  # of a server that has answered already; giving up takes 2 s more
FINISH_TIMEOUT_S = 60.0  # of uploading what is left; the rest stays for `wandb sync`
NO_KEY = "it has no key"
Mode = Literal["online", "shared", "offline"]
# Of WANDB_MODE and of W&B's settings files; None mirrors nothing.
_MEANT: dict[str, Mode | None] = {
    **{"online": "online", "run": "online", "shared": "shared"},
    **{"offline": "offline", "dryrun": "offline", "disabled": None},
}
# Where W&B looks up what `wandb login` stored: it has moved from version to version.
_KEY_LOOKUPS: tuple[tuple[str, Callable[[Any, Any], str | None]], ...] = (
    ("wandb.sdk.lib.wbauth", lambda module, its: module.read_netrc_auth(host=its.base_url)),
    ("wandb.sdk.lib.apikey", lambda module, its: module.api_key(its)),
)
# What an agent of a W&B sweep says to the command that it starts.
_AGENT = ("WANDB_SWEEP_ID", "WANDB_RUN_ID", "WANDB_SWEEP_PARAM_PATH")
_decided: list[Mode | None] = []  # how this process mirrors, None: not at all; the last counts


def check() -> None:
    """Refuse, before anything is trained, an environment with which W&B would mirror nothing."""
    mode, url = os.environ.get("WANDB_MODE"), os.environ.get("WANDB_BASE_URL")
    if mode is not None and mode not in _MEANT:
        raise ValueError(f"WANDB_MODE={mode}: must be one of {', '.join(_MEANT)}, or unset")
    if url is not None and not _is_url(url):
        shown = probe.without_password(url)
        raise ValueError(f"WANDB_BASE_URL={shown}: must be https://HOST or http://HOST, or unset")


def _is_url(text: str) -> bool:
    try:
        parts = urlsplit(text)
        _ = parts.port  # raises if it is no number
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname)


def agents_run() -> str | None:
    """The id of the run that an agent of a W&B sweep waits for; None where no agent began this."""
    return os.environ.get("WANDB_RUN_ID") if os.environ.get("WANDB_SWEEP_ID") else None


@contextmanager
def _environment(*, agents: bool) -> Iterator[None]:
    """What an agent says is seen by its own run alone: every other one would join its sweep.

    W&B reads it once per process and then ignores whatever id, project and entity it is given.
    """
    if agents_run() is None:
        yield
        return
    import wandb

    hidden = {} if agents else {k: os.environ.pop(k) for k in _AGENT if k in os.environ}
    wandb.teardown()  # forgets what it has read
    try:
        yield
    finally:
        os.environ.update(hidden)


def folders(results: Path, name: str, kind: str) -> list[Path]:
    """What W&B has written of a run, one folder per start."""
    ours = re.compile(rf"{kind}-\d+_\d+-{re.escape(name)}")
    return [folder for folder in results.glob("wandb/*run-*") if ours.fullmatch(folder.name)]


def image(picture: Path | bytes, caption: str | None = None) -> Any:
    """A picture as W&B logs it, from a file or from the bytes of one."""
    import wandb

    if isinstance(picture, Path):
        return wandb.Image(str(picture), caption=caption)
    from PIL import Image

    return wandb.Image(Image.open(io.BytesIO(picture)), caption=caption)


def table(columns: list[str | int], rows: list[list[Any]]) -> Any:
    """A table as W&B logs it; None and values of several types may share a column."""
    import wandb

    return wandb.Table(columns=columns, data=rows, allow_mixed_types=True)


def artifact(run: Any, file: str, content: bytes) -> Any:
    """One file as an artifact of a run: the same bytes are uploaded once."""
    import wandb

    found = wandb.Artifact(f"{run.id}-page", type="report")
    with found.new_file(file, mode="wb") as stream:
        stream.write(content)
    return found


def settle(results: Path) -> None:
    """Decide for the processes that this one will start: a silent server costs a sweep once."""
    try:
        import wandb
    except ImportError:
        return  # `begin` says so
    _decided.append(_decide(results))
    wandb.teardown()  # the children would share this process's service
    if _decided[-1] == "offline":
        os.environ["WANDB_MODE"] = "offline"


def begin(*, agents: bool = False, **arguments: Any) -> Any:
    """An online run if W&B can be reached with a key, else an offline one, else None.

    agents: the run that the agent of a W&B sweep waits for; its id must be that of `agents_run`.
    """
    try:
        with _environment(agents=agents):
            return _begin(**arguments)
    except ImportError as error:
        log.warning("W&B cannot be imported (%s): nothing is mirrored", error)
    except Exception as error:  # noqa: BLE001 - a mirror must never stop an experiment
        log.warning("W&B mirrors nothing: %s", probe.in_one_line(error))
    return None


def _begin(**arguments: Any) -> Any:
    if not _decided:
        _decided.append(_decide(Path(arguments["dir"])))
    if _decided[-1] in ("online", "shared"):
        run = _online(**arguments)
        if run is not None:
            return run
    return None if _decided[-1] is None else _init(**arguments)


def _online(**arguments: Any) -> Any:
    """A run on the server, else None: what the attempt has written is removed again."""
    import wandb

    results, name = Path(arguments["dir"]), arguments["id"]
    there = folders(results, name, "run")
    try:
        return _init(resume="allow", **arguments)
    except Exception as error:  # noqa: BLE001 - a mirror must never stop an experiment
        _decided.append("offline")  # a slow server must not delay every run of this process
        url = probe.without_password(wandb.setup().settings.base_url)
        wandb.teardown()  # until then the id is in use
        _say_offline(url, probe.without_password(str(error).partition("\n")[0]), results)
    for folder in set(folders(results, name, "run")) - set(there):
        shutil.rmtree(folder, ignore_errors=True)
    return None


def _init(**arguments: Any) -> Any:
    import wandb

    results = Path(arguments["dir"]).absolute()
    results.mkdir(parents=True, exist_ok=True)
    # What artifacts hold until they are uploaded: beside the runs, not in the user's home.
    os.environ.setdefault("WANDB_DATA_DIR", str(results / "wandb"))
    if _decided[-1] == "offline":  # of the whole process: its telemetry would wait at every exit
        wandb.setup(wandb.Settings(mode="offline"))
    options: dict[str, Any] = {"finish_timeout": FINISH_TIMEOUT_S}  # of newer versions
    known = {name: value for name, value in options.items() if name in wandb.Settings.model_fields}
    settings = wandb.Settings(
        console="off",
        silent=True,
        init_timeout=INIT_TIMEOUT_S,
        x_disable_stats=True,
        x_disable_machine_info=True,
        x_save_requirements=False,
        disable_git=True,
        disable_code=True,
        **known,
    )
    if agents_run() is not None and wandb.setup().settings.sweep_id:  # it has its own
        arguments = {k: v for k, v in arguments.items() if k not in ("id", "project", "entity")}
    return wandb.init(mode=_decided[-1], reinit="finish_previous", settings=settings, **arguments)


def _decide(results: Path) -> Mode | None:
    """What W&B's own settings ask for, offline if its server does not take the key."""
    try:
        mode, url, problem = reach()
    except Exception as error:  # noqa: BLE001 - a mirror must never stop an experiment
        log.warning("W&B mirrors nothing, it cannot be set up: %s", probe.in_one_line(error))
        return None
    if problem == NO_KEY:
        log.info("W&B has no key for %s: offline (`wandb login` stores one)", url)
    elif problem is not None:
        _say_offline(url, problem, results)
    return mode


def reach() -> tuple[Mode | None, str, str | None]:
    """How W&B would be used now, its address, and why its server cannot be; takes 2 s at most."""
    import wandb

    settings: Any = wandb.setup().settings
    mode, url = _MEANT[settings.mode], probe.without_password(settings.base_url)
    if mode is None or mode == "offline":
        return mode, url, None
    key = _key(settings)
    if key is None and not getattr(settings, "identity_token_file", None):
        return "offline", url, NO_KEY
    problem = probe.refusal(url, key)
    return mode if problem is None else "offline", url, problem


def default_entity() -> str:
    """Whose projects are meant where nobody is named: the server's answer."""
    import wandb

    return str(wandb.Api().default_entity or "")


def _key(settings: Any) -> str | None:
    """The key that the installed W&B would use."""
    if settings.api_key:
        return settings.api_key
    for name, look_up in _KEY_LOOKUPS:
        try:
            module = importlib.import_module(name)
        except ModuleNotFoundError:
            continue
        return look_up(module, settings)
    log.warning("what `wandb login` stored is not found in this version: set WANDB_API_KEY")
    return None


def _say_offline(url: str, problem: str, results: Path) -> None:
    log.warning(
        "W&B at %s: %s; runs stay offline. Upload later: wandb sync %s/offline-run-*",
        url,
        problem or "refused the run",
        shlex.quote(str(results.absolute() / "wandb")),
    )
