"""Methods beside each other."""

import itertools
import json
import random
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

from sharpminima.base.errors import FigureError
from sharpminima.catalogue.methods import METHODS
from sharpminima.figures import methods, modifications, path, scales
from sharpminima.figures.style import styled
from sharpminima.report import tables
from sharpminima.report.titles import title_of_method

from . import cases

ROOT = Path(__file__).parents[2]


NAMES = {title_of_method(name) for name in METHODS}


def every_method(models: Sequence[str] = ("lenet300", "lenet5"), dataset: str = "mnist") -> pd.DataFrame:
    """Made-up nets of all methods at two levels; those with strengths end where they like."""
    draw = random.Random(0)
    rows = []
    for model, name, level, seed in itertools.product(models, METHODS, (0.95, 0.98), (0, 1)):
        swept = METHODS[name].dial == "none"
        share = 1 - (1 - level) * draw.uniform(0.3, 1) if swept else level
        values = {"sparsity": share, "test_error_percent": draw.lognormvariate(1, 0.8), "epochs": draw.choice([9, 120])}
        key = {"dataset": dataset, "model": model, "method": name, "level": level, "seed": seed}
        rows.append(cases.result(**key, **values, reached=not swept or draw.random() < 0.8))
    return pd.DataFrame(rows)


def names(axes: Axes) -> list[str]:
    """The names beside a panel, from above, without epochs."""
    return [text.get_text().split("  ")[0] for text in sorted(axes.texts, key=lambda text: -text.xyann[1])]


def test_methods_of_a_family_are_named_in_the_order_of_their_error() -> None:
    rows = [
        cases.result(method=method, level=level, test_error_percent=error, epochs=epochs, **values)
        for method, level, error, epochs, values in [
            ("snip", 0.9, 2.0, 20, {}),
            ("snip", 0.98, 4.0, 20, {"sparsity": 0.98}),
            ("l0", 0.9, 5.0, 40, {}),
            ("l0", 0.98, 6.0, 40, {"reached": False}),
            ("random", 0.98, 90.0, 20, {"sparsity": 0.98, "collapsed": True}),
        ]
    ]
    (axes,) = methods.methods_compared(pd.DataFrame(rows)).axes
    assert [text.get_text() for text in sorted(axes.texts, key=lambda text: -text.xyann[1])] == [
        "Random  20",
        "L0  40",
        "SNIP  20",
    ]
    assert axes.get_title(loc="left") == "Scored, mask learning"
    assert axes.xaxis_inverted()
    drawn = {
        (round(line.get_xdata()[0]), line.get_ydata()[0]): (line.get_marker(), line.get_markerfacecolor())
        for line in axes.lines
        if line.get_marker() not in ("None", ".")
    }
    assert {point: marker for point, (marker, _) in drawn.items()} == {
        (10, 2.0): "o",
        (2, 4.0): "s",
        (10, 5.0): "o",
        (10, 6.0): "s",
        (2, 90.0): "x",
    }
    assert [point for point, (_, face) in drawn.items() if face == "white"] == [(10, 6.0)]
    # What has no rank is named in grey.
    assert [text.get_text()[:2] for text in axes.texts if text.get_color() == "0.55"] == ["L0", "Ra"]


def test_published_errors_are_stars_of_nets_on_mnist() -> None:
    theirs = tables.read_table("published_errors", ROOT / "paper/published/mnist-pruned.csv")
    for dataset, expected in (("mnist", {(2.0, 2.4), (5.0, 1.6)}), ("digits", set())):
        rows = [
            cases.result(dataset=dataset, model="lenet300", method=name, sparsity=share, test_error_percent=3.0)
            for name, share in (("snip", 0.95), ("rigl", 0.9), ("l_half", 0.9))  # l_half: no error is published
        ]
        (axes,) = methods.methods_compared(pd.DataFrame(rows), theirs).axes
        stars = {tuple(line.get_xydata()[0]) for line in axes.lines if line.get_marker() == "*"}
        assert stars == expected
        low, high = sorted(axes.get_xlim())
        assert all(low < x < high for x, _ in stars)


def test_a_wide_spread_leaves_the_other_methods_their_room() -> None:
    rows = [cases.result(method="snip", sparsity=0.95), cases.result(method="rigl", sparsity=0.98)]
    rows += [
        cases.result(method="l0", sparsity=sparsity, test_error_percent=error, seed=seed)
        for seed, (sparsity, error) in enumerate([(0.9599, 1.5), (0.96, 2.0), (0.9999, 90.0)])
    ]
    (axes,) = methods.methods_compared(pd.DataFrame(rows)).axes
    assert min(axes.get_xlim()) > 1  # by l0's bar there would be a decade below
    assert min(axes.get_ylim()) > 1


@pytest.mark.slow  # a figure of 122 curves
def test_sixty_methods_are_named_on_a_page_and_no_text_overlaps() -> None:
    theirs = tables.read_table("published_errors", ROOT / "paper/published/mnist-pruned.csv")
    figure = methods.methods_compared(every_method(), theirs)
    assert figure.get_figheight() < 9.4  # of the 9.8 inches of the paper's page, beside its caption
    with styled():
        FigureCanvasAgg(figure).draw()
    labels = [text for axes in figure.axes for text in axes.texts]
    assert {name for axes in figure.axes for name in names(axes)} == NAMES
    assert len(labels) == 2 * len(METHODS)
    ticks = [
        tick
        for axes in figure.axes
        for axis in (axes.xaxis, axes.yaxis)
        for tick in (*axis.get_ticklabels(), axis.label)
        if tick.get_visible() and tick.get_text()
    ]
    told = [*labels, *ticks, *figure.texts, *(axes.title for axes in figure.axes), *figure.legends[0].get_texts()]
    assert min(text.get_fontsize() for text in told) >= 8
    places = [Text.get_window_extent(text) for text in told]  # of an annotation without its line
    for first, second in itertools.combinations(places, 2):
        assert not first.padded(-0.75).overlaps(second.padded(-0.75))
    whole = figure.bbox
    outside = [
        text.get_text()
        for text, place in zip(told, places, strict=True)
        if place.x0 < whole.x0 or place.x1 > whole.x1 or place.y0 < whole.y0 or place.y1 > whole.y1
    ]
    assert outside == []


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [(0.8, 90.0, [1, 10, 100]), (2.5, 3.0, [2.6, 2.8, 3.0]), (0.0, 3.0, [0, 1.5, 3.0]), (2.0, 2.0, [1.8, 1.95, 2.1])],
)
def test_an_axis_has_as_many_numbers_as_it_has_room_for(low: float, high: float, ticks: list[float]) -> None:
    figure = Figure(figsize=(2, 1))
    axes = figure.add_axes((0.2, 0.2, 0.7, 0.6))
    scales.fitted_log_scale(axes, "y", pd.Series([low, high]), size=8)
    below, above = axes.get_ylim()
    shown = [tick for tick in axes.get_yticks() if below <= tick <= above]
    assert shown == pytest.approx(ticks)


def test_modifications_stand_beside_the_published_ones_of_the_highest_level() -> None:
    rows = [
        cases.result(strategy=strategy, level=level, represented_by_level=level, seed=seed, test_error_percent=error)
        for strategy, level, errors in [
            ("rewind", 0.96, (1.0, 2.0)),
            ("reinit", 0.96, (3.0, 5.0)),
            ("reinit", 0.5, (70.0, 80.0)),
            ("gradual", 0.96, (0.5, 0.5)),
        ]
        for seed, error in enumerate(errors)
    ]
    published = pd.DataFrame({"strategy": ["rewind"], "accuracy_percent": [98.6], "spread_percent": [0.03]})
    (axes,) = modifications.modifications(pd.DataFrame(rows), published).axes
    assert len(axes.get_yticklabels()) == 2
    means = {line.get_xdata()[0]: line.get_ydata()[0] for line in axes.lines if line.get_marker() in ("o", "D")}
    assert means == {98.5: 1, 96.0: 0, 98.6: pytest.approx(1.22)}
    assert "n = 2" in axes.get_title(loc="left")


def test_the_shipped_published_numbers_name_our_strategies() -> None:
    table = tables.read_table("published", Path(__file__).parents[2] / "paper/published/mikler-table31.csv")
    assert set(table["strategy"]) <= set(modifications.STRATEGIES)


def test_the_path_of_dessilbi(tmp_path: Path) -> None:
    runs = []
    for run, densities in enumerate([(0.0, 0.4), (0.2, 0.6)]):
        runs.append(tmp_path / f"{run}.json")
        events = [
            {"epoch": epoch, "sparsity": 1 - density, "density_per_layer": {"fc.weight": density, "fc.bias": 1.0}}
            for epoch, density in enumerate(densities, start=1)
        ]
        runs[-1].write_text(json.dumps(events))
    rows = [
        cases.result(method="dessilbi", level=0.5, sparsity=0.5, test_error_percent=2.0),
        cases.result(method="dessilbi", level=0.9, sparsity=0.8, reached=False, test_error_percent=3.0),
        cases.result(strategy="dense", test_error_percent=1.0),
    ]
    left, right = path.selection_path(tables.path(runs), pd.DataFrame(rows)).axes
    drawn = {line.get_label(): line.get_ydata().tolist() for line in left.lines}
    assert drawn == {"all": pytest.approx([10, 50]), "fc": pytest.approx([10, 50])}
    faces = {round(line.get_xdata()[0]): line.get_markerfacecolor() for line in right.lines if line.get_marker() == "o"}
    assert set(faces) == {50, 20}
    assert faces[20] == "white"


def test_other_events_are_no_path(tmp_path: Path) -> None:
    file = tmp_path / "events.json"
    file.write_text('[{"event": 1, "sparsity": 0.5}]')
    with pytest.raises(FigureError, match="is no path of DessiLBI"):
        tables.path(file)
