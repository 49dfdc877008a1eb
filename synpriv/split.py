"""`python -m synpriv.split OPTIONS --out DIR`: the private sets of a cell, for another pipeline.

Options are those of run.py that decide who is in which set: dataset, canary, num_models,
audit_seed. `--indices` writes rows and labels instead of a copy of the images per shadow model. DIR
then has a README.md of what to make of them and where `method=precomputed` looks for it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import hydra
from hydra.core.global_hydra import GlobalHydra

from synpriv import checkout, cli, config, interrupts, terminal
from synpriv.data.sets import MANIFEST
from synpriv.shadow import export

_OWN = "--config-dir"


def main(argv: list[str]) -> None:
    """Write the sets; ValueError in one line where that cannot be."""
    if {"-h", "--help"} & set(argv):
        print(__doc__)
        return
    words = iter(argv)
    out, own, indices = None, None, False
    overrides: list[str] = []
    for word in words:
        if word == "--indices":
            indices = True
        elif word.partition("=")[0] in ("--out", _OWN):
            name, _, value = word.partition("=")
            value = value or next(words, "")
            out, own = (value, own) if name == "--out" else (out, value)
        else:
            overrides.append(word)
    if not out:
        raise ValueError("--out: must be followed by the folder to write to")
    overrides = cli.normalise(overrides)
    if flags := [word for word in overrides if word.startswith("-")]:
        raise ValueError(f"{flags[0]}: no flag of synpriv.split; it has --out, --indices, {_OWN}")
    if own:
        overrides.append(f"hydra.searchpath=[file://{Path(own).expanduser().absolute()}]")
    _refuse_stale(Path(out).expanduser())
    config.register()
    GlobalHydra.instance().clear()
    with hydra.initialize_config_dir(str(checkout.conf()), version_base="1.3"):
        cfg = hydra.compose("config", overrides)
    for line in _lines(export.write(cfg, Path(out).expanduser(), indices=indices)):
        print(line)


def _refuse_stale(out: Path) -> None:
    """Sets that nothing tells apart would be taken for ones of the private sets written now."""
    if (out / "out").exists() and not (out / MANIFEST).is_file():
        raise ValueError(
            f"--out {out}: has a folder out of sets and no {MANIFEST} to say what they were made "
            "of; must be another folder, or without it"
        )


def _lines(said: Iterator[str]) -> Iterator[str]:
    return map(terminal.one_line, said)


if __name__ == "__main__":
    terminal.never_fail()
    interrupts.raise_in_main()
    with cli.errors_in_one_line():
        main(sys.argv[1:])
