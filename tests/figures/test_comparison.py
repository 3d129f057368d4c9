"""Methods beside each other."""

import json
from pathlib import Path

import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from sharpminima.base.errors import FigureError
from sharpminima.figures import methods, modifications, path
from sharpminima.report import tables

from . import cases


def test_methods_stand_in_the_order_of_their_error() -> None:
    rows = [
        cases.result(method=method, level=level, test_error_percent=error, reached=reached, epochs=epochs)
        for method, level, error, reached, epochs in [
            ("snip", 0.9, 2.0, True, 20),
            ("snip", 0.98, 4.0, True, 20),
            ("l0", 0.9, 5.0, True, 40),
            ("l0", 0.98, 6.0, False, 40),
        ]
    ]
    figure = methods.methods_compared(pd.DataFrame(rows))
    left, right, below = figure.axes
    assert [tick.get_text() for tick in left.get_yticklabels()] == ["l0", "snip"]
    assert left.get_xlabel() == "test error (%)"
    drawn = {(line.get_xdata()[0], line.get_ydata()[0]): line.get_markerfacecolor() for line in left.lines}
    assert set(drawn) == {(2.0, 1), (4.0, 1), (5.0, 0), (6.0, 0)}
    assert [point for point, face in drawn.items() if face == "white"] == [(6.0, 0)]
    assert {tuple(line.get_xydata()[0]) for line in below.lines} == {(20, 2.0), (20, 4.0), (40, 5.0), (40, 6.0)}
    assert right.xaxis_inverted()
    # Of the lowest error at its density or below; snip beats l0 in both.
    assert {text.get_text() for axes in (right, below) for text in axes.texts} == {"snip"}


def test_names_of_neighbours_do_not_overlap() -> None:
    # Two that no other beats, beside each other on both axes.
    points = [("continuous_sparsification", 0.9938, 1.10), ("lr_rewinding", 0.98, 0.87), ("snip", 0.5, 90.0)]
    rows = [
        cases.result(method=method, level=0.98, sparsity=share, test_error_percent=error)
        for method, share, error in points
    ]
    figure = methods.methods_compared(pd.DataFrame(rows))
    FigureCanvasAgg(figure).draw()
    first, second = (text.get_window_extent() for text in figure.axes[1].texts)
    assert not first.overlaps(second)


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
