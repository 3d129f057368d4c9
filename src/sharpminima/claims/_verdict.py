"""Where an interval must lie, and what follows where it does not."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal

from sharpminima.intervals import MOST, enough

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
    """Interval, verdict, and what is ``needed`` where undecided, as `most_needed` describes it, else None.

    Args:
        interval_at: the interval with the replicas there are (None), or as if so many were planned.
        side, bound: where the difference must lie.
        of: what is counted.
    """
    interval = interval_at(None)
    verdict = verdict_of(interval, side, bound)
    needed = None
    if verdict == UNDECIDED:
        if interval["low"] is None:
            needed = _needed(2, "at least", of)  # to have a spread; how many would decide depends on it
        else:
            found = enough(lambda n: verdict_of(interval_at(n), side, bound) != UNDECIDED)
            needed = _needed(MOST, "over", of) if found is None else _needed(found, "exactly", of)
    return {"interval": interval, "verdict": verdict, "needed": needed}


def most_needed(parts: Sequence[Mapping[str, Any] | None]) -> dict[str, Any] | None:
    """What it takes to decide all of several comparisons; None where there is none, or it is not known of one.

    ``n``, ``of`` what, ``relation`` and, in words, ``says``. The relation is "exactly" where so many would decide; "at
    least" where there is one net, which says nothing of a spread; "over" where it takes more than are planned with.
    """
    known = [part for part in parts if part is not None]
    if not known or len(known) < len(parts):
        return None
    relations = [part["relation"] for part in known]
    largest = max(known, key=lambda part: part["n"])
    return _needed(largest["n"], next(r for r in ("over", "at least", "exactly") if r in relations), largest["of"])


def _needed(n: int, relation: Literal["exactly", "at least", "over"], of: str) -> dict[str, Any]:
    wording = {"exactly": "{:,} {} would decide", "at least": "{:,} or more {} needed", "over": "over {:,} {} needed"}
    return {"n": n, "of": of, "relation": relation, "says": wording[relation].format(n, of)}


def common(verdicts: Iterable[str]) -> str:
    """The verdict of a claim from those of its comparisons: all must be reproduced, one that is not refutes."""
    found = [verdict for verdict in verdicts if verdict != ABSENT]
    if not found:
        return ABSENT
    if NOT_REPRODUCED in found:
        return NOT_REPRODUCED
    return UNDECIDED if UNDECIDED in found else REPRODUCED
