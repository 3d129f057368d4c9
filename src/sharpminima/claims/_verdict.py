"""Where an interval must lie, and what follows where it does not."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal

from sharpminima.intervals import enough

REPRODUCED, NOT_REPRODUCED, UNDECIDED = "reproduced", "not reproduced", "undecided"
ABSENT = "not in this study"
VERDICTS = (REPRODUCED, NOT_REPRODUCED, UNDECIDED, ABSENT)

Side = Literal["above", "below", "within"]


def verdict_of(interval: Mapping[str, Any], side: Side, bound: float) -> str:
    """Whether a difference lies above or below ``bound``, or is at most ``bound`` in size."""
    low, high = interval["low"], interval["high"]
    if low is None:
        return UNDECIDED
    if side == "above":
        inside, outside = low > bound, high < bound
    elif side == "below":
        inside, outside = high < bound, low > bound
    else:
        inside, outside = -bound <= low and high <= bound, low > bound or high < -bound
    return REPRODUCED if inside else NOT_REPRODUCED if outside else UNDECIDED


def decide(
    interval_at: Callable[[int | None], Mapping[str, Any]], side: Side, bound: float, *, of: str = "runs"
) -> dict[str, Any]:
    """Interval, verdict, and where undecided what would decide it: ``needed``, with n and ``of`` what, or None.

    Args:
        interval_at: the interval with the replicas there are (None), or as if so many were planned.
        side, bound: where the difference must lie.
        of: what is counted.
    """
    interval = interval_at(None)
    verdict = verdict_of(interval, side, bound)
    needed = None
    if verdict == UNDECIDED and interval["low"] is not None:
        needed = enough(lambda n: verdict_of(interval_at(n), side, bound) != UNDECIDED)
    return {"interval": interval, "verdict": verdict, "needed": needed and {"n": needed, "of": of}}


def common(verdicts: Iterable[str]) -> str:
    """The verdict of a claim from those of its comparisons: all must be reproduced, one that is not refutes."""
    found = [verdict for verdict in verdicts if verdict != ABSENT]
    if not found:
        return ABSENT
    if NOT_REPRODUCED in found:
        return NOT_REPRODUCED
    return UNDECIDED if UNDECIDED in found else REPRODUCED
