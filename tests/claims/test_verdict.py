import numpy as np
import pytest

from sharpminima.claims import ABSENT, NOT_REPRODUCED, REPRODUCED, UNDECIDED
from sharpminima.claims._verdict import common, decide, verdict_of
from sharpminima.intervals import describe, paired


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
    # For a mean of one sd (t(0.975, 8) + t(0.8, 8)) / sqrt(9) = 1.07 is too wide, with 10 runs 0.99 is not.
    assert (found["verdict"], found["needed"]) == (UNDECIDED, {"n": 10, "of": "runs"})
    assert decide(lambda n: paired({**difference, "n": 10}, n), "above", 0.0)["verdict"] == REPRODUCED


def test_of_samples_so_large_four_in_five_decide():
    draws = np.random.default_rng(0)
    planned = decide(lambda n: paired({"mean": 1.0, "sd": 1.0, "n": 3}, n), "above", 0.0)["needed"]["n"]
    samples = draws.normal(1.0, 1.0, size=(4000, planned))
    decided = [decide(lambda n: paired(describe(values), n), "above", 0.0)["verdict"] for values in samples]  # noqa: B023
    assert decided.count(REPRODUCED) / len(decided) == pytest.approx(0.8, abs=0.03)


def test_one_run_or_no_difference_never_say_how_many():
    single = decide(lambda n: paired({"mean": 1.0, "sd": None, "n": 1}, n), "above", 0.0)
    assert (single["verdict"], single["needed"]) == (UNDECIDED, None)
    nothing = decide(lambda n: paired({"mean": 0.0, "sd": 1.0, "n": 3}, n), "above", 0.0)
    assert (nothing["verdict"], nothing["needed"]) == (UNDECIDED, None)


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
