"""Pages of the site that are made from what is there already: README, changelog, conf/.

A hook of mkdocs; nothing that it makes is committed.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # an extra: what is made here is tested without it
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(Path(__file__).parent))  # mkdocs runs a hook as a lone file

import configuration  # noqa: E402 - found by the line above

_FROM_ELSEWHERE = re.compile(
    r'<(?:script|link|img|iframe)\b[^>]*\b(?:src|href)="(https?:)?//[^"]*"'
)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are made."""
    from mkdocs.structure.files import File

    made = {
        "index.md": front_page((ROOT / "README.md").read_text("utf-8")),
        "changelog.md": (ROOT / "CHANGELOG.md").read_text("utf-8"),
        "configuration.md": configuration.page(),
    }
    for name, text in made.items():
        files.append(File.generated(config, name, content=text))
    return files


def front_page(readme: str) -> str:
    """README as the site's first page: what it links to below docs/ lies beside it there."""
    return re.sub(r"\]\(docs/", "](", readme)


def on_post_page(output: str, page: Page, config: MkDocsConfig) -> str:
    """Refuse a page that would load anything from elsewhere: the site is read from disk too."""
    from mkdocs.exceptions import PluginError

    if loaded := _FROM_ELSEWHERE.search(output):
        raise PluginError(f"{page.file.src_uri}: loads {loaded[0]}; put it beside the page")
    return output
