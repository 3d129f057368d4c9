"""Elementary functions in compiled code against NumPy's in float64."""

import numpy as np
import pytest

from sharpminima.runtime.compiled import compiled
from sharpminima.runtime.elementary import log2, sigmoid

LAST_PLACE = 2.0**-23


@compiled
def sigmoids(x: np.ndarray, y: np.ndarray) -> None:
    for place in range(len(x)):
        y[place] = sigmoid(x[place])


@compiled
def logs(x: np.ndarray, y: np.ndarray) -> None:
    for place in range(len(x)):
        y[place] = log2(x[place])


def test_sigmoid_to_the_last_places() -> None:
    x = np.concatenate([np.linspace(-87, 87, 100_001), np.linspace(-2, 2, 10_001)]).astype(np.float32)
    found = np.empty_like(x)
    sigmoids(x, found)
    expected = 1 / (1 + np.exp(-x.astype(np.float64)))
    assert np.abs(found / expected - 1).max() < 3 * LAST_PLACE


def test_sigmoid_at_the_ends() -> None:
    x = np.array([0.0, np.inf, -np.inf, 1e30, np.nan], np.float32)
    found = np.empty_like(x)
    sigmoids(x, found)
    assert list(found[:4]) == pytest.approx([0.5, 1.0, 0.0, 1.0])
    assert found[2] > 0
    assert np.isnan(found[4])


def test_log2_to_the_last_places() -> None:
    ends = [np.finfo(np.float32).tiny, np.finfo(np.float32).max, 1 - 2.0**-24, 1 + 2.0**-23]
    x = np.concatenate([np.linspace(1e-6, 1, 100_001), np.logspace(-37, 38, 10_001), ends]).astype(np.float32)
    found = np.empty_like(x)
    logs(x, found)
    expected = np.log2(x.astype(np.float64))
    known = expected != 0
    assert np.abs(found[known] / expected[known] - 1).max() < 2 * LAST_PLACE
    assert not found[~known].any()
