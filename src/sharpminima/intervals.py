"""Means, spreads and confidence intervals of differences by Student's t, and how many replicas would decide a sign."""

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from scipy.special import stdtrit

from sharpminima.errors import FigureError

CONFIDENCE = 0.95
_MOST = 10_000  # beyond it, replicas are no plan


def describe(values: Iterable[float]) -> dict[str, Any]:
    """Mean, sample standard deviation (None for a single value) and n.

    Raises:
        FigureError: there is no value, or one is not finite.
    """
    given = [float(value) for value in values]
    if not given or not all(math.isfinite(value) for value in given):
        raise FigureError(f"cannot summarise {given}: finite values are needed")
    mean = math.fsum(given) / len(given)
    spread = None
    if len(given) > 1:
        spread = math.sqrt(math.fsum((value - mean) ** 2 for value in given) / (len(given) - 1))
    return {"mean": mean, "sd": spread, "n": len(given)}


def paired(difference: Mapping[str, Any], n: int | None = None) -> dict[str, Any]:
    """Mean difference of pairs with its interval, from mean, sd and n; no interval for one pair.

    Args:
        difference: mean, sd and n of the pairs' differences.
        n: as if there were so many pairs of the same mean and spread.
    """
    mean = difference["mean"]
    if difference["n"] < 2:
        return {"mean": mean, "low": None, "high": None}
    n = n or difference["n"]
    half = _quantile(n - 1) * difference["sd"] / math.sqrt(n)
    return {"mean": mean, "low": mean - half, "high": mean + half}


def unpaired(first: Mapping[str, Any], second: Mapping[str, Any], n: int | None = None) -> dict[str, Any]:
    """Difference first - second of two groups' means by Welch's formula; no interval with a single net.

    Args:
        first, second: mean, sd and n of a group; a published value has sd 0 and n None.
        n: as if each group that has a spread had so many nets.
    """
    mean = first["mean"] - second["mean"]
    measured = [group for group in (first, second) if group["n"] is not None]
    if any(group["n"] < 2 for group in measured):
        return {"mean": mean, "low": None, "high": None}
    sizes = [n or group["n"] for group in measured]
    parts = [group["sd"] ** 2 / size for group, size in zip(measured, sizes, strict=True)]
    if sum(parts) == 0:
        return {"mean": mean, "low": mean, "high": mean}
    terms = [part**2 / (size - 1) for part, size in zip(parts, sizes, strict=True)]
    half = _quantile(sum(parts) ** 2 / sum(terms)) * math.sqrt(sum(parts))
    return {"mean": mean, "low": mean - half, "high": mean + half}


def enough(decided: Callable[[int], bool]) -> int | None:
    """The smallest number of replicas, from 2 on, at which ``decided`` holds; None where none below 10,000 does.

    ``decided`` must stay true once it is: intervals shrink as replicas are added.
    """
    if not decided(_MOST):
        return None
    low, high = 1, _MOST
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if decided(middle) else (middle, high)
    return high


def _quantile(freedom: float) -> float:
    return float(stdtrit(freedom, (1 + CONFIDENCE) / 2))
