"""Prose of the package as reStructuredText, and files of the repository as pages."""

import posixpath
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = {
    "CHANGELOG.md": "/explanation/changelog.md",
    "CONTRIBUTING.md": "/howto/contribute.md",
    "data/README.md": "/howto/data.md",
}
"""Files of the repository that are pages of the site."""


def prose(text: str) -> str:
    """A comment or a description in one line; what stands in backticks is code, and no other sign means anything."""
    parts = " ".join(text.split()).replace("``", "`").split("`")
    return "".join(
        f"``{part}``" if place % 2 else re.sub(r"([*|_\\])", r"\\\1", part) for place, part in enumerate(parts)
    )


def repository_page(path: str) -> str:
    """A Markdown file of the repository, its links as the site has them: to pages, or else to files that it offers."""
    return linked((ROOT / path).read_text(encoding="utf-8"), posixpath.dirname(path))


def linked(text: str, folder: str) -> str:
    """Markdown that lies in a folder of the repository, with the links that lead out of docs/ made the site's."""
    return re.sub(r"\[([^\]]+)\]\(([^):#]+)(#[^)]*)?\)", lambda match: _link(match, folder), text)


def _link(match: re.Match[str], folder: str) -> str:
    text, path, place = match[1], posixpath.normpath(posixpath.join(folder, match[2])), match[3] or ""
    if path.startswith("docs/"):
        return f"[{text}](/{path.removeprefix('docs/')}{place})"
    if path in PAGES:
        return f"[{text}]({PAGES[path]}{place})"
    return f"{{download}}`{text.replace('`', '')} </../{path}>`"
