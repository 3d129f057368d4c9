"""What is measured at G and 1-S, on the plane through them, and on the line between them."""

import operator
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from sharpminima.base.settings import Distinct, PositiveInt, Settings
from sharpminima.catalogue.columns import (
    BARRIER_COLUMNS,
    HESSIAN_COLUMNS,
    LINE_COLUMNS,
    NEURON_COLUMNS,
    PSP_COLUMNS,
    SURFACE_COLUMNS,
)
from sharpminima.catalogue.registry import Code, Registry, loaded

Part = Literal["train", "validation", "test"]
Dense = Annotated[
    bool,
    Field(
        exclude_if=operator.not_,  # it came after the first records
        description="whether the run's dense net is measured too",
    ),
]
Samples = Annotated[
    Annotated[int, Field(ge=2)] | None,
    Field(
        exclude_if=lambda samples: samples is None,  # it came after the first records
        description="pairs of neurons that joint entropies draw, by the run's seed, in each class of a layer that has "
        "too many of them to count, as have those of a wide ResNet; null: all are counted",
    ),
]


class AnalysisData(Settings):
    """What an analysis looks at. The paper is silent; its Fig. 2a says training loss, hence the default."""

    part: Part = "train"
    images: Annotated[PositiveInt | None, Field(description="class-balanced images of the part; null: all")] = None

    @property
    def parts_read(self) -> tuple[Part, ...]:
        """The parts of the data."""
        return (self.part,)

    @property
    def positions(self) -> int:
        """Points of the plane or the line at which it measures."""
        return 1


class _SeveralParts(Settings):
    """What an analysis of several parts looks at."""

    parts: Annotated[tuple[Part, ...], Field(min_length=1), Distinct] = ("train", "test")
    images: Annotated[PositiveInt | None, Field(description="class-balanced images of each part; null: all")] = None

    @property
    def parts_read(self) -> tuple[Part, ...]:
        """The parts of the data."""
        return self.parts

    @property
    def positions(self) -> int:
        """Points of the plane or the line at which it measures."""
        return 1


class PspSettings(_SeveralParts):
    """PSP norm and entropies of G and 1-S, by layer and by class; the first part is what figures and claims take."""

    revision: Literal[3] = 3
    dense: Dense = False
    samples: Samples = None


class NeuronSettings(AnalysisData):
    """First-order PSP-entropy of each neuron within each class, of the run that Fig. 5 shows."""

    revision: Literal[2] = 2


class _Eigenvalues(AnalysisData):
    eigenvalues: PositiveInt = 5
    tolerance: Annotated[float, Field(gt=0, description="residual, relative to the largest eigenvalue")] = 1e-4


class HessianSettings(_Eigenvalues):
    """Largest eigenvalues at G and 1-S: of all parameters, of the surviving ones, and of their relative changes."""

    revision: Literal[2] = 2
    dense: Dense = False


def _ascending(span: tuple[float, float]) -> tuple[float, float]:
    if span[0] >= span[1]:
        raise ValueError(f"{list(span)} given; the lower end comes first, as in [-0.5, 1.5]")
    return span


class SurfaceSettings(AnalysisData):
    """The map of Fig. 2-4. A grid of 41 points over the default span holds both ends, one of 51 neither."""

    revision: Literal[1] = 1
    images: PositiveInt | None = 10_000
    grid: Annotated[int, Field(ge=3)] = 41
    span: Annotated[tuple[float, float], AfterValidator(_ascending)] = (-0.5, 1.5)
    definition: Literal["joint", "agreement"] = "joint"
    samples: Samples = None

    @property
    def positions(self) -> int:
        """Points of the grid."""
        return self.grid**2


class LineSettings(_Eigenvalues):
    """Largest eigenvalues along the line from G to 1-S."""

    revision: Literal[1] = 1
    points: Annotated[int, Field(ge=2, description="even positions, G and 1-S among them")] = 11

    @property
    def positions(self) -> int:
        """Points of the line."""
        return self.points


class BarrierSettings(_SeveralParts):
    """Loss and error along the line from G to 1-S."""

    revision: Literal[1] = 1
    points: Annotated[int, Field(ge=3, description="even positions, G and 1-S among them")] = 41

    @property
    def positions(self) -> int:
        """Points of the line."""
        return self.points


@dataclass(frozen=True, eq=False)
class Analysis:
    """A measurement of G and 1-S of one run, at the highest level; its name is that of its command and its tables."""

    name: str
    settings: type[Any]  # an `AnalysisData`, or of several parts
    columns: list[str]
    code: Code  # (data, gradual, rewind, settings, out, runtime): reads checkpoints, writes the table; see `of_dense`
    help: str  # of its command
    passes: float  # of training over its images, of both nets together, at each point
    when: Literal["always", "shown", "mapped"] = "always"  # of all runs; those that figures show; or experiments too
    large: bool = False  # thousands of rows, whose table is compressed
    holds_statistics: bool = False  # PSP statistics of all its images, in memory; they need an image of each class
    summary: Code = ""  # (rows of an experiment): what the study's numbers gain; without, nothing

    def load(self) -> Any:
        """The step that makes its table."""
        return loaded(self.code)


def of_dense(settings: Any) -> bool:
    """Whether an analysis of these settings measures the run's dense net too: its step then takes ``dense=path``.

    >>> of_dense(PspSettings(dense=True)), of_dense(LineSettings())
    (True, False)
    """
    return getattr(settings, "dense", False) is True


def too_few_images(images: int | None, dataset: str, classes: int) -> str | None:
    """Why PSP statistics cannot be had of so many class-balanced images; None: they can.

    >>> too_few_images(5, "mnist", 10)
    '5 given; PSP statistics need an image of each class, and mnist has 10: give 10 or more'
    >>> too_few_images(None, "mnist", 10)
    """
    if images is None or images >= classes:
        return None
    needed = f"PSP statistics need an image of each class, and {dataset} has {classes}"
    return f"{images} given; {needed}: give {classes} or more"


_STEPS = "sharpminima.steps.analyse"
_SUMMARIES = "sharpminima.report.summaries"
ANALYSES = Registry(
    "analysis",
    (
        Analysis(
            "psp",
            PspSettings,
            PSP_COLUMNS,
            f"{_STEPS}.psp:psp",
            "PSP norm and PSP-entropy of G and 1-S, and of the dense net where asked for, by layer and by class.",
            passes=6.8,
            holds_statistics=True,
            summary=f"{_SUMMARIES}:psp",
        ),
        Analysis(
            "neurons",
            NeuronSettings,
            NEURON_COLUMNS,
            f"{_STEPS}.psp:neurons",
            "First-order PSP-entropy of each neuron of G and 1-S within each class.",
            passes=2.0,
            when="shown",
            large=True,
            holds_statistics=True,
        ),
        Analysis(
            "hessian",
            HessianSettings,
            HESSIAN_COLUMNS,
            f"{_STEPS}.hessian:hessian",
            "Largest Hessian eigenvalues at G and 1-S, and at the dense net where asked for.",
            passes=240.0,
            summary=f"{_SUMMARIES}:hessian",
        ),
        Analysis(
            "surface",
            SurfaceSettings,
            SURFACE_COLUMNS,
            f"{_STEPS}.plane:surface",
            "Loss, error, PSP norm and entropies over the plane through G and 1-S.",
            passes=1.7,
            when="mapped",
            large=True,
            holds_statistics=True,
            summary=f"{_SUMMARIES}:surface",
        ),
        Analysis(
            "line",
            LineSettings,
            LINE_COLUMNS,
            f"{_STEPS}.plane:line",
            "Largest Hessian eigenvalues along the line from G to 1-S.",
            passes=80.0,
            when="mapped",
            summary=f"{_SUMMARIES}:line",
        ),
        Analysis(
            "barrier",
            BarrierSettings,
            BARRIER_COLUMNS,
            f"{_STEPS}.plane:barrier",
            "Loss and error along the line from G to 1-S, and how far above the line between the ends'.",
            passes=0.7,
            summary=f"{_SUMMARIES}:barrier",
        ),
    ),
)
"""Name -> analysis.

Passes were measured on LeNet-300 and LeNet-5, MNIST, at 99.57 %. Those of eigenvalues are LeNet-300's, the dearest: 233
measured, 83 on LeNet-5. A point of a line took 28 on LeNet-5; for LeNet-300 it is scaled by that ratio. A point of a
surface is LeNet-5's on Fashion-MNIST, 99 %, the dearest: 1.6 measured, .4 on MNIST, as with LeNet-300.
"""
