"""`python -m synpriv.screen`: whether a release lies nearer to private than to held-out images.

For whoever has a synthetic set and can train nothing again. Each set is an npz with `images` uint8
[N,H,W], [N,H,W,ch] or [N,ch,H,W], or a folder of images. The holdout must be drawn as the private
images were, and the generator must not have seen it; half of it is compared, half is learnt from.
An average over all images, no worst case: docs/screen.md says what that means.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from numpy.typing import NDArray

from synpriv import interrupts, terminal
from synpriv.cli import errors_in_one_line, one_line
from synpriv.results import store
from synpriv.screen import page, reading
from synpriv.screen.screening import screen

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
    parser.add_argument("--out", type=Path, help=f"a folder for {', '.join(FILES)}")
    given = parser.parse_args(argv)
    try:
        _screen(given)
    except (ValueError, OSError) as error:
        print(f"error: {one_line(error)}", file=sys.stderr)
        return 1
    return 0


def _screen(given: argparse.Namespace) -> None:
    paths = {name: getattr(given, name) for name in ("synthetic", "private", "holdout")}
    sets = [reading.read(path, name) for name, path in paths.items()]
    reading.check(*sets)
    found = screen(*sets)
    print(page.text(found.report))
    if given.out is None:
        return
    report = found.report | {name: str(path) for name, path in paths.items()}
    store.write_json(given.out / FILES[0], report)
    store.write_bytes(given.out / FILES[1], page.markdown(found.report, FILES[3]).encode())
    arrays: dict[str, NDArray] = {
        name.replace(" ", "_"): values for name, values in found.statistics.items()
    }
    arrays |= {"control_rows": found.order}
    arrays |= {"nearest_private": found.private.place, "nearest_control": found.control.place}
    store.write_bytes(given.out / FILES[2], store.npz_bytes(**arrays))
    store.write_bytes(given.out / FILES[3], page.png(found, *sets))
    print(terminal.one_line(f"written: {', '.join(str(given.out / name) for name in FILES)}"))


if __name__ == "__main__":
    with errors_in_one_line():
        interrupts.raise_in_main()
        sys.exit(main(sys.argv[1:]))
