"""The figures: notebooks, the tables they read, and the code that they share."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from sharpminima.catalogue.registry import Registry, source_file


@dataclass(frozen=True)
class Table:
    """A table of the whole study."""

    name: str


@dataclass(frozen=True)
class OfFocus:
    """The tables of an analysis of the experiment that the study's ``focus`` names."""

    analysis: str
    runs: Literal["first", "all"] = "first"  # the first: one table, not a list


@dataclass(frozen=True)
class Transfers:
    """The tables of all transfers."""


@dataclass(frozen=True)
class PathEvents:
    """What each run of the experiment with a method of the kind ``path`` has recorded."""


@dataclass(frozen=True)
class File:
    """A file of the checkout."""

    path: str


Source = Table | OfFocus | Transfers | PathEvents | File
_PLOTTING = (
    source_file("sharpminima.figures.style"),
    source_file("sharpminima.report.tables"),
    source_file("sharpminima.report.titles"),
    source_file("sharpminima.figures.plots"),
    source_file("sharpminima.report.notebook"),
)
"""The code that figures share."""
_COMPARING = (*_PLOTTING, source_file("sharpminima.figures.comparison"))  # that of figures that compare methods


@dataclass(frozen=True, eq=False)
class Figure:
    """A figure: ``reads`` are the parameters of its notebook."""

    name: str
    reads: Mapping[str, Source]
    code: tuple[str, ...] = _PLOTTING  # files of a checkout
    drawn_by: str | os.PathLike[str] | None = None  # a notebook that does not lie with the others

    @property
    def notebook(self) -> str:
        """What draws it."""
        return f"notebooks/{self.name}.ipynb" if self.drawn_by is None else os.fspath(self.drawn_by)

    def needs(self, source: type[Source]) -> bool:
        """Whether a study that draws it must have such a source."""
        return any(isinstance(read, source) for read in self.reads.values())


_RESULTS = {"results": Table("results")}
FIGURES = Registry(
    "figure",
    (
        Figure("fig1", _RESULTS),
        Figure(
            "fig2",
            {"surface": OfFocus("surface"), "hessian": OfFocus("hessian", "all"), "line": OfFocus("line", "all")},
        ),
        Figure("fig3", {"surface": OfFocus("surface")}),
        Figure("fig4", {"surface": OfFocus("surface")}),
        Figure("fig5", {"psp": OfFocus("psp"), "neurons": OfFocus("neurons")}),
        Figure("fig6", {"transfer": Transfers()}),
        Figure("methods", _RESULTS, _COMPARING),
        Figure("modifications", {**_RESULTS, "published": File("paper/published/mikler-table31.csv")}, _COMPARING),
        Figure("path", {"events": PathEvents(), **_RESULTS}, _COMPARING),
    ),
)
"""Name -> figure."""
PAPER_FIGURES = tuple(name for name in FIGURES if name.startswith("fig"))
"""Those that the paper has."""
