"""Every pruning method, from the catalogue: what it does, its paper, what it removes, its settings."""

import re
import tomllib
from collections.abc import Iterator
from textwrap import indent

from sharpminima.catalogue.methods import METHODS, Method
from sharpminima.catalogue.methods.choices import Criterion
from sharpminima.catalogue.registry import loaded
from site_pages.settings import table
from site_pages.text import ROOT, prose

_REMOVES = {
    "weights": "single weights, to exactly the number asked for",
    "at most": "single weights, to the number asked for or fewer",
    "units": "filters and hidden units, to the number asked for within one",
    "structures": "kernels, or positions within them, and weights of linear layers, to the number asked for within one",
    "none": "what its strengths or thresholds find; a level gets what was reached",
}


def methods() -> str:
    """A section a kind, in the order of the catalogue, and in it one a method."""
    kinds = dict.fromkeys(method.kind for method in METHODS.values())
    said, computed, parts = rows(), formulas(), []
    for kind in kinds:
        parts += [*_title(kind.capitalize(), "-"), ""]
        for method in METHODS.values():
            if method.kind == kind:
                parts += _method(method, said[method.name], computed[method.name])
    return "\n".join(parts)


def _method(method: Method, said: str, computed: dict[str, str]) -> Iterator[str]:
    yield f".. _method-{method.name.replace('_', '-')}:\n"
    yield from _title(method.name, "~")
    yield ""
    yield f"{prose(said[0].upper() + said[1:])}.\n"
    yield ".. math::\n"
    yield indent(computed["formula"].strip(), "   ") + "\n"
    yield f"{prose(computed['where'])}\n"
    yield f":paper: {method.paper}"
    yield f":kind: {method.kind}"
    yield f":removes: {_REMOVES[method.dial]}"
    yield f":code: ``{module_of(method)}``\n"
    yield table(method.settings, ("revision",))


def formulas() -> dict[str, dict[str, str]]:
    """Method -> what it computes: ``formula``, in LaTeX, and ``where``, what its symbols mean."""
    return tomllib.loads((ROOT / "docs/reference/formulas.toml").read_text(encoding="utf-8"))


def module_of(method: Method) -> str:
    """The module that computes it; in a family the entry's own code, not what the family shares."""
    code = method.code.code if isinstance(method.code, Criterion) else method.code
    return str(loaded(code).__module__)


def rows() -> dict[str, str]:
    """Method -> what it does, as the table of docs/methods.md says."""
    page = (ROOT / "docs/methods.md").read_text(encoding="utf-8")
    page = re.sub(r" \(\[[^\]]+\]\([^)]+\)\)", "", page)  # what a row points to stands beside it in the reference
    matches = re.findall(r"^\| `(\w+)` \| [^|]+ \| [\w ]+ \| [^|]+ \| (.+) \|$", page, flags=re.MULTILINE)
    return {name: said.replace(r"\|", "|") for name, said in matches}


def _title(text: str, line: str) -> tuple[str, str]:
    return text, line * len(text)
