"""What the site's reference is made by: directives that read the package, so that no page of it is written by hand.

`public` lists what a module offers, `commands` the command line, `settings` the keys of a typed model, `methods` the
catalogue's pruning methods; `mermaid` draws a picture of floors. Each turns what it finds into reStructuredText.
"""

import posixpath
from collections.abc import Callable
from typing import Any

import ziamath
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective, SphinxTranslator

from site_pages import api, commands, floors, methods, settings, text


def _directive(text_of: Callable[..., str]) -> type[SphinxDirective]:
    """A directive that stands for the text that a function makes of its arguments."""

    class Made(SphinxDirective):
        optional_arguments = 16
        has_content = False

        def run(self) -> list[nodes.Node]:
            return self.parse_text_to_nodes(text_of(*self.arguments), allow_section_headings=True)

    return Made


def _formula(writer: SphinxTranslator, node: nodes.math | nodes.math_block) -> None:
    """A formula as a picture in the page: no script and no font is fetched where it is read."""
    block, latex = isinstance(node, nodes.math_block), node.astext()
    picture = ziamath.Latex(latex, size=18 if block else 16, inline=not block, color="currentColor").svg()
    kind = "formula block" if block else "formula"
    writer.body.append(f'<span class="{kind}" role="img" aria-label="{writer.attval(latex)}">{picture}</span>')
    raise nodes.SkipNode


class Mermaid(SphinxDirective):
    """A flow chart in mermaid's notation, as a picture in the page: no script is fetched where it is read."""

    has_content = True
    optional_arguments = 1

    def run(self) -> list[nodes.Node]:
        return [nodes.raw("", floors.picture("\n".join(self.content)), format="html")]


def _escape_bars(app: Sphinx, what: str, name: str, value: Any, options: Any, lines: list[str]) -> None:
    """|w| in a docstring is a size, not a substitution."""
    lines[:] = [line if line.lstrip().startswith((">>>", "...")) else line.replace("|", r"\|") for line in lines]


def _link_pages(app: Sphinx, docname: str, content: list[str]) -> None:
    """Links of a page as a reader of the repository needs them, as the site does."""
    if str(app.env.doc2path(docname)).endswith(".md"):
        content[0] = text.linked(content[0], posixpath.join("docs", posixpath.dirname(docname)))


def setup(app: Sphinx) -> dict[str, Any]:
    """For Sphinx."""
    for name, text_of in {
        "public": api.public,
        "public-names": api.names,
        "commands": commands.commands,
        "settings": settings.of_class,
        "methods": methods.methods,
        "repository-page": text.repository_page,
    }.items():
        app.add_directive(name, _directive(text_of))
    app.add_directive("mermaid", Mermaid)
    app.add_html_math_renderer("pictures", inline_renderers=(_formula, None), block_renderers=(_formula, None))
    ziamath.config.svg2 = False  # no symbols, whose names would stand in a page as often as its formulas
    app.connect("source-read", _link_pages)
    app.connect("autodoc-process-docstring", _escape_bars)
    return {"parallel_read_safe": True}
