"""What is said of a claim, as the numbers file holds it."""

from collections.abc import Iterable
from typing import Literal, TypedDict

from sharpminima.report.experiments import Key
from sharpminima.report.intervals import Interval

Relation = Literal["exactly", "at least", "over"]


class Needed(TypedDict):
    """What it takes to decide an undecided comparison."""

    n: int
    of: str  # what is counted
    relation: Relation
    says: str  # the same in words


class Decision(TypedDict):
    """What a comparison decides; all but the verdict is None where counts alone decide."""

    interval: Interval | None  # of the difference
    side: Literal["above", "below", "within"] | None  # where the interval must lie, from the bound
    bound: float | None  # in the quantity's unit
    margin: float | None  # the smallest difference that matters, in the quantity's unit
    verdict: str  # one of VERDICTS
    remark: str | None
    p: float | None
    needed: Needed | None


class Value(TypedDict):
    """One of the two things that are compared."""

    name: str
    unit: str
    mean: float
    sd: float | None
    n: int | None  # None: a published value


class Examined(Decision):
    """A test in one experiment."""

    detail: str  # what was compared
    brief: str  # the same in a few words, beside the claim and the net; may be empty
    values: list[Value]


class Result(Examined, Key):
    """A test in one experiment, as it bears on a claim."""

    stated: bool  # whether the paper states the claim for it
    sensitivity: bool  # another reading, which decides nothing
    carried_from: str | None  # the claim whose result it is, of one which says that others carry over


def deciding_results(results: Iterable[Result]) -> list[Result]:
    """Those that decide their claim: of nets for which the paper states it, and by its own reading."""
    return [result for result in results if result["stated"] and not result["sensitivity"]]


class Alone(TypedDict):
    """A claim's verdict by the new runs alone."""

    verdict: str
    remark: str | None
    needed: Needed | None
    results: list[Result]


class OfNewRuns(Alone):
    """A claim's verdict by the runs that are newer than the rules."""

    holm: bool | None  # as of `Corrected`, over all claims by these runs
    missing: list[str]  # as of `Judged`


class Judged(Alone):
    """A claim's verdict by itself."""

    id: str
    source: str
    says: str
    stated_for: list[str]
    p: float | None
    missing: list[str]  # for which the paper states it and no test was possible: nets, parts of what carries over


class Corrected(Judged):
    """A claim among all."""

    holm: bool | None  # whether the verdict survives the correction for all claims; None: no interval bears on it


class JudgedClaim(Corrected):
    """A claim with all that is said of it."""

    new_runs: OfNewRuns | None  # None without any


class ClaimBySetting(Alone):
    """A claim on one net, by the other setting; `Alone` is what comes out by it."""

    id: str
    says: str
    usual: str  # the verdict on this net by the study's own setting


class BySetting(TypedDict):
    """One net by the other setting."""

    label: str
    says: str  # what the setting is
    dataset: str
    model: str  # without its label
    claims: list[ClaimBySetting]  # those that bear on the net
