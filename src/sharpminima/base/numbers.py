"""Numbers that a caller gives, checked and as Python's own."""

import math
import operator
from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec, TypeVar

from sharpminima.base.errors import AnalysisError, SharpminimaError

_T = TypeVar("_T")
_P = ParamSpec("_P")


def check_whole(
    name: str, value: Any, *, least: int | None = None, error: type[SharpminimaError] = AnalysisError
) -> int:
    """Check that a value is a whole number, of Python or numpy: the number as Python's, which files hold.

    True and False are none.

    Raises:
        SharpminimaError: it is not, or is below ``least``; it is named. Of the class ``error``.
    """
    try:
        number = None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = None
    if number is None:
        raise error(f"{name} is {value!r}; give a whole number")
    if least is not None and number < least:
        raise error(f"{name} is {number}; give at least {least}")
    return number


def check_number(
    name: str, value: Any, *, least: float | None = None, error: type[SharpminimaError] = AnalysisError
) -> float:
    """Check that a value is a finite number: the number as Python's, which files hold.

    Raises:
        SharpminimaError: it is not, or is below ``least``; it is named. Of the class ``error``.
    """
    try:
        number = None if isinstance(value, bool | str | bytes | bytearray) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = None
    if number is None:
        raise error(f"{name} is {value!r}; give a number")
    if not math.isfinite(number):
        raise error(f"{name} is {number}; give a finite number")
    if least is not None and number < least:
        raise error(f"{name} is {number:g}; give at least {least:g}")
    return number


def optional(
    check: Callable[Concatenate[str, Any, _P], _T], name: str, value: Any, *args: _P.args, **kwargs: _P.kwargs
) -> _T | None:
    """What a check makes of a value; None of None."""
    return None if value is None else check(name, value, *args, **kwargs)
