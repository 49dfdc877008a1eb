"""The recipes of somebody's own generator, and of sets that were made elsewhere."""

from __future__ import annotations

import inspect
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from synpriv import callables
from synpriv.data import sets
from synpriv.data.content import expanded
from synpriv.data.returned import Wanted
from synpriv.recipe import Facts, Recipe
from synpriv.signatures import require

PLACEHOLDERS = ("input", "output", "seed")  # what a command must hold
UNKNOWN = "unknown (external)"  # the channels of a generator that nobody has named
GIVEN = ("seed", "num_classes")  # what a function is given besides its options


@dataclass(frozen=True, kw_only=True)
class External(Recipe):
    """Options of `methods.external.external.External`.

    generate: a function, `package.module:function` or `path/to/file.py:function`. command: or a
    program, a line in which {input}, {output} and {seed} stand for two npz files and a number, and
    {options} for the options as JSON. code: files and folders that name the cell besides. options:
    what the function is given besides, by name. provenance: channels through which private data
    reach the release. timeout_s: of a command, seconds. check_repeats: whether the cell's first run
    makes its set twice and warns if they differ. sha256: `callables.code_sha256` of the generator.
    """

    makes = "synpriv.methods.external.external.External"
    parts = ("student",)

    generate: str | None = None
    command: str | None = None
    options: Mapping[str, Any]
    code: Sequence[str] = ()
    provenance: Sequence[str] = ()
    timeout_s: float = 86_400.0
    check_repeats: bool = True
    sha256: str

    def __post_init__(self) -> None:
        one = (self.generate is None) != (self.command is None)
        both = "null" if self.generate is None else f"{self.generate} beside a command"
        right = "a function, or method.command a program, one of the two"
        require(one, f"generate={both}", right)
        require(self.timeout_s > 0, f"timeout_s={self.timeout_s}", "positive")
        for name in GIVEN:
            require(name not in self.options, f"options.{name}", "left out: it is given anyway")
        if self.generate is not None:
            _check_function(self.generate, self.options)
        if self.command is not None:
            _check_command(self.command, self.options)

    @property
    def channels(self) -> tuple[str, ...]:
        """Provenance, as far as it is known."""
        return tuple(self.provenance) or (UNKNOWN,)

    def warnings(self) -> tuple[str, ...]:
        """That a changed program would not change the cell's name, where that is so."""
        if self.command is None or self.code or callables.names_itself(self.command):
            return ()
        return (
            "method.command: nothing of this program names its cell, so that one that has changed "
            "is taken for the same: add 'method.code=[FILE,FOLDER]'",
        )

    @property
    def where(self) -> str:
        """What made a set, for the messages about it."""
        return f"method.generate={self.generate}" if self.generate else "method.command"


def _check_function(generate: str, options: Mapping[str, Any]) -> None:
    """Import it and compare its arguments with what it will be given."""
    function = callables.load(generate)
    try:
        signature = inspect.signature(function)
    except ValueError:  # of some that are written in C
        return
    try:
        signature.bind(None, None, seed=0, num_classes=2, **options)
    except TypeError as error:
        raise ValueError(
            f"generate={generate}: must take (images, labels, *, seed, num_classes) and "
            f"method.options, {sorted(options)}: {error}"
        ) from error


def _check_command(command: str, options: Mapping[str, Any]) -> None:
    words = callables.words(command)
    found = re.findall(r"\{(\w*)\}", command)
    for name in PLACEHOLDERS:
        why = ", or all shadow models share its draws" if name == "seed" else ""
        require(name in found, f"command={command}", f"with {{{name}}} in it{why}")
    unknown = sorted(set(found) - {*PLACEHOLDERS, "options"})
    known = "{input}, {output}, {seed} and {options}"
    require(not unknown, f"command={command}: {{{', '.join(unknown)}}}", f"among {known}")
    told = "options" in found or not options
    require(told, f"options={dict(options)}", "left out: the command has no {options}")
    for word in words:
        if "/" in word:
            expanded(word, f"command={word}")
    there = shutil.which(os.path.expanduser(words[0])) is not None
    require(there, f"command={command}", f"a program that is here; {words[0]} is none")


@dataclass(frozen=True, kw_only=True)
class Precomputed(Recipe):
    """Options of `methods.external.precomputed.Precomputed`.

    path: of the sets, with {seed} in it: npz archives of images and labels, or folders with one
    folder of images per class. num_models: how many sets. provenance: as that of `External`.
    sha256: `sets.sets_sha256`.
    """

    makes = "synpriv.methods.external.precomputed.Precomputed"
    parts = ("student",)
    can_be_made_anew = False

    path: str
    num_models: int
    provenance: Sequence[str] = ()
    sha256: str

    def __post_init__(self) -> None:
        sets.place(self.path, 0)

    @property
    def channels(self) -> tuple[str, ...]:
        """Provenance, as far as it is known."""
        return tuple(self.provenance) or (UNKNOWN,)

    def check(self, facts: Facts) -> None:
        assert facts.split_sha256 is not None
        wanted = Wanted(facts.image_shape, facts.num_classes)
        sets.check(self.path, facts.seed, facts.split_sha256, wanted, facts.class_names)

    def warnings(self) -> tuple[str, ...]:
        """For how many sets the manifest alone says which private sets they were made from."""
        files = [sets.place(self.path, seed) for seed in range(self.num_models)]
        said = sets.about_claims([sets.own_claim(file) is not None for file in files])
        return tuple(f"method.path: {words}" for words in said)
