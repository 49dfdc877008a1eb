"""One self-contained HTML file: verdicts and table as text, figures drawn by what it carries.

It opens from disk, and no request leaves it: its content security policy allows two scripts, named
by their hashes, and pictures that are in the page. Data and Plotly are in it as gzip in base64,
inflated after the first paint; `view_of` reads the data back.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import re
import string
from importlib import resources
from typing import cast

from synpriv.report.html import answer, markup
from synpriv.report.html.shape import View

SCRIPTS = (  # in this order they are one script
    *("dom.js", "numbers.js", "table.js", "plots.js", "trade_off.js", "frontier.js", "roc.js"),
    *("heat.js", "threshold.js", "canaries.js", "cell.js", "main.js"),
)


def html(view: View) -> str:
    """The whole page; the same view gives the same text."""
    script = "\n".join(_read("page", name) for name in SCRIPTS)
    packed = resources.files(__package__).joinpath("plotly", "plotly-cartesian.min.js.gz")
    plotly = packed.read_bytes()
    return string.Template(_read("page", "page.html")).substitute(
        policy=_policy(script.encode(), gzip.decompress(plotly)),
        css=_read("page", "page.css"),
        script=script,
        plotly=base64.b64encode(plotly).decode(),
        data=_packed(view),
        answer=answer.answer(view),
        counts=answer.counts(view),
        **markup.parts(view),
    )


def _read(*path: str) -> str:
    return resources.files(__package__).joinpath(*path).read_text(encoding="utf-8")


def _packed(view: View) -> str:
    """The data as JSON, gzip and base64: a third of its size, and no sign of it is a tag."""
    text = json.dumps(view, separators=(",", ":"), allow_nan=False)
    return base64.b64encode(gzip.compress(text.encode("ascii"), mtime=0)).decode()


def view_of(page: str) -> View:
    """The data of a page of `html`, to check or to work with its numbers."""
    found = re.search(r'<script type="application/gzip" id="view">([A-Za-z0-9+/=]+)</script>', page)
    if found is None:
        raise ValueError('no page of synpriv.report: it holds no <script id="view"> of gzip')
    return cast(View, json.loads(gzip.decompress(base64.b64decode(found[1]))))


def _policy(*scripts: bytes) -> str:
    """Content security policy: these scripts run, nothing is fetched.

    Styles are free, since Plotly writes them; without a source of pictures, fonts or sheets none
    of them can ask for anything.
    """
    hashes = [base64.b64encode(hashlib.sha256(script).digest()).decode() for script in scripts]
    return "; ".join(
        [
            "default-src 'none'",
            "script-src " + " ".join(f"'sha256-{digest}'" for digest in hashes),
            "style-src 'unsafe-inline'",
            "img-src data: blob:",
            "base-uri 'none'",
            "form-action 'none'",
        ]
    )
