"""What is summarised of an experiment, as the numbers file holds it.

G is the gradual method's net and 1-S its rewound one, at the highest level; runs are named by their seed.
"""

from typing import NotRequired, TypedDict

from sharpminima.report.intervals import Interval, Summary

BySeed = dict[str, float]


class Cell(TypedDict):
    """Nets that are shown together: of a strategy at a level, or dense ones."""

    title: str
    removed_percent: Summary
    test_error_percent: Summary
    training_loss_nats: Summary
    best_epoch: Summary
    epochs: Summary
    nonzero: Summary  # parameters
    compression: Summary
    over_masks: Summary | None  # test errors by run, of several draws the first; None: there is one run
    drawn_at: str | None  # the run at whose mask all nets shown were drawn; None: each run has a net
    by_seed: dict[str, BySeed]  # quantity -> each run's own net, its first draw where it has several


class Level(TypedDict):
    """A level that was asked for."""

    level: float
    strategies: dict[str, Cell]
    gap: Interval | None  # test error of 1-S less that of G, percentage points, in pairs by run
    short: list[str]  # runs whose net has not reached it, by their seed


class Unreached(TypedDict):
    """A level that runs did not reach."""

    level: float
    runs: int
    removed: float  # at most, share


class Highest(TypedDict):
    """The highest level."""

    level: float
    runs: int
    runs_that_reached: int
    removed_percent: Summary | None  # None: no run has it


class Difference(Summary):
    """Of G - 1-S over runs."""

    positive: int  # runs


Ends = TypedDict(
    "Ends",
    {
        "G": Summary,
        "1-S": Summary,
        "dense": NotRequired[Summary],
        "by_seed": dict[str, BySeed],
        "difference": Difference,
    },
)
"""A quantity at G, at 1-S and, where it was measured, of dense nets over runs, each run's value, and G less 1-S."""


class Quantity(Ends):
    """A quantity of the PSP tables."""

    unit: str


class Counted(TypedDict):
    """Eigenvalues in all, and those that met their bound."""

    values: int
    converged: int


class Spectrum(Counted):
    """The largest eigenvalues of the Hessian in one space; dense nets are counted by themselves."""

    images: int
    part: str
    ranks: list[Ends]
    dimension: Summary
    positive: int
    dense: NotRequired[Counted]


class Analysis(TypedDict):
    """What was measured at G and 1-S."""

    level: float
    part: str
    images: int
    runs: int
    removed_percent: Summary
    psp: dict[str, Quantity]
    psp_readings: dict[str, dict[str, dict[str, Quantity]]]  # part -> layer -> quantity
    live_share: Ends | None
    hessian: dict[str, Spectrum]  # by space


Line = TypedDict("Line", {"images": int, "points": int, "G": Summary, "1-S": Summary, "between": Summary | None})
"""The largest eigenvalue at G, at 1-S, and the highest of those at points between, over runs."""


class Lower(TypedDict):
    """Points of a map where a quantity is lower than at G."""

    points: int
    lowest_loss_nats: float | None  # of them; None without any


Map = TypedDict(
    "Map",
    {
        "seed": int,
        "level": float,
        "removed_percent": float,
        "part": str,
        "images": int,
        "definition": str,
        "distance": float,
        "points": int,
        "G": dict[str, float],
        "1-S": dict[str, float],
        "lower_than_at_G": dict[str, Lower],
    },
)
"""A map of the plane through G and 1-S of one run."""


class TransferCell(TypedDict):
    """Nets of a strategy on another dataset."""

    title: str
    live_features: Summary
    test_error_percent: Summary
    by_seed: dict[str, BySeed]


class Compute(TypedDict):
    """What the trainings of a kind took."""

    kind: str  # dense, method or retraining
    trainings: int
    epochs: int  # all together
    images: int  # that went through a training step
    teraflop: float  # an upper bound, see `sharpminima.report.compute`


class Key(TypedDict):
    """Which experiment."""

    dataset: str
    model: str
    method: str


class Trained(TypedDict):
    """Its nets."""

    parameters: int
    test_images: int
    nets: int
    dense: Cell | None
    levels: list[Level]
    unreached: list[Unreached]
    highest: Highest


class Measured(TypedDict):
    """What the built-in analyses say; empty or None where the experiment has no such tables."""

    analysis: Analysis | None
    barrier: dict[str, dict[str, Summary | dict[str, BySeed]]]  # part -> excess, and ``by_seed``
    line: dict[str, Line]  # by space
    maps: list[Map]


class Experiment(Key, Trained, Measured):
    """All that is summarised of an experiment; analyses of plug-ins add their own keys."""

    title: str  # of net and data, as a person writes them
    transfer: dict[str, dict[str, dict[str, TransferCell]]]  # dataset -> mode -> strategy
    compute: list[Compute]
