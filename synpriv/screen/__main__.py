"""`python -m synpriv.screen`: whether a release lies nearer to private than to held-out images.

For whoever has a synthetic set and can train nothing again. Each set is an npz with `images` uint8
[N,H,W], [N,H,W,ch] or [N,ch,H,W], or a folder of images. The holdout must be drawn as the private
images were, and the generator must not have seen it; half of it is compared, half is learnt from.
Where there are several images of one person, hold out whole people and give --groups.
An average over all images, no worst case: docs/screen.md says what that means.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from numpy.typing import NDArray

from synpriv import interrupts, terminal
from synpriv.cli import errors_in_one_line, one_line
from synpriv.results import store, vouched
from synpriv.screen import page, reading
from synpriv.screen.screening import screen
from synpriv.signatures import require

FILES = ("screen.json", "screen.md", "screen.npz", "screen.png")


def main(argv: list[str]) -> int:
    """Print and write the screening; returns the exit code, which is no verdict."""
    terminal.never_fail()
    parser = argparse.ArgumentParser(
        prog="python -m synpriv.screen",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    for name, words in (
        ("synthetic", "what is released"),
        ("private", "what it was made from"),
        ("holdout", "images of the same law that the generator has not seen"),
    ):
        parser.add_argument(f"--{name}", type=Path, required=True, help=words)
    parser.add_argument(
        "--groups",
        metavar="NAME",
        help="whose each private and held-out image is: an array of both npz files, or of folders "
        "the level that has the group's name, 1 in class/person/image.png",
    )
    parser.add_argument("--out", type=Path, help=f"a folder for {', '.join(FILES)}")
    given = parser.parse_args(argv)
    try:
        _screen(given)
    except (ValueError, OSError) as error:
        print(f"error: {one_line(error)}", file=sys.stderr)
        return 1
    return 0


def _screen(given: argparse.Namespace) -> None:
    if given.out is not None:
        _require_folder(given.out)
    paths = {name: getattr(given, name) for name in ("synthetic", "private", "holdout")}
    sets = [reading.read(path, name) for name, path in paths.items()]
    synthetic, private, held_out = sets
    reading.check(synthetic, private, held_out)
    groups = None
    if given.groups is not None:
        mine, others = (
            reading.read_groups(paths[name], name, given.groups) for name in ("private", "holdout")
        )
        groups = reading.sides(mine, others, given.groups)
    found = screen(synthetic, private, held_out, groups)
    print(page.text(found.report))
    if given.out is None:
        return
    report = found.report | {name: str(path) for name, path in paths.items()}
    arrays: dict[str, NDArray] = {
        name.replace(" ", "_"): values for name, values in found.statistics.items()
    }
    arrays |= {"private_rows": found.rows, "control_rows": found.order, "unit": found.unit}
    arrays |= {"nearest_private": found.private.place, "nearest_control": found.control.place}
    contents = (  # all made before any is written: none is left of an older screening
        vouched.json_bytes(report | {"groups": given.groups}),
        page.markdown(found.report, FILES[3]).encode(),
        store.npz_bytes(**arrays),
        page.png(found, synthetic, private, held_out),
    )
    for name, content in zip(FILES, contents, strict=True):
        store.write_bytes(given.out / name, content)
    print(terminal.one_line(f"written: {', '.join(str(given.out / name) for name in FILES)}"))


def _require_folder(out: Path) -> None:
    """ValueError, before any work, where no folder can be made or written."""
    store.require_folder(out, f"--out {out}")
    for name in FILES:
        require(
            not (out / name).is_dir(), f"--out {out}: {name} is a folder there", "a file or none"
        )


if __name__ == "__main__":
    with errors_in_one_line():
        interrupts.raise_in_main()
        sys.exit(main(sys.argv[1:]))
