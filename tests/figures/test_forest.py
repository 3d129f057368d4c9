"""The forest plot against claims whose differences are known."""

import pytest

from sharpminima.base.errors import FigureError
from sharpminima.figures.forest import forest


def result(mean=None, half=None, *, side="above", bound=0.0, margin=None, model="lenet5", **changed):
    """A comparison of LeNet-5 on MNIST: an interval of that half width around the mean, or one by counting."""
    interval = None if mean is None else {"mean": mean, "low": mean - half, "high": mean + half}
    return {
        **{"dataset": "mnist", "model": model, "method": "lobster", "stated": True, "sensitivity": False},
        **{"carried_from": None, "brief": "", "detail": "one", "values": [], "verdict": "undecided"},
        **{"interval": interval, "side": side, "bound": bound, "margin": margin},
        **changed,
    }


def claim(name, *results, verdict="undecided"):
    return {"id": name, "says": f"{name} holds.", "verdict": verdict, "results": list(results)}


def marks(axes):
    """(y, centre, left end, right end, hollow) of each comparison drawn."""
    spans = {line.get_ydata()[0]: line.get_xdata() for line in axes.lines if len(line.get_xdata()) == 2}
    points = [line for line in axes.lines if line.get_marker() == "o"]
    return [
        (
            *(float(line.get_ydata()[0]), float(line.get_xdata()[0])),
            *map(float, spans[line.get_ydata()[0]]),
            line.get_markerfacecolor() == "white",
        )
        for line in points
    ]


def texts(axes):
    return [text.get_text() for text in axes.texts]


def test_differences_are_in_units_of_the_margin_or_of_the_bound():
    (axes,) = forest(
        [claim("one", result(0.3, 0.1, margin=0.1), result(0.3, 0.1, side="below", bound=0.5, model="lenet300"))]
    ).axes
    assert marks(axes) == [pytest.approx((1, 3, 2, 4, False)), pytest.approx((2, 0.6, 0.4, 0.8, False))]
    assert texts(axes) == ["one holds.", "undecided", "LeNet-5 on MNIST", "LeNet-300 on MNIST"]
    wanted = {round(bar.get_y() + bar.get_height() / 2): bar for bar in axes.patches if bar.get_height() < 1}
    assert wanted[1].get_x() == 0  # above 0
    assert wanted[2].get_x() + wanted[2].get_width() == 1  # below the bound


def test_other_readings_are_left_out_and_counts_are_named():
    (axes,) = forest([claim("one", result(verdict="reproduced"), result(1, 1, margin=1, sensitivity=True))]).axes
    assert texts(axes) == ["one holds.", "undecided", "LeNet-5 on MNIST", "by counting"]
    assert marks(axes) == []


def test_what_carries_over_stands_hollow_at_its_own_claim():
    carried = result(2, 1, margin=1, model="lenet300", carried_from="one")
    (axes,) = forest([claim("one", result(3, 1, margin=1)), claim("all", carried)]).axes
    assert [(mark[0], mark[-1]) for mark in marks(axes)] == [(1, False), (2, True)]
    assert texts(axes)[-1] == "undecided (each net's own, hollow above)"


def test_nets_of_which_the_paper_does_not_speak_stand_where_it_names_none_of_the_study():
    other = result(2, 1, margin=1, model="lenet300", stated=False)
    (axes,) = forest([claim("one", result(3, 1, margin=1), other), claim("two", other)]).axes
    assert [(mark[0], mark[-1]) for mark in marks(axes)] == [(1, False), (3, True)]


def test_far_values_stand_at_the_edge():
    (axes,) = forest([claim("one", result(5000, 10, margin=1))]).axes
    assert marks(axes)[0][1] == axes.get_xlim()[1]


def test_a_study_without_comparisons_has_no_such_figure():
    with pytest.raises(FigureError, match="no claim of the paper has a comparison"):
        forest([claim("one")])
