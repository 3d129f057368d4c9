import pytest

from sharpminima.claims import ABSENT, NOT_REPRODUCED, REPRODUCED, UNDECIDED
from sharpminima.claims._verdict import common, decide, verdict_of
from sharpminima.intervals import paired


@pytest.mark.parametrize(
    ("low", "high", "above", "below", "within"),
    [
        (0.1, 0.2, REPRODUCED, NOT_REPRODUCED, REPRODUCED),
        (-0.2, -0.1, NOT_REPRODUCED, REPRODUCED, REPRODUCED),
        (-0.1, 0.9, UNDECIDED, UNDECIDED, UNDECIDED),
        (0.6, 0.9, REPRODUCED, NOT_REPRODUCED, NOT_REPRODUCED),
        (None, None, UNDECIDED, UNDECIDED, UNDECIDED),
    ],
)
def test_where_the_interval_lies_decides(low, high, above, below, within):
    interval = {"mean": 0.0, "low": low, "high": high}
    assert verdict_of(interval, "above", 0.0) == above
    assert verdict_of(interval, "below", 0.0) == below
    assert verdict_of(interval, "within", 0.5) == within


def test_a_bound_moves_the_line():
    interval = {"mean": 0.4, "low": 0.3, "high": 0.5}
    assert verdict_of(interval, "above", 0.25) == REPRODUCED
    assert verdict_of(interval, "above", 0.4) == UNDECIDED
    assert verdict_of(interval, "below", 0.6) == REPRODUCED


def test_undecided_says_how_many_replicas_would_decide():
    difference = {"mean": 1.0, "sd": 1.0, "n": 3}
    found = decide(lambda n: paired(difference, n), "above", 0.0)
    # For a mean of one sd, t(0.975, 5) / sqrt(6) = 1.05 is too wide, t(0.975, 6) / sqrt(7) = 0.92 is not.
    assert (found["verdict"], found["replicas_needed"]) == (UNDECIDED, 7)
    assert decide(lambda n: paired({**difference, "n": 7}, n), "above", 0.0)["verdict"] == REPRODUCED


def test_one_run_or_no_difference_never_say_how_many():
    single = decide(lambda n: paired({"mean": 1.0, "sd": None, "n": 1}, n), "above", 0.0)
    assert (single["verdict"], single["replicas_needed"]) == (UNDECIDED, None)
    nothing = decide(lambda n: paired({"mean": 0.0, "sd": 1.0, "n": 3}, n), "above", 0.0)
    assert (nothing["verdict"], nothing["replicas_needed"]) == (UNDECIDED, None)


@pytest.mark.parametrize(
    ("found", "verdict"),
    [
        ([], ABSENT),
        ([REPRODUCED, REPRODUCED], REPRODUCED),
        ([REPRODUCED, UNDECIDED], UNDECIDED),
        ([REPRODUCED, UNDECIDED, NOT_REPRODUCED], NOT_REPRODUCED),
    ],
)
def test_all_comparisons_must_reproduce_a_claim(found, verdict):
    assert common(found) == verdict
