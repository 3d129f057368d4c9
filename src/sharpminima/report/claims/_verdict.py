"""Where an interval must lie, what follows where it does not, and how sure a verdict is."""

from collections.abc import Callable, Iterable, Sequence
from typing import Literal

from sharpminima.report.claims._results import Decision, Examined, Needed, Relation
from sharpminima.report.intervals import CONFIDENCE, MOST, Interval, enough, mirrored, tail

REPRODUCED, NOT_REPRODUCED, UNDECIDED = "reproduced", "not reproduced", "undecided"
ABSENT = "not in this study"
VERDICTS = (REPRODUCED, NOT_REPRODUCED, UNDECIDED, ABSENT)
NO_DIFFERENCE = "no difference that matters"
"""The remark on a claim of a difference that is refuted by two things being equal."""
SMALL = "by less than matters"
"""The remark on a difference that is on its side, and within the margin."""
FEW = "too few runs reached the level in both ways"
"""The remark on a comparison that is made of fewer runs than `ENOUGH`."""
ENOUGH = 0.8
"""The share of the runs of two ways of training that must have reached a level in both for the rest to decide."""

Side = Literal["above", "below", "within"]
_RELATIONS: tuple[Relation, ...] = ("over", "at least", "exactly")


def verdict_of(interval: Interval, side: Side, bound: float, margin: float | None = None) -> str:
    """Whether a difference lies above or below ``bound``, or is at most ``bound`` in size.

    Args:
        margin: the smallest difference that matters: a claim of a difference is refuted too where the whole interval
            lies within it.
    """
    low, high = interval["low"], interval["high"]
    if low is None or high is None:
        return UNDECIDED
    if side == "above":
        inside, outside = low > bound, high < bound
    elif side == "below":
        inside, outside = high < bound, low > bound
    else:
        inside, outside = -bound <= low and high <= bound, low > bound or high < -bound
    outside = outside or _is_within(interval, margin)
    return REPRODUCED if inside else NOT_REPRODUCED if outside else UNDECIDED


def _is_within(interval: Interval, margin: float | None) -> bool:
    low, high = interval["low"], interval["high"]
    return margin is not None and low is not None and high is not None and max(-low, high) <= margin


def decide(
    interval_at: Callable[[int | None], Interval],
    side: Side,
    bound: float,
    *,
    margin: float | None = None,
    of: str = "runs",
) -> Decision:
    """What an interval decides, and what is needed where it does not.

    Args:
        interval_at: the interval with the replicas there are (None), or as if so many were planned.
        side, bound: where the difference must lie.
        margin: the smallest difference that matters (see `verdict_of`).
        of: what is counted.
    """
    interval = interval_at(None)
    verdict = verdict_of(interval, side, bound, margin)
    needed = None
    if verdict == UNDECIDED:
        if interval["low"] is None:
            needed = _needed(2, "at least", of)  # to have a spread; how many would decide depends on it
        else:
            fewest = enough(lambda n: verdict_of(interval_at(n), side, bound, margin) != UNDECIDED)
            needed = _needed(MOST, "over", of) if fewest is None else _needed(fewest, "exactly", of)
    remark = None
    if _is_within(interval, margin):
        remark = {REPRODUCED: SMALL, NOT_REPRODUCED: NO_DIFFERENCE}[verdict]
    return {
        "interval": interval.copy(),
        "side": side,
        "bound": bound,
        "margin": margin,
        "verdict": verdict,
        "remark": remark,
        "p": _p(interval, side, bound, margin, verdict),
        "needed": needed,
    }


def _p(interval: Interval, side: Side, bound: float, margin: float | None, verdict: str) -> float | None:
    """The significance level at which the verdict would just be lost: below .05, as it rests on the 95 % interval."""
    if verdict == UNDECIDED:
        return None
    turned = mirrored(interval)

    def within(size: float) -> float:
        return max(tail(interval, -size), tail(turned, -size))

    values = {"above": tail(interval, bound), "below": tail(turned, -bound), "within": within(bound)}
    if verdict == REPRODUCED:
        return values[side]
    others = {"above": "below", "below": "above"}
    refuted = [tail(interval, bound), tail(turned, bound)] if side == "within" else [values[others[side]]]
    if margin is not None:
        refuted.append(within(margin))
    return min(refuted)


def most_needed(parts: Sequence[Needed | None]) -> Needed | None:
    """What it takes to decide all of several comparisons; None where there is none, or it is not known of one.

    The relation is "exactly" where so many would decide; "at
    least" where there is one net, which says nothing of a spread; "over" where it takes more than are planned with.
    """
    known = [part for part in parts if part is not None]
    if not known or len(known) < len(parts):
        return None
    relations = [part["relation"] for part in known]
    largest = max(known, key=lambda part: part["n"])
    return _needed(largest["n"], next(r for r in _RELATIONS if r in relations), largest["of"])


def _needed(n: int, relation: Relation, of: str) -> Needed:
    wording = {"exactly": "{:,} {} would decide", "at least": "{:,} or more {} needed", "over": "over {:,} {} needed"}
    return {"n": n, "of": of, "relation": relation, "says": wording[relation].format(n, of)}


def common(verdicts: Iterable[str]) -> str:
    """The verdict of a claim from those of its comparisons: all must be reproduced, one that is not refutes."""
    present = [verdict for verdict in verdicts if verdict != ABSENT]
    if not present:
        return ABSENT
    if NOT_REPRODUCED in present:
        return NOT_REPRODUCED
    return UNDECIDED if UNDECIDED in present else REPRODUCED


def common_remark(verdict: str, deciding: Sequence[Examined]) -> str | None:
    """The remark on a claim: that of all its comparisons that have its verdict, where they agree."""
    remarks = {result["remark"] for result in deciding if result["verdict"] == verdict}
    return remarks.pop() if len(remarks) == 1 else None


def common_p(verdict: str, deciding: Sequence[Examined]) -> float | None:
    """The p of a claim's verdict, None where no interval bears on it.

    All comparisons must be reproduced, so that the largest p counts; one refutes, so that the smallest counts, times
    the number of them (Bonferroni). An undecided claim has 1, also where too few runs were left for an interval.
    """
    compared = [result for result in deciding if result["interval"] is not None]
    if verdict == UNDECIDED and (compared or any(result["remark"] == FEW for result in deciding)):
        return 1.0
    if not compared:
        return None
    ps = [result["p"] for result in compared if result["verdict"] == verdict and result["p"] is not None]
    if not ps:
        return None  # counts alone refuted it
    return max(ps) if verdict == REPRODUCED else min(1.0, min(ps) * len(compared))


def holm(ps: Sequence[float | None]) -> list[bool | None]:
    """Whether each verdict survives the correction for all of them (Holm 1979), None where there is no p."""
    order = sorted((p, place) for place, p in enumerate(ps) if p is not None)
    holding: list[bool | None] = [None] * len(ps)
    holds = True
    for rank, (p, place) in enumerate(order):
        holds = holds and p * (len(order) - rank) <= 1 - CONFIDENCE
        holding[place] = holds
    return holding
