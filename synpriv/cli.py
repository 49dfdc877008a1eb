"""The command line around Hydra: flags anywhere, ranges `a..b[..step]`, errors in one line."""

from __future__ import annotations

import difflib
import os
import re
import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from hydra.errors import HydraException, MissingConfigException
from omegaconf.errors import (
    ConfigAttributeError,
    ConfigKeyError,
    InterpolationResolutionError,
    OmegaConfBaseException,
)

FLAGS = {
    *("--help", "-h", "--hydra-help", "--version", "--resolve", "--run", "-r"),
    *("--multirun", "-m", "--shell-completion", "-sc"),
}
VALUE_FLAGS = {
    *("--cfg", "-c", "--package", "-p", "--config-path", "-cp"),
    *("--config-name", "-cn", "--config-dir", "-cd"),
}
SHOW_TRACEBACK = os.environ.get("HYDRA_FULL_ERROR") == "1"
_INT = r"[+-]?\d+"
_RANGE = re.compile(rf"({_INT})\.\.({_INT})(?:\.\.({_INT}))?")
_LIST = re.compile(r"[^=]+=[^\[\]{}()'\"]*,[^\[\]{}()'\"]*")  # a,b, not [a,b] or 'a,b'
_FROM_RESOLVER = "raised while resolving interpolation: "
_PART_OF_RANGE = re.compile(rf"(?=.*\d)(?:{_INT})?\.\.+(?:{_INT})?(?:\.\.+(?:{_INT})?)?")


def call(main: Callable[[], object]) -> None:
    """Run Hydra's `main` on the normalised command line."""
    os.environ["HYDRA_FULL_ERROR"] = "1"  # else Hydra prints its own several lines and exits
    os.environ["SYNPRIV_COMMAND"] = shlex.join(["python", *sys.argv])
    with errors_in_one_line():
        sys.argv[1:] = normalise(sys.argv[1:])
        main()


@contextmanager
def errors_in_one_line() -> Iterator[None]:
    """Exit with one line for a user's mistake, with the traceback if HYDRA_FULL_ERROR=1."""
    try:
        yield
    except KeyboardInterrupt:
        print("interrupted: finished runs are kept, the same command continues", file=sys.stderr)
        sys.exit(130)
    except (HydraException, OmegaConfBaseException, ValueError, OSError) as error:
        if SHOW_TRACEBACK:
            raise
        sys.exit(f"error: {one_line(error)}")


def normalise(argv: list[str]) -> list[str]:
    """Flags first, then overrides with inclusive integer ranges in Hydra's own sweep syntax.

    Hydra 1.3 accepts overrides on one side of `-m` only and reads `0..63` as a string.
    """
    flags: list[str] = []
    overrides: list[str] = []
    words = iter(argv)
    for word in words:
        name = word.split("=", 1)[0]
        if word in FLAGS or (name in VALUE_FLAGS and "=" in word):
            flags.append(word)
        elif word in VALUE_FLAGS:
            value = next(words, "")
            if word in ("--cfg", "-c") and value not in ("job", "hydra", "all"):
                raise ValueError(f"{word} {value}: must be followed by job, hydra or all")
            flags += [word, value]
        elif word.startswith("-"):
            known = sorted(FLAGS | VALUE_FLAGS)
            raise ValueError(f"unknown flag {word}{_did_you_mean(name, known)}; see --help")
        elif "=" not in word and not word.startswith("~"):
            raise ValueError(f"missing '=' in {word!r}: write {word}=VALUE")
        else:
            overrides.append(expand_override(word))
    keys = [override.split("=", 1)[0] for override in overrides]
    twice = [key for key in dict.fromkeys(keys) if keys.count(key) > 1]
    if twice:
        raise ValueError(f"{twice[0]} is given twice; give it once")
    sweeps = [old for old, new in _pairs(argv, overrides) if old != new or _LIST.fullmatch(old)]
    multirun = {"-m", "--multirun"} & set(flags) or "hydra.mode=MULTIRUN" in overrides
    if sweeps and not multirun and not {"--cfg", "-c"} & set(flags):
        raise ValueError(f"{sweeps[0]} is a sweep: add -m")
    return flags + overrides


def _pairs(argv: list[str], overrides: list[str]) -> list[tuple[str, str]]:
    """Overrides as typed and as expanded."""
    keys = {override.split("=", 1)[0]: override for override in overrides}
    return [(word, keys[key]) for word in argv if (key := word.split("=", 1)[0]) in keys]


def expand_override(override: str) -> str:
    """`seed=0..3` -> `seed=range(0,4)`; anything that holds no range is returned as it is."""
    key, equals, value = override.partition("=")
    return f"{key}{equals}{expand(value, key)}" if equals else override


def expand(value: str, key: str) -> str:
    """`a..b[..step]` (inclusive), alone or in a comma-separated list, as Hydra sweep syntax."""
    parts = [part.strip() for part in value.split(",")]
    if not any(_PART_OF_RANGE.fullmatch(part) for part in parts):
        return value
    if len(parts) == 1:
        start, stop, step = _bounds(parts[0], key)
        by = "" if step == 1 else f",{step}"
        return f"range({start},{stop + (1 if step > 0 else -1)}{by})"
    expanded: list[str] = []
    for part in parts:
        if _PART_OF_RANGE.fullmatch(part):
            start, stop, step = _bounds(part, key)
            expanded += map(str, range(start, stop + (1 if step > 0 else -1), step))
        else:
            expanded.append(part)
    return ",".join(expanded)


def _bounds(text: str, key: str) -> tuple[int, int, int]:
    match = _RANGE.fullmatch(text)
    if match is None:
        raise ValueError(f"{key}={text}: incomplete range; write a..b or a..b..step")
    start, stop, step = int(match[1]), int(match[2]), int(match[3] or 1)
    if step == 0:
        raise ValueError(f"{key}={text}: the step must not be 0")
    if (stop - start) * step < 0:
        raise ValueError(f"{key}={text}: {start}..{stop} is empty; write the smaller end first")
    return start, stop, step


def one_line(error: BaseException) -> str:
    """What was wrong and what would be right, without Hydra's and OmegaConf's extra lines."""
    if isinstance(error, MissingConfigException) and error.options:
        group, _, choice = str(error.missing_cfg_file).rpartition("/")
        options = ", ".join(sorted(error.options))
        return f"{group}={choice}: no such {group}; must be one of {options}"
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename}: {error.strerror}"
    cause = error.__cause__
    if isinstance(cause, OmegaConfBaseException):
        return one_line(cause)
    if isinstance(error, ConfigKeyError | ConfigAttributeError):
        return _unknown_key(error)
    if isinstance(error, InterpolationResolutionError) and _FROM_RESOLVER in str(error):
        # Of a resolver's own error OmegaConf keeps only the text.
        return str(error).partition(_FROM_RESOLVER)[2].partition("\n")[0]
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    keys = [line.removeprefix("full_key: ") for line in lines if line.startswith("full_key: ")]
    text = "; ".join(
        x for x in lines if not x.startswith(("full_key:", "object_type=", "See http"))
    )
    return f"{keys[0]}: {text}" if keys else text or type(error).__name__


def _unknown_key(error: ConfigKeyError | ConfigAttributeError) -> str:
    key = str(error.full_key)
    siblings = [str(name) for name in (error.parent_node or {})]
    hint = _did_you_mean(key.rpartition(".")[2], siblings)
    return f"{key}: no such key{hint or '; it has ' + ', '.join(siblings)}"


def _did_you_mean(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]}?" if close else ""
