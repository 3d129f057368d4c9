"""Means, spreads and confidence intervals of differences by Student's t, and how many replicas would decide a sign.

An interval is a dict: ``mean``, ``low`` and ``high`` (None where there is no spread), and what they come from: the
standard ``error`` of the mean and the degrees of ``freedom`` (both None where there is none).
"""

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from sharpminima.base.errors import FigureError

CONFIDENCE = 0.95
POWER = 0.8
"""Of the samples of a planned size, the share that shall exclude what the planned interval excludes."""
MOST = 1_000
"""The largest number of replicas that is planned with."""
_ROUNDING = 1e-12  # relative to the largest of the values: what is left below it is their rounding


def describe(values: Iterable[float]) -> dict[str, Any]:
    """Mean, sample standard deviation (None for a single value) and n; values that cancel up to rounding have mean 0.

    Raises:
        FigureError: there is no value, or one is not finite.
    """
    given = [float(value) for value in values]
    if not given or not all(math.isfinite(value) for value in given):
        raise FigureError(f"cannot summarise {given}: finite values are needed")
    mean = _without_rounding(math.fsum(given) / len(given), given)
    spread = None
    if len(given) > 1:
        spread = math.sqrt(math.fsum((value - mean) ** 2 for value in given) / (len(given) - 1))
    return {"mean": mean, "sd": spread, "n": len(given)}


def paired(difference: Mapping[str, Any], planned: int | None = None) -> dict[str, Any]:
    """Mean difference of pairs with its interval, from mean, sd and n; no interval for one pair.

    Args:
        difference: mean, sd and n of the pairs' differences.
        planned: as if there were so many pairs of the same mean and spread, and widened so that of such samples
            `POWER` exclude what it excludes.
    """
    return _around(difference["mean"], difference, planned, lambda n: 1 / n)


def predicted(draws: Mapping[str, Any], single: float, planned: int | None = None) -> dict[str, Any]:
    """Difference of the draws' mean from a single value; no interval from one draw.

    The interval is that of a prediction by Student's t: it holds 0 where the value passes for one more draw.

    Args:
        draws: mean, sd and n.
        single: the value.
        planned: as in `paired`, with so many draws.
    """
    return _around(_difference(draws["mean"], single), draws, planned, lambda n: 1 + 1 / n)


def unpaired(first: Mapping[str, Any], second: Mapping[str, Any], planned: int | None = None) -> dict[str, Any]:
    """Difference first - second of two groups' means by Welch's formula; no interval with a single net.

    Args:
        first, second: mean, sd and n of a group; a published value has sd 0 and n None.
        planned: as in `paired`, with so many nets in each group that has a spread.
    """
    mean = _difference(first["mean"], second["mean"])
    measured = [group for group in (first, second) if group["n"] is not None]
    if any(group["n"] < 2 for group in measured):
        return _interval(mean, None, None, planned)
    sizes = [planned or group["n"] for group in measured]
    parts = [group["sd"] ** 2 / size for group, size in zip(measured, sizes, strict=True)]
    terms = [part**2 / (size - 1) for part, size in zip(parts, sizes, strict=True)]
    freedom = sum(parts) ** 2 / sum(terms) if sum(parts) else float(sum(sizes) - len(sizes))
    return _interval(mean, math.sqrt(sum(parts)), freedom, planned)


def tail(interval: Mapping[str, Any], limit: float) -> float:
    """Twice the probability of a difference as large if the true one were ``limit``, at most 1.

    Below .05 just where the whole 95 % interval lies above ``limit``.
    """
    above = interval["mean"] - limit
    if interval["error"] == 0:
        return 0.0 if above > 0 else 1.0
    from scipy.special import stdtr  # as in `_quantile`

    return min(1.0, 2 * float(stdtr(interval["freedom"], -above / interval["error"])))


def mirrored(interval: Mapping[str, Any]) -> dict[str, Any]:
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


def _around(
    mean: float, sample: Mapping[str, Any], planned: int | None, variance: Callable[[int], float]
) -> dict[str, Any]:
    """Interval about ``mean`` with a squared standard error of sd^2 times ``variance`` of the number of values."""
    if sample["n"] < 2:
        return _interval(mean, None, None, planned)
    n = planned or sample["n"]
    return _interval(mean, sample["sd"] * math.sqrt(variance(n)), float(n - 1), planned)


def _interval(mean: float, error: float | None, freedom: float | None, planned: int | None) -> dict[str, Any]:
    if error is None or freedom is None:
        return {"mean": mean, "low": None, "high": None, "error": None, "freedom": None}
    half = _quantile(freedom, planned) * error if error else 0.0
    return {"mean": mean, "low": mean - half, "high": mean + half, "error": error, "freedom": freedom}


def _quantile(freedom: float, planned: int | None) -> float:
    from scipy.special import stdtrit  # a third of a second, needed where intervals are computed only

    found = stdtrit(freedom, (1 + CONFIDENCE) / 2)
    # The usual sum of both quantiles, in place of the noncentral t distribution.
    return float(found if planned is None else found + stdtrit(freedom, POWER))
