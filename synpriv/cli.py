"""The command line around Hydra: flags anywhere, ranges, any path, errors in one line."""

from __future__ import annotations

import functools
import os
import re
import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeGuard

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException, MissingConfigException
from omegaconf.errors import (
    ConfigAttributeError,
    ConfigKeyError,
    InterpolationResolutionError,
    OmegaConfBaseException,
)

from synpriv import checkout, errors, hints, interrupts, terminal

FLAGS = {
    *("--help", "-h", "--hydra-help", "--version", "--resolve", "--run", "-r"),
    *("--multirun", "-m", "--shell-completion", "-sc"),
}
VALUE_FLAGS = {
    *("--cfg", "-c", "--package", "-p", "--config-path", "-cp"),
    *("--config-name", "-cn", "--config-dir", "-cd"),
}
_FLAGS_OF_FILES = VALUE_FLAGS - {"--cfg", "-c"}
SHOW_TRACEBACK = os.environ.get("HYDRA_FULL_ERROR") == "1"
_INT = r"[+-]?\d+"
_RANGE = re.compile(rf"({_INT})\.\.({_INT})(?:\.\.({_INT}))?")
# Keys whose value is a path: by their last component, and by the whole of them.
_PATHS = {"path", "root", "results", "reports"}
_OF_READERS = {f"{of}.{key}" for of in ("dataset", "public") for key in ("labels", "test_path")}
# Keys whose value is taken as it is typed.
_TEXTS = {"method.command", "objective.maximise", "objective.subject_to"}
_FREE = ("method.options.",)  # what keys begin with that a user's own code names
# The network of a part of a method, which Hydra knows as a group: model@method.teacher.model=NAME.
_NETWORK = re.compile(r"^(?:\+?model@)?method\.((?:teacher|proxy|student)\.model|embedder)=")
_FUNCTION = re.compile(r"[a-z]+\(.*\)")  # of Hydra: choice('a b','c')
_SHORT_LIST = 8  # options that are listed beside a suggestion
_NOISE = ("full_key:", "object_type=", "reference_type=", "See http")  # of OmegaConf
_FROM_RESOLVER = "raised while resolving interpolation: "
_PART_OF_RANGE = re.compile(rf"(?=.*\d)(?:{_INT})?\.\.+(?:{_INT})?(?:\.\.+(?:{_INT})?)?")


def call(main: Callable[[], object]) -> None:
    """Run Hydra's `main` on the normalised command line."""
    terminal.never_fail()
    os.environ["HYDRA_FULL_ERROR"] = "1"  # else Hydra prints its own several lines and exits
    os.environ["SYNPRIV_COMMAND"] = checkout.as_typed(sys.argv)
    with errors_in_one_line():
        interrupts.raise_in_main()
        sys.argv[1:] = normalise(sys.argv[1:])
        main()


@contextmanager
def errors_in_one_line() -> Iterator[None]:
    """Exit with one line whatever goes wrong, with the traceback if HYDRA_FULL_ERROR=1."""
    try:
        yield
    except KeyboardInterrupt as stop:
        print(interrupts.LINE, file=sys.stderr)
        sys.exit(interrupts.exit_code(stop))
    except BrokenPipeError:  # of `| head`: nobody reads on
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.exit(141)
    except Exception as error:
        if SHOW_TRACEBACK:
            raise
        sys.exit(f"error: {one_line(error)}")


def normalise(argv: list[str]) -> list[str]:
    """Flags first, then overrides in Hydra's grammar: ranges expanded, paths quoted.

    Hydra 1.3 accepts overrides on one side of `-m` only and reads `0..63` as a string. The network
    of a part of a method is chosen as that of the method: method.teacher.model=resnet18.
    """
    flags: list[str] = []
    overrides: list[str] = []
    sweeps: list[str] = []  # as typed
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
            raise ValueError(f"unknown flag {word}{hints.did_you_mean(name, known)}; see --help")
        elif "=" not in word and not word.startswith("~"):
            raise ValueError(f"missing '=' in {word!r}: write {word}=VALUE")
        else:
            parsed = _in_hydra_s_grammar(_NETWORK.sub(r"model@method.\1=", word))
            overrides.append(str(parsed.input_line))
            sweeps += [word] * parsed.is_sweep_override()
    keys = [override.split("=", 1)[0] for override in overrides]
    twice = [key for key in dict.fromkeys(keys) if keys.count(key) > 1]
    if twice:
        raise ValueError(f"{twice[0]} is given twice; give it once")
    multirun = {"-m", "--multirun"} & set(flags) or "hydra.mode=MULTIRUN" in overrides
    if sweeps and not multirun and not {"--cfg", "-c"} & set(flags):
        raise ValueError(f"{sweeps[0]} is a sweep: add -m")
    return flags + overrides


def flags_of_files(command: str) -> list[str]:
    """The flags of a command line, as it was typed, that say where its yaml files lie."""
    words, found = iter(shlex.split(command)), list[str]()
    for word in words:
        if word in _FLAGS_OF_FILES:
            found += [word, next(words, "")]
        elif word.partition("=")[0] in _FLAGS_OF_FILES:
            found.append(word)
    return found


def _in_hydra_s_grammar(override: str) -> Override:
    """What Hydra reads as it was meant, or an error that says how to quote it."""
    key, equals, value = override.partition("=")
    plain, free = key.lstrip("+"), key.lstrip("+").startswith(_FREE)
    if free:
        key = f"++{plain}"
    if plain == "objective" and equals:
        right = "objective.maximise=... and objective.subject_to=..."
        raise ValueError(f"{override}: has parts; write {right}")
    if plain in _TEXTS and equals:
        parsed = _parse(f"{key}={text(value)}")
    elif equals and not free and (plain.rpartition(".")[2] in _PATHS or plain in _OF_READERS):
        parsed = _parse(f"{key}={path(value, key)}")
    else:
        parsed = _parse(expand_override(f"{key}{equals}{value}"))
    if parsed is not None:
        hints.check_hydra(plain)
        return parsed
    if not equals or _parse(f"{key}=''") is None:
        raise ValueError(f"{override}: {key!r} is no key; write KEY=VALUE")
    raise ValueError(f"{override}: quote it for Hydra and the shell: {_shell(key, value)}")


def path(value: str, key: str) -> str:
    """A path with any characters, quoted where Hydra would not read it as it is.

    With commas it is one path if that exists, else a sweep if each part exists, else one path;
    `results` and `reports` are always one. What is quoted already, a function of Hydra and an
    interpolation stay.
    """
    if value in ("", "null") or value[0] in "'\"" or _FUNCTION.fullmatch(value):
        return value
    whole = os.path.expanduser(value)
    if "${" in value:  # OmegaConf knows no way to escape it that survives a sweep
        if os.path.exists(whole) or _parse(f"x={value}") is None:
            raise ValueError(f"{key}={value}: '${{' in a path is an interpolation; rename the path")
        return value
    parts = [os.path.expanduser(part.strip()) for part in value.split(",")]
    swept = key.lstrip("+") not in ("results", "reports") and not os.path.exists(whole)
    if not (swept and len(parts) > 1 and all(map(os.path.exists, parts))):
        parts = [whole]
    return ",".join(part if _reads_as_it_is(part) else quoted(part) for part in parts)


def text(value: str) -> str:
    """A line with any characters, quoted for Hydra unless it is already or is an interpolation."""
    as_it_is = value in ("", "null") or value[0] in "'\"" or "${" in value
    return value if as_it_is else quoted(value)


def _reads_as_it_is(text: str) -> bool:
    parsed = _parse(f"x={text}")
    return parsed is not None and not parsed.is_sweep_override() and parsed.value() == text


def quoted(text: str) -> str:
    """A string of Hydra's grammar: a backslash means itself, except before a quote or the end."""
    return "'" + re.sub(r"(\\*)('|$)", lambda m: m[1] * 2 + ("\\'" if m[2] else ""), text) + "'"


def _shell(key: str, value: str) -> str:
    """The override as it is typed in a shell, its value quoted for Hydra too."""
    word = f"{key}={quoted(value)}"
    return shlex.quote(word) if set(word) & set('"$`\\!') else f'"{word}"'


def _parse(override: str) -> Override | None:
    """An override as Hydra reads it, None if its grammar forbids it."""
    try:
        return _parser().parse_override(override)
    except HydraException:
        return None


@functools.cache
def _parser() -> OverridesParser:
    return OverridesParser.create()


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
    """What was wrong and what would be right, in what a terminal shows as one line."""
    return terminal.one_line(_in_words(error))


def _in_words(error: BaseException) -> str:
    """Without Hydra's and OmegaConf's extra lines.

    An error that is no refused value begins with its class and ends with where it was raised.
    """
    if isinstance(error, MissingConfigException) and error.options:
        group, _, choice = str(error.missing_cfg_file).rpartition("/")
        hint = hints.did_you_mean(choice, list(error.options))
        options = f"{'' if hint else ';'} must be one of {', '.join(sorted(error.options))}"
        short = not hint or len(error.options) <= _SHORT_LIST
        return f"{group}={choice}: no such {group}{hint}{options if short else ''}"
    if _names_a_file(error):
        return f"{error.filename}: {error.strerror}"
    cause = error.__cause__
    if isinstance(cause, OmegaConfBaseException):
        return _in_words(cause)
    if isinstance(error, ConfigKeyError | ConfigAttributeError):
        return hints.unknown_key(error)
    if isinstance(error, InterpolationResolutionError) and _FROM_RESOLVER in str(error):
        if (own := _raised_in_resolver(error)) is not None:
            return one_line(own)
        # Of an error in a nested resolver OmegaConf keeps only the text.
        return str(error).partition(_FROM_RESOLVER)[2].partition("\n")[0]
    said_by_others = isinstance(error, HydraException | OmegaConfBaseException)
    if said_by_others and isinstance(cause, ValueError) and errors.is_foreseen(cause):
        return _in_words(cause)  # of a launcher's own options
    if not said_by_others and not errors.is_foreseen(error):
        return _in_words(cause) if _names_a_file(cause) else errors.unforeseen(error)
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    keys = [line.removeprefix("full_key: ") for line in lines if line.startswith("full_key: ")]
    text = "; ".join(
        x
        for x in lines
        if not x.startswith(("full_key:", "object_type=", "reference_type=", "See"))
    )
    text = f"{keys[0]}: {text}" if keys else text or type(error).__name__
    return hints.unknown_option(text) or text


def _names_a_file(error: BaseException | None) -> TypeGuard[OSError]:
    return isinstance(error, OSError) and bool(error.filename)


def _raised_in_resolver(error: BaseException) -> BaseException | None:
    """The error that a resolver raised itself, behind those that OmegaConf made of it."""
    inner: BaseException | None = error
    while isinstance(inner, OmegaConfBaseException):
        inner = inner.__cause__ or inner.__context__
    return inner
