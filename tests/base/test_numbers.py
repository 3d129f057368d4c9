"""Numbers that a caller gives."""

import numpy as np
import pytest

from sharpminima.base.errors import AnalysisError, TrainingError
from sharpminima.base.numbers import check_number, check_whole, optional


@pytest.mark.parametrize("value", [3, np.int64(3), np.uint8(3)])
def test_whole_numbers_come_as_pythons(value: object) -> None:
    number = check_whole("steps", value)
    assert number == 3
    assert type(number) is int


@pytest.mark.parametrize("value", [True, np.bool_(True), 3.0, "3", None, b"3"])
def test_what_is_no_whole_number_is_named(value: object) -> None:
    with pytest.raises(AnalysisError, match=r"^steps is .*; give a whole number$"):
        check_whole("steps", value)


def test_a_whole_number_below_the_least_is_named() -> None:
    assert check_whole("steps", 2, least=2) == 2
    with pytest.raises(TrainingError, match=r"^steps is 1; give at least 2$"):
        check_whole("steps", 1, least=2, error=TrainingError)


@pytest.mark.parametrize("value", [0.5, np.float32(0.5), np.float64(0.5)])
def test_numbers_come_as_pythons(value: object) -> None:
    number = check_number("tol", value)
    assert number == 0.5
    assert type(number) is float


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        (True, "a number"),
        ("0.5", "a number"),
        (b"1", "a number"),
        (None, "a number"),
        ([1], "a number"),
        (float("nan"), "a finite number"),
        (np.inf, "a finite number"),
        (10**400, "a number"),
    ],
)
def test_what_is_no_finite_number_is_named(value: object, wanted: str) -> None:
    with pytest.raises(TrainingError, match=f"^tol is .*; give {wanted}$"):
        check_number("tol", value, error=TrainingError)


def test_what_is_optional_may_be_none() -> None:
    assert optional(check_number, "memory", None) is None
    assert optional(check_whole, "steps", np.int64(2), least=1) == 2
    with pytest.raises(AnalysisError, match=r"^steps is 0; give at least 1$"):
        optional(check_whole, "steps", 0, least=1)
