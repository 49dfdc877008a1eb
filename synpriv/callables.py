"""A function that a user names, `package.module:function` or `path/to/file.py:function`.

What of it counts in a cell's name, and importing it. A program's command line counts here too.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import json
import operator
import os
import re
import shlex
import sys
import traceback
from collections.abc import Callable, Sequence
from importlib.machinery import PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from synpriv import fingerprint
from synpriv.data.content import expanded, sha256
from synpriv.signatures import require

RIGHT = "package.module:function or path/to/file.py:function"
Function = Callable[..., Any]
# Programs that run another: a file of that name in a command is not what makes the set.
_RUNNERS = re.compile(
    r"(python|pypy|julia|ruby|perl|node|java|R|Rscript|bash|sh|zsh|env|conda|uv|nice)[\d.]*"
)
_CHANGED = "changed while the sweep was running; start the sweep again"


class Name(NamedTuple):
    """Where a function is: in a file or in a module on the Python path."""

    file: Path | None
    module: str
    function: str


def named(generate: str) -> Name:
    """The parts of a function's name; ValueError, beginning with `generate=`, where it is none."""
    place, _, function = generate.rpartition(":")
    dotted = all(part.isidentifier() for part in function.split("."))
    require(bool(place) and dotted, f"generate={generate}", RIGHT)
    if not (place.endswith(".py") or "/" in place):
        fits = all(part.isidentifier() for part in place.split("."))
        require(fits, f"generate={generate}", RIGHT)
        return Name(None, place, function)
    file = expanded(place, f"generate={generate}").absolute()
    if not os.path.isfile(file):
        raise ValueError(f"generate={generate} (no file {file}): must be {RIGHT}")
    return Name(file, file.stem, function)


def code_sha256(generate: str | None, command: str | None, code: Sequence[str] | None) -> str:
    """What names the cell of somebody's generator: content, not places.

    Of a file its content, of a module also the version of its distribution, of a command its words
    with files by content. `code`: files and folders that count besides; of what a generator
    imports nothing does.
    """
    try:
        parts: list[Any] = [] if generate is None else _of_function(generate)
        parts += [] if command is None else [word.content for word in _counted(words(command))]
        parts += [_of_path(path) for path in code or ()]
    except ValueError as error:
        raise ValueError(f"method.{error}") from error
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def check_unchanged(
    generate: str | None, command: str | None, code: Sequence[str], sha256: str
) -> None:
    """Refuse a generator that is not, or not any more, the one that its cell is called after."""
    if code_sha256(generate, command, code) != sha256:
        what = f"generate={generate}" if command is None else f"command={command}"
        raise ValueError(f"method.{what}: {_CHANGED}")


def method_name(generate: str | None, command: str | None) -> str:
    """What tables call a generator: external_ and its function, or the first file of a command."""
    called = _called(command or "") if generate is None else generate.rpartition(":")[2]
    plain = re.sub(r"\W+", "_", called, flags=re.ASCII).strip("_")
    return f"external_{plain}" if plain else "external"


def _called(command: str) -> str:
    try:
        typed = shlex.split(command)
    except ValueError:  # what is wrong with it is said by `words`
        typed = command.split()
    files = [file.stem for word in _counted(typed)[1:] for file in _own(word)]
    return next(iter([*files, *(Path(word).stem for word in typed[:1])]), "")


def names_itself(command: str) -> bool:
    """Whether a file of the program itself is in its command, and so in the name of its cell."""
    return any(_own(word) for word in _counted(words(command)))


def words(command: str) -> list[str]:
    """A command line as a shell would split it; no shell is asked."""
    try:
        found = shlex.split(command)
    except ValueError as error:
        raise ValueError(f"command={command}: {str(error).lower()}; close it") from error
    require(bool(found), f"command={command!r}", "a program and its arguments")
    return found


def _of_function(generate: str) -> list[str]:
    name = named(generate)
    if name.file is not None:
        return [name.function, sha256(name.file)]
    file = fingerprint.module_file(name.module)
    require(file is not None, f"generate={generate} (no module {name.module})", RIGHT)
    assert file is not None
    version = fingerprint.own_sha256(name.module, "method")
    return [name.module, name.function, version, sha256(file)]


class Word(NamedTuple):
    """What of a word of a command counts in a cell's name, and the files in it."""

    content: Any
    files: tuple[Path, ...] = ()


def _own(word: Word) -> list[Path]:
    """The files in a word that are no interpreter or shell."""
    return [file for file in word.files if not _RUNNERS.fullmatch(file.name)]


def _counted(words: Sequence[str]) -> list[Word]:
    """Each word; one after -m is a module, as it is for python."""
    pairs = zip(["", *words], words, strict=False)
    return [(before == "-m" and _of_module(word)) or _of_word(word) for before, word in pairs]


def _of_word(word: str) -> Word:
    """A file by its content, a folder by its name alone, all else as it is.

    Files are looked for in what follows a `=` and among the words of a line for a shell, too.
    """
    path = Path(os.path.expanduser(word))
    if os.path.isfile(path):  # unlike Path.is_file, says no to a word that is too long for a name
        return Word(sha256(path), (path,))
    if os.path.isdir(path):
        return Word(path.name)
    before, equals, after = word.partition("=")
    inner = _line(word)
    if len(inner) > 1:
        parts = _counted(inner)
    elif equals and after:
        parts = [Word(before), _of_word(after)]
    else:
        return Word(word)
    files = tuple(file for part in parts for file in part.files)
    return Word([part.content for part in parts], files) if files else Word(word)


def _line(word: str) -> list[str]:
    """The words of a line for a shell, as in bash -c '...'; of what is none nothing."""
    lexer = shlex.shlex(word, posix=True, punctuation_chars=True)
    lexer.whitespace_split, lexer.commenters = True, ""
    try:
        return list(lexer)
    except ValueError:  # an apostrophe: text that is no line for a shell
        return []


def _of_module(name: str) -> Word | None:
    """A module's file, or all of its package's, where python would find them from here.

    Of the working folder or PYTHONPATH; None for others, which are of an environment.
    """
    parts = name.split(".")
    if not all(part.isidentifier() for part in parts):
        return None
    for root in ("", *os.environ.get("PYTHONPATH", "").split(os.pathsep)):
        folder = Path(root or ".").joinpath(*parts)
        for file in (folder / "__main__.py", folder.with_suffix(".py")):
            if os.path.isfile(file):
                top, first = Path(root or "."), Path(root or ".", parts[0])
                every = [file] if file.parent == top else sorted(first.rglob("*.py"))
                found = [(str(one.relative_to(top)), sha256(one)) for one in every if one.is_file()]
                return Word([name, found], (folder,))
    return None


def _of_path(written: str) -> Any:
    """Content of a file, or of the files below a folder with their names in it."""
    path = expanded(written, f"code=[{written}]")
    if os.path.isfile(path):
        return sha256(path)
    if not os.path.isdir(path):
        raise ValueError(f"code=[{path}]: no such file or folder; must be what counts besides")
    files = sorted(file for file in path.rglob("*") if file.is_file())
    counted = [(file.relative_to(path), file) for file in files]
    return [
        (name.as_posix(), sha256(file))
        for name, file in counted
        if not any(part.startswith(".") or part == "__pycache__" for part in name.parts)
    ]


_loaded: dict[str, tuple[list[str], Function]] = {}  # by name, with the content it had
_home: list[Path] = []  # the folder of a user's file that is on the path now, at most one


def load(generate: str) -> Function:
    """The function, imported once; its file's folder is first on the path, as a script's is.

    A change of its own file after the import is refused. Called before every use: modules of
    another file's folder are forgotten, so that equal names are not confused.
    """
    name, content = named(generate), _of_function(generate)
    if name.file is not None:
        _move_to(name.file.parent)
    if generate not in _loaded:
        _loaded[generate] = content, _imported(name, generate, content[-1])
    before, function = _loaded[generate]
    if before != content:
        raise ValueError(f"generate={generate}: changed while it was in use; start again")
    return function


def _move_to(folder: Path) -> None:
    """Put a folder first on the path in place of the last one, whose modules are forgotten."""
    if _home == [folder]:
        return
    for old in _home:
        if str(old) in sys.path:
            sys.path.remove(str(old))
        _forget(old)
    _home[:] = [folder]
    sys.path.insert(0, str(folder))


def _forget(folder: Path) -> None:
    """Drop modules that only this folder has, so that another's of the same name are imported."""
    for name, module in list(sys.modules.items()):
        file, package = getattr(module, "__file__", None), name.partition(".")[0]
        if file is not None and Path(file).is_relative_to(folder):
            elsewhere = PathFinder.find_spec(package)
            origin = getattr(sys.modules.get(package), "__file__", None)
            if elsewhere is None or (origin is not None and elsewhere.origin != origin):
                del sys.modules[name]


def _imported(name: Name, generate: str, code: str) -> Function:
    try:
        module = _from_file(name.file, code) if name.file else importlib.import_module(name.module)
        function = operator.attrgetter(name.function)(module)
    except (Exception, SystemExit) as error:  # importing a module runs whatever is in it
        why = next(iter(str(error).splitlines()), "")
        frames = traceback.extract_tb(error.__traceback__)
        own = [frame for frame in frames if name.file and frame.filename == str(name.file)]
        where = f", {own[-1].filename}:{own[-1].lineno}" if own else ""
        raise ValueError(
            f"generate={generate}: must be {RIGHT} ({type(error).__name__}: {why}{where})"
        ) from error
    require(callable(function), f"generate={generate}", "a function")
    return function


def _from_file(file: Path, code: str) -> ModuleType:
    """A module of its own name: a user's random.py is not Python's."""
    spec = importlib.util.spec_from_file_location(f"{file.stem}_{code[:8]}", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module
