"""What the cells of the pages' tables show."""

from collections.abc import Mapping
from typing import Any

from sharpminima.report.rounding import with_spread


def digits(summary: Mapping[str, Any]) -> str:
    return with_spread(summary["mean"], summary["sd"])
