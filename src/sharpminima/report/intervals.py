"""Means, spreads and confidence intervals of differences by Student's t, and how many replicas would decide a sign."""

import math
from collections.abc import Callable, Iterable
from typing import TypedDict

from sharpminima.base.errors import FigureError

CONFIDENCE = 0.95
POWER = 0.8
"""Of the samples of a planned size, the share that shall exclude what the planned interval excludes."""
MOST = 1_000
"""The largest number of replicas that is planned with."""
_ROUNDING = 1e-12  # relative to the largest of the values: what is left below it is their rounding


class Summary(TypedDict):
    """Of values of one quantity, in its unit."""

    mean: float
    sd: float | None  # of a sample; None for a single value
    n: int


class Published(TypedDict):
    """A value from the literature, in place of a summary."""

    mean: float
    sd: float  # 0: what it spreads is not known
    n: None


class Interval(TypedDict):
    """Of a difference, in the quantity's unit, and what it comes from; None where there is no spread."""

    mean: float
    low: float | None
    high: float | None
    error: float | None  # standard error of the mean
    freedom: float | None  # degrees


def describe(values: Iterable[float]) -> Summary:
    """Summary of values; those that cancel up to rounding have mean 0, and a mean has twelve significant digits.

    Errors are multiples of a hundredth, whose means may end in a five: what binary sums leave behind it would decide
    how it is rounded.

    >>> describe([1.0, 3.0])
    {'mean': 2.0, 'sd': 1.4142135623730951, 'n': 2}
    >>> describe([2.17 - 1.90, 2.16 - 1.90])["mean"], math.fsum([2.17 - 1.90, 2.16 - 1.90]) / 2
    (0.265, 0.2650000000000001)

    Raises:
        FigureError: there is no value, or one is not finite.
    """
    given = [float(value) for value in values]
    if not given or not all(math.isfinite(value) for value in given):
        raise FigureError(f"cannot summarise {given}: finite values are needed")
    mean = float(f"{_without_rounding(math.fsum(given) / len(given), given):.12g}")
    spread = None
    if len(given) > 1:
        spread = math.sqrt(math.fsum((value - mean) ** 2 for value in given) / (len(given) - 1))
        spread = _without_rounding(spread, given)
    return {"mean": mean, "sd": spread, "n": len(given)}


def paired(difference: Summary, planned: int | None = None) -> Interval:
    """Mean difference of pairs with its interval, from mean, sd and n; no interval for one pair.

    Args:
        difference: of the pairs' differences.
        planned: as if there were so many pairs of the same mean and spread, and widened so that of such samples
            `POWER` exclude what it excludes.
    """
    return _around(difference["mean"], difference, planned, lambda n: 1 / n)


def predicted(draws: Summary, single: float, planned: int | None = None) -> Interval:
    """Difference of the draws' mean from a single value; no interval from one draw.

    The interval is that of a prediction by Student's t: it holds 0 where the value passes for one more draw.

    Args:
        draws: of their values.
        single: the value.
        planned: as in `paired`, with so many draws.
    """
    return _around(_difference(draws["mean"], single), draws, planned, lambda n: 1 + 1 / n)


def unpaired(first: Summary, second: Summary | Published, planned: int | None = None) -> Interval:
    """Difference first - second of two groups' means by Welch's formula; no interval with a single net.

    Args:
        first, second: of a group, or a published value.
        planned: as in `paired`, with so many nets in each group that has a spread.
    """
    mean = _difference(first["mean"], second["mean"])
    sizes, parts = [], []
    groups: tuple[Summary | Published, ...] = (first, second)
    for group in groups:
        n, sd = group["n"], group["sd"]
        if n is None:
            continue
        if n < 2 or sd is None:
            return _interval(mean, None, None, planned)
        sizes.append(planned or n)
        parts.append(sd**2 / sizes[-1])
    terms = [part**2 / (size - 1) for part, size in zip(parts, sizes, strict=True)]
    freedom = sum(parts) ** 2 / sum(terms) if sum(parts) else float(sum(sizes) - len(sizes))
    return _interval(mean, math.sqrt(sum(parts)), freedom, planned)


def tail(interval: Interval, limit: float) -> float:
    """Twice the probability of a difference as large if the true one were ``limit``, at most 1.

    Below .05 just where the whole 95 % interval lies above ``limit``.
    """
    above = interval["mean"] - limit
    if interval["error"] == 0:
        return 0.0 if above > 0 else 1.0
    from scipy.special import stdtr  # as in `_quantile`

    assert interval["error"] is not None  # else nothing is decided, and nobody asks
    return min(1.0, 2 * float(stdtr(interval["freedom"], -above / interval["error"])))


def mirrored(interval: Interval) -> Interval:
    """The interval of the difference the other way round."""
    low, high = ((None if end is None else -end) for end in (interval["high"], interval["low"]))
    return {**interval, "mean": -interval["mean"], "low": low, "high": high}


def enough(decided: Callable[[int], bool]) -> int | None:
    """The smallest number of replicas, from 2 on, at which ``decided`` holds; None where none up to 1,000 does.

    ``decided`` must stay true once it is: intervals shrink as replicas are added.
    """
    if not decided(MOST):
        return None
    low, high = 1, MOST
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if decided(middle) else (middle, high)
    return high


def _difference(first: float, second: float) -> float:
    return _without_rounding(first - second, (first, second))


def _without_rounding(value: float, of: Iterable[float]) -> float:
    """``value``, or 0 where it is no more than the rounding of the values that it is a sum of."""
    return value if abs(value) > _ROUNDING * max(map(abs, of)) else 0.0


def _around(mean: float, sample: Summary, planned: int | None, variance: Callable[[int], float]) -> Interval:
    """Interval about ``mean`` with a squared standard error of sd^2 times ``variance`` of the number of values."""
    n, sd = sample["n"], sample["sd"]
    if n < 2 or sd is None:
        return _interval(mean, None, None, planned)
    n = planned or n
    return _interval(mean, sd * math.sqrt(variance(n)), float(n - 1), planned)


def _interval(mean: float, error: float | None, freedom: float | None, planned: int | None) -> Interval:
    if error is None or freedom is None:
        return {"mean": mean, "low": None, "high": None, "error": None, "freedom": None}
    half = _quantile(freedom, planned) * error if error else 0.0
    return {"mean": mean, "low": mean - half, "high": mean + half, "error": error, "freedom": freedom}


def _quantile(freedom: float, planned: int | None) -> float:
    from scipy.special import stdtrit  # a third of a second, needed where intervals are computed only

    quantile = stdtrit(freedom, (1 + CONFIDENCE) / 2)
    # The usual sum of both quantiles, in place of the noncentral t distribution.
    return float(quantile if planned is None else quantile + stdtrit(freedom, POWER))
