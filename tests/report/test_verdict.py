import numpy as np
import pytest

from sharpminima.report.claims import ABSENT, NOT_REPRODUCED, REPRODUCED, UNDECIDED
from sharpminima.report.claims._verdict import (
    NO_DIFFERENCE,
    SMALL,
    common,
    common_p,
    common_remark,
    decide,
    holm,
    most_needed,
    verdict_of,
)
from sharpminima.report.intervals import describe, paired


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
    needed = {"n": 10, "of": "runs", "relation": "exactly", "says": "10 runs would decide"}
    assert (found["verdict"], found["needed"]) == (UNDECIDED, needed)
    assert decide(lambda n: paired({**difference, "n": 10}, n), "above", 0.0)["verdict"] == REPRODUCED


def test_of_samples_so_large_four_in_five_decide():
    draws = np.random.default_rng(0)
    planned = decide(lambda n: paired({"mean": 1.0, "sd": 1.0, "n": 3}, n), "above", 0.0)["needed"]["n"]
    samples = draws.normal(1.0, 1.0, size=(4000, planned))
    decided = [decide(lambda n: paired(describe(values), n), "above", 0.0)["verdict"] for values in samples]  # noqa: B023
    assert decided.count(REPRODUCED) / len(decided) == pytest.approx(0.8, abs=0.03)


def test_one_run_or_hardly_a_difference_says_what_is_known_of_how_many():
    single = decide(lambda n: paired({"mean": 1.0, "sd": None, "n": 1}, n), "above", 0.0)
    assert (single["verdict"], single["needed"]["n"]) == (UNDECIDED, 2)
    assert single["needed"]["says"] == "2 or more runs needed"
    for mean in (0.0, 1e-3):
        hardly = decide(lambda n: paired({"mean": mean, "sd": 1.0, "n": 3}, n), "above", 0.0, of="nets")  # noqa: B023
        assert (hardly["verdict"], hardly["needed"]["relation"]) == (UNDECIDED, "over")
        assert hardly["needed"]["says"] == "over 1,000 nets needed"


def test_a_claim_needs_what_its_largest_comparison_needs():
    def needed(mean, n, of="runs"):
        return decide(lambda m: paired({"mean": mean, "sd": 1.0 if n > 1 else None, "n": n}, m), "above", 0.0, of=of)[
            "needed"
        ]

    few, many, unknown, endless = needed(1.0, 3), needed(0.5, 3, "nets"), needed(1.0, 1), needed(0.0, 3)
    assert most_needed([few]) == few
    assert most_needed([few, many]) == many
    assert most_needed([unknown, many])["says"] == f"{many['n']} or more nets needed"
    assert most_needed([unknown, endless, few])["says"] == "over 1,000 runs needed"
    assert most_needed([]) is None
    assert most_needed([few, None]) is None


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


@pytest.mark.parametrize(
    ("low", "high", "above", "below"),
    [
        (-0.1, 0.2, NOT_REPRODUCED, NOT_REPRODUCED),  # equal, for what matters
        (-0.3, 0.3, NOT_REPRODUCED, NOT_REPRODUCED),
        (-0.1, 0.4, UNDECIDED, UNDECIDED),
        (0.1, 0.2, REPRODUCED, NOT_REPRODUCED),  # on its side, though small
        (0.1, 0.4, REPRODUCED, NOT_REPRODUCED),
        (None, None, UNDECIDED, UNDECIDED),
    ],
)
def test_two_things_that_are_equal_refute_a_difference(low, high, above, below):
    interval = {"mean": 0.0, "low": low, "high": high}
    assert verdict_of(interval, "above", 0.0, 0.3) == above
    assert verdict_of(interval, "below", 0.0, 0.3) == below


def difference(mean, sd=0.1, n=10):
    return {"mean": mean, "sd": sd, "n": n}


def decided(mean, side="above", bound=0.0, margin=None, sd=0.1, n=10):
    return decide(lambda m: paired(difference(mean, sd, n), m), side, bound, margin=margin)


def test_a_verdict_within_the_margin_says_so():
    # Half the interval is t(0.975, 9) * 0.1 / sqrt(10) = 0.0715.
    assert (decided(0.1, margin=0.3)["verdict"], decided(0.1, margin=0.3)["remark"]) == (REPRODUCED, SMALL)
    assert decided(0.25, margin=0.3)["remark"] is None  # its end is beyond
    equal = decided(0.01, margin=0.3)
    assert (equal["verdict"], equal["remark"], equal["needed"]) == (NOT_REPRODUCED, NO_DIFFERENCE, None)
    assert decided(-0.1, margin=0.3)["remark"] == NO_DIFFERENCE
    other = decided(-0.4, margin=0.3)
    assert (other["verdict"], other["remark"]) == (NOT_REPRODUCED, None)
    # A small difference that three runs cannot tell from none needs fewer with a margin than without.
    with_margin, without = (decided(0.01, margin=margin, n=3)["needed"] for margin in (0.2, None))
    assert with_margin["n"] < 10
    assert without["n"] > 500


@pytest.mark.parametrize(
    ("mean", "side", "bound", "margin", "distance"),
    [
        (0.1, "above", 0.0, None, 0.1),
        (0.1, "above", 0.0, 0.15, 0.1),
        (-0.1, "above", 0.0, None, 0.1),
        (0.02, "above", 0.0, 0.3, 0.28),
        (0.1, "below", 0.3, None, 0.2),
        (0.1, "within", 0.3, None, 0.2),
        (0.5, "within", 0.3, None, 0.2),
    ],
)
def test_p_is_the_level_at_which_the_verdict_is_lost(mean, side, bound, margin, distance):
    """``distance``: to the nearest limit that the interval must not touch; where it just does, p is 5 %."""
    assert decided(mean, side, bound, margin)["p"] < 0.05
    touching = distance / 2.2621572 * 10**0.5
    assert decided(mean, side, bound, margin, sd=touching * 0.9999)["p"] == pytest.approx(0.05, rel=1e-3)
    assert decided(mean, side, bound, margin, sd=touching * 1.0001)["verdict"] == UNDECIDED


def test_a_claim_s_remark_and_p_are_those_of_what_decides_it():
    small, large = decided(0.1, margin=0.3), decided(0.5, margin=0.3)
    equal, other = decided(0.0, margin=0.3), decided(-0.5, margin=0.3)
    counted = {"verdict": REPRODUCED, "interval": None, "p": None, "remark": None}
    assert common_remark(REPRODUCED, [small, small]) == SMALL
    assert common_remark(REPRODUCED, [small, large]) is None
    assert common_remark(NOT_REPRODUCED, [small, equal]) == NO_DIFFERENCE
    assert common_remark(NOT_REPRODUCED, [other, equal]) is None
    assert common_p(REPRODUCED, [small, large, counted]) == small["p"]
    assert common_p(NOT_REPRODUCED, [small, equal, counted]) == pytest.approx(2 * equal["p"])
    assert common_p(UNDECIDED, [small, decided(0.0)]) == 1.0
    assert common_p(REPRODUCED, [counted]) is None


def test_holm_stops_at_the_first_that_fails():
    # 0.01 * 4 and 0.015 * 3 stay below 0.05, 0.03 * 2 does not, and what comes after falls with it.
    assert holm([0.03, 0.01, None, 0.04, 0.015]) == [False, True, None, False, True]
    assert holm([]) == []
