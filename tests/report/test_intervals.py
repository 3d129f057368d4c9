import math

import pytest

from sharpminima.base.errors import FigureError
from sharpminima.report import intervals


def test_describe_known_answer():
    assert intervals.describe([1.0, 2.0, 3.0]) == {"mean": 2.0, "sd": 1.0, "n": 3}
    assert intervals.describe([4.0]) == {"mean": 4.0, "sd": None, "n": 1}
    with pytest.raises(FigureError, match="finite"):
        intervals.describe([1.0, float("nan")])
    with pytest.raises(FigureError, match="finite"):
        intervals.describe([])


@pytest.mark.parametrize(("n", "quantile"), [(2, 12.7062), (3, 4.30265), (11, 2.22814)])
def test_paired_known_answer(n, quantile):
    error = 0.5 / math.sqrt(n)
    expected = {
        "mean": 1.0,
        "low": 1 - quantile * error,
        "high": 1 + quantile * error,
        "error": error,
        "freedom": n - 1,
    }
    assert intervals.paired({"mean": 1.0, "sd": 0.5, "n": n}) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(("n", "quantiles"), [(3, 4.30265 + 1.06066), (11, 2.22814 + 0.87906)])
def test_a_plan_is_wider_by_the_quantile_of_its_power(n, quantiles):
    error = 0.5 / math.sqrt(n)
    found = intervals.paired({"mean": 1.0, "sd": 0.5, "n": 5}, n)
    ends = {"low": 1 - quantiles * error, "high": 1 + quantiles * error}
    assert found == pytest.approx({"mean": 1.0, **ends, "error": error, "freedom": n - 1}, rel=1e-4)


def test_one_value_against_draws():
    # One more draw has the variance of the draws, and that of their mean: t(0.975, 9) * 0.2 * sqrt(1 + 1/10).
    error = 0.2 * math.sqrt(1.1)
    found = intervals.predicted({"mean": 1.5, "sd": 0.2, "n": 10}, 1.2)
    ends = {"low": 0.3 - 2.262157 * error, "high": 0.3 + 2.262157 * error}
    assert found == pytest.approx({"mean": 0.3, **ends, "error": error, "freedom": 9}, rel=1e-5)
    assert intervals.predicted({"mean": 1.5, "sd": None, "n": 1}, 1.2)["low"] is None
    assert intervals.predicted({"mean": 1.5, "sd": 0.2, "n": 3}, 1.2, 10)["low"] < found["low"]


def test_welch_known_answer():
    first, second = {"mean": 3.0, "sd": 1.0, "n": 4}, {"mean": 1.0, "sd": 2.0, "n": 4}
    # Standard error sqrt(1/4 + 1), 75/17 degrees of freedom: a quantile between those of 4 (2.776) and 5 (2.571).
    error = math.sqrt(1.25)
    ends = {"low": 2 - 2.677175 * error, "high": 2 + 2.677175 * error}
    expected = {"mean": 2.0, **ends, "error": error, "freedom": 75 / 17}
    assert intervals.unpaired(first, second) == pytest.approx(expected, rel=1e-5)


def test_a_published_value_has_no_spread():
    # One-sample interval: the degrees of freedom are those of the measured group.
    error = 0.3 / math.sqrt(3)
    found = intervals.unpaired({"mean": 1.0, "sd": 0.3, "n": 3}, {"mean": 0.8, "sd": 0.0, "n": None})
    ends = {"low": 0.2 - 4.302653 * error, "high": 0.2 + 4.302653 * error}
    assert found == pytest.approx({"mean": 0.2, **ends, "error": error, "freedom": 2})


def test_single_nets_have_no_interval():
    single, several = {"mean": 1.0, "sd": None, "n": 1}, {"mean": 0.5, "sd": 0.1, "n": 3}
    unknown = {"low": None, "high": None, "error": None, "freedom": None}
    assert intervals.paired(single) == {"mean": 1.0, **unknown}
    assert intervals.unpaired(single, several) == {"mean": 0.5, **unknown}
    assert intervals.unpaired(several, single) == {"mean": -0.5, **unknown}


@pytest.mark.parametrize("smallest", [2, 3, 57, 1_000])
def test_enough_is_the_smallest_number(smallest):
    assert intervals.enough(lambda n: n >= smallest) == smallest


def test_enough_without_an_end():
    assert intervals.enough(lambda n: False) is None


def test_what_cancels_up_to_rounding_is_no_difference():
    pairs = [1.42 - 1.38, 1.40 - 1.43, 1.37 - 1.38]
    assert math.fsum(pairs) != 0
    assert intervals.describe(pairs)["mean"] == 0.0
    left, right = {"mean": 0.1 + 0.2, "sd": 0.1, "n": 3}, {"mean": 0.3, "sd": 0.1, "n": 3}
    assert left["mean"] != right["mean"]
    found = intervals.unpaired(left, right)
    assert found["mean"] == 0.0
    assert found["low"] == -found["high"]
    assert intervals.predicted(left, 0.3)["mean"] == 0.0
    assert intervals.describe([1e-9, -2e-9])["mean"] == -5e-10  # small, and no rounding


def test_twice_the_tail_is_five_percent_at_the_interval_s_end():
    found = intervals.paired({"mean": 1.0, "sd": 0.5, "n": 5})
    assert intervals.tail(found, found["low"]) == pytest.approx(0.05)
    assert intervals.tail(found, 1.0) == pytest.approx(1.0)
    # Student's t of 4 degrees of freedom: P(t > 2 sqrt(5)) = .00553.
    assert intervals.tail(found, 0.0) == pytest.approx(2 * 0.00553, rel=1e-2)
    assert intervals.tail(found, 2.0) == 1.0
    assert intervals.tail(intervals.mirrored(found), -found["high"]) == pytest.approx(0.05)
    constant = intervals.paired({"mean": 1.0, "sd": 0.0, "n": 5})
    assert [intervals.tail(constant, limit) for limit in (0.0, 1.0, 2.0)] == [0.0, 1.0, 1.0]


def test_mirrored_is_the_difference_the_other_way_round():
    found = intervals.mirrored({"mean": 1.0, "low": 0.5, "high": 1.5, "error": 0.1, "freedom": 4})
    assert found == {"mean": -1.0, "low": -1.5, "high": -0.5, "error": 0.1, "freedom": 4}
    assert intervals.mirrored(intervals.paired({"mean": 1.0, "sd": None, "n": 1}))["low"] is None
