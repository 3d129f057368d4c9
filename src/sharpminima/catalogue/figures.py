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
class Numbers:
    """The numbers of the study, with the verdicts on the paper's claims."""


@dataclass(frozen=True)
class EntropyWays:
    """The numbers of a study whose experiments train with PSP-entropy."""


@dataclass(frozen=True)
class PathEvents:
    """What each run of the experiment with a method of the kind ``path`` has recorded."""


@dataclass(frozen=True)
class File:
    """A file of the checkout."""

    path: str


Source = Table | OfFocus | Transfers | Numbers | EntropyWays | PathEvents | File


def code_of(*modules: str) -> tuple[str, ...]:
    """The files that a figure is drawn by: its own modules of the room, and what all figures share."""
    shared = ("figures.style", "report.tables", "report.titles", "report.notebook")
    return tuple(source_file(f"sharpminima.{name}") for name in (*shared, *(f"figures.{own}" for own in modules)))


@dataclass(frozen=True, eq=False)
class Figure:
    """A figure: ``reads`` are the parameters of its notebook."""

    name: str
    reads: Mapping[str, Source]
    code: tuple[str, ...] = code_of()  # files of a checkout
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
        Figure("fig1", _RESULTS, code_of("fig1", "scales")),
        Figure(
            "fig2",
            {"surface": OfFocus("surface"), "hessian": OfFocus("hessian", "all"), "line": OfFocus("line", "all")},
            code_of("fig2", "planes", "scales"),
        ),
        Figure("fig3", {"surface": OfFocus("surface")}, code_of("fig3", "planes", "scales")),
        Figure("fig4", {"surface": OfFocus("surface")}, code_of("fig4", "planes", "scales")),
        Figure("fig5", {"psp": OfFocus("psp"), "neurons": OfFocus("neurons")}, code_of("fig5", "planes", "scales")),
        Figure("fig6", {"transfer": Transfers()}, code_of("fig6", "scales")),
        Figure("fig7", {"numbers": EntropyWays()}, code_of("fig7")),
        Figure("forest", {"numbers": Numbers()}, code_of("forest")),
        Figure(
            "methods",
            {**_RESULTS, "published": File("paper/published/mnist-pruned.csv")},
            code_of("methods", "scales"),
        ),
        Figure(
            "modifications",
            {**_RESULTS, "published": File("paper/published/mikler-table31.csv")},
            code_of("modifications"),
        ),
        Figure("path", {"events": PathEvents(), **_RESULTS}, code_of("path", "scales")),
    ),
)
"""Name -> figure."""
_OWN = ("fig7",)  # of a study that asks another question
PAPER_FIGURES = (*(name for name in FIGURES if name.startswith("fig") and name not in _OWN), "forest")
"""Those that the paper has."""
