import subprocess
import sys
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from matplotlib.colors import LogNorm
from matplotlib.font_manager import fontManager

from sharpminima.base.errors import FigureError
from sharpminima.explore.spectra import spectrum_chart
from sharpminima.figures import fig1, fig2, fig3, fig4, fig5, fig6, scales, style
from sharpminima.pruning import STRATEGIES
from sharpminima.report import tables

from . import cases


def _table(folder, kind, rows):
    return tables.read_table(kind, cases.write(folder, kind, rows))


def _texts(figure):
    return [text.get_text() for axes in figure.axes for text in axes.texts]


def _titles(figure):
    return [title for axes in figure.axes if (title := axes.get_title(loc="left"))]


def _legend(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


def _nets(axes):
    """Errors of the single nets that are drawn."""
    return sorted(y for line in axes.lines if line.get_marker() == "." for y in line.get_ydata())


def _means(axes):
    """Mean errors that have a marker."""
    lines = [line for line in axes.lines if line.get_markevery() is not None]
    return sorted(y for line in lines for y, shown in zip(line.get_ydata(), line.get_markevery(), strict=True) if shown)


def test_every_strategy_has_a_look_of_its_own():
    looks = [style.look_of(name, "lobster") for name in ("gradual", "dense", *STRATEGIES)]
    assert len({(look.colour, look.marker) for look in looks}) == len(looks)
    assert len({look.title for look in looks}) == len(looks)


def test_fig1_names_the_methods_where_there_are_several(tmp_path):
    rows = cases.results(seeds=(0,)) + [row | {"method": "snip"} for row in cases.results(seeds=(0,))]
    figure = fig1.error_against_removed(_table(tmp_path, "results", rows))
    assert _titles(figure) == ["(a) LeNet-5 on digits, lobster", "(b) LeNet-5 on digits, snip"]
    assert any("the method (snip)" in entry for entry in _legend(figure))
    assert any("gradual (lobster, G)" in entry for entry in _legend(figure))


def test_fig1_names_missed_levels_and_counts(tmp_path):
    figure = fig1.error_against_removed(_table(tmp_path, "results", cases.results()))
    assert any("95 % not reached in 1 run (at most 94.50 %)" in text for text in _texts(figure))
    assert "gradual (lobster, G), n = 2–3" in _legend(figure)
    assert "new random initialisation, n = 3" in _legend(figure)
    axes = figure.axes[0]
    assert axes.get_xscale() == "log"
    labels = [axes.xaxis.get_major_formatter()(value, None) for value in axes.get_xticks()]
    assert {"50", "80", "90", "95"} <= set(labels)


def test_fig1_plots_the_sparsity_really_reached(tmp_path):
    rows = [
        cases.result(strategy="dense", method="dense", level=0.0, sparsity=0.0),
        cases.result(level=0.9, sparsity=0.93, test_error_percent=3.0),
    ]
    figure = fig1.error_against_removed(_table(tmp_path, "results", rows))
    points = [tuple(line.get_xydata()[0]) for line in figure.axes[0].lines if len(line.get_xydata()) == 1]
    assert any(np.allclose(point, (7.0, 3.0)) for point in points)
    assert not any(np.isclose(point[0], 10.0) for point in points)


def test_fig1_one_panel_an_experiment_and_the_panels_share_a_legend(tmp_path):
    rows = cases.results(replicas=1, seeds=(0,)) + cases.results(model="lenet300") + cases.results(model="mlp")
    rows.append(cases.result(strategy="rewind-long", level=0.95, sparsity=0.955))
    figure = fig1.error_against_removed(_table(tmp_path, "results", rows))
    assert _titles(figure) == ["(a) LeNet-5 on digits", "(b) LeNet-300 on digits", "(c) mlp on digits"]
    assert len(_legend(figure)) == len(set(_legend(figure))) == 6


def test_fig1_shows_low_and_high_errors_where_some_are_zero(tmp_path):
    rows = [
        cases.result(level=level, sparsity=level, test_error_percent=error)
        for level, error in ((0.5, 0.0), (0.8, 0.5), (0.9, 60.0))
    ]
    axes = fig1.error_against_removed(_table(tmp_path, "results", rows)).axes[0]
    assert axes.get_yscale() == "symlog"
    assert axes.get_ylim()[0] == 0
    assert {0, 0.5, 1, 10, 50} <= set(axes.get_yticks())


def test_fig1_breaks_a_panel_where_controls_fail(tmp_path):
    rows = [
        cases.result(strategy=strategy, level=level, sparsity=level, test_error_percent=error)
        for strategy, values in (("gradual", (1.0, 1.1)), ("rewind", (1.1, 1.3)), ("random-structure", (1.7, 90.0)))
        for level, error in zip((0.8, 0.9), values, strict=True)
    ]
    # Errors that rise to those of failing nets do not press together what is to be compared.
    rows.append(cases.result(strategy="random-structure", level=0.85, sparsity=0.85, test_error_percent=2.0))
    upper, lower = fig1.error_against_removed(_table(tmp_path, "results", rows)).axes
    assert (upper.get_yscale(), lower.get_yscale()) == ("log", "linear")
    assert lower.get_ylim()[1] == upper.get_ylim()[0] == pytest.approx(1.745)
    assert _means(lower) == _nets(lower) == [1.0, 1.1, 1.1, 1.3, 1.7]
    assert _means(upper) == _nets(upper) == [2.0, 90.0]
    assert 0 < lower.get_ylim()[0] < 1.0
    assert upper.get_ylim()[1] > 90
    assert upper.get_title(loc="left") == "(a) LeNet-5 on digits"
    assert (upper.get_ylabel(), lower.get_ylabel()) == ("", "test error (%)")
    assert upper.get_xlim() == lower.get_xlim()
    rows[0]["test_error_percent"] = 0.0
    _, lower = fig1.error_against_removed(_table(tmp_path, "results", rows)).axes
    assert (lower.get_yscale(), lower.get_ylim()[0]) == ("linear", 0)


def test_fig1_draws_no_bar_of_a_mean_beyond_the_break(tmp_path):
    rows = [
        cases.result(strategy=strategy, level=0.8, sparsity=0.8, seed=seed, test_error_percent=error)
        for strategy, errors in (("gradual", (1.0, 1.2)), ("random-structure", (5.0, 90.0)))
        for seed, error in enumerate(errors)
    ]
    upper, lower = fig1.error_against_removed(_table(tmp_path, "results", rows)).axes

    def bars(axes):
        segments = [segment for bar in axes.containers for segment in bar.lines[2][0].get_segments()]
        return [segment[:, 1].mean() for segment in segments if len(segment) and np.isfinite(segment).all()]

    assert (bars(lower), bars(upper)) == ([pytest.approx(1.1)], [pytest.approx(47.5)])


def test_fig1_does_not_break_a_panel_where_the_method_itself_fails(tmp_path):
    rows = [
        cases.result(level=level, sparsity=level, test_error_percent=error)
        for level, error in ((0.8, 1.0), (0.9, 60.0))
    ]
    [axes] = fig1.error_against_removed(_table(tmp_path, "results", rows)).axes
    assert axes.get_yscale() == "log"


def test_fig1_spreads_errors_that_are_close(tmp_path):
    rows = [
        cases.result(level=level, sparsity=level, test_error_percent=error) for level, error in ((0.8, 8.8), (0.9, 9.4))
    ]
    [axes] = fig1.error_against_removed(_table(tmp_path, "results", rows)).axes
    assert axes.get_yscale() == "linear"
    assert 8 < axes.get_ylim()[0] < 8.8


def test_fig1_needs_pruned_nets(tmp_path):
    rows = [cases.result(strategy="dense", method="dense", level=0.0, sparsity=0.0)]
    with pytest.raises(FigureError, match="dense nets only"):
        fig1.error_against_removed(_table(tmp_path, "results", rows))


def test_fig2_axis_follows_the_eigenvalues_signs(tmp_path):
    surface = _table(tmp_path, "surface", cases.surface())
    positive = fig2.loss_plane(
        surface, _table(tmp_path, "hessian", cases.hessian()), _table(tmp_path, "line", cases.line())
    )
    negative = fig2.loss_plane(
        surface,
        _table(tmp_path, "hessian", cases.hessian(lowest=-0.3, converged=False)),
        _table(tmp_path, "line", cases.line(lowest=-0.3)),
    )
    scales = [[a.get_yscale() for a in f.axes if a.get_ylabel() == "eigenvalue (nats)"] for f in (positive, negative)]
    assert scales == [["log", "log"], ["symlog", "symlog"]]
    for figure, hollow in ((positive, False), (negative, True)):
        [axes] = [a for a in figure.axes if a.get_legend() is not None]
        assert ("not converged" in [t.get_text() for t in axes.get_legend().get_texts()]) is hollow


def test_fig2_draws_each_rank_along_the_line(tmp_path):
    rows = [row for seed in cases.SEEDS for row in cases.line(seed=seed)]
    tables_of = _table(tmp_path, "surface", cases.surface()), _table(tmp_path, "hessian", cases.hessian())
    figure = fig2.loss_plane(*tables_of, _table(tmp_path, "line", rows))
    [axes] = [axes for axes in figure.axes if "(d) line" in axes.get_title(loc="left")]
    first = next(line for line in axes.lines if line.get_linestyle() == "-" and line.get_linewidth() == 1.0)
    assert first.get_xdata() == pytest.approx([0, 0.5, 1])
    assert first.get_ydata() == pytest.approx([21, 13.5, 21])  # means of the seeds 0, 1, 2


def test_fig2_says_where_eigenvalues_are_of_other_images_than_the_loss(tmp_path):
    surface = _table(tmp_path, "surface", cases.surface())
    hessian = _table(tmp_path, "hessian", [row | {"images": surface["images"].iloc[0]} for row in cases.hessian()])
    line = _table(tmp_path, "line", [row | {"images": 12000} for row in cases.line()])
    titles = [axes.get_title(loc="left") for axes in fig2.loss_plane(surface, hessian, line).axes]
    assert [title for title in titles if "images" in title] == ["(d) line: top 2, 1 run, 12,000 images"]


def test_figures_of_g_and_1s_leave_out_the_dense_net(tmp_path):
    def shown(figure):
        marks = [(line.get_xdata().tolist(), line.get_ydata().tolist()) for a in figure.axes for line in a.lines]
        titles = [axes.get_title(loc="left") for axes in figure.axes]
        return figure.get_suptitle(), titles, [axes.get_ylim() for axes in figure.axes], marks

    surface, line = _table(tmp_path, "surface", cases.surface()), _table(tmp_path, "line", cases.line())
    neurons = _table(tmp_path, "neurons", cases.neurons())
    figures, charts = [], []
    for dense in (False, True):
        hessian = _table(tmp_path, "hessian", cases.hessian(dense=dense))
        psp = _table(tmp_path, "psp", cases.psp(dense=dense)[::-1])
        figures.append((shown(fig2.loss_plane(surface, hessian, line)), shown(fig5.class_entropies(psp, neurons))))
        charts.append(spectrum_chart(hessian))
    assert figures[0] == figures[1]
    assert charts[0] == charts[1]


def test_the_titles_of_fig2_are_no_wider_than_its_panels(tmp_path):
    surface = _table(tmp_path, "surface", cases.surface())
    rows = [row | {"images": 54000} for seed in cases.SEEDS for row in cases.hessian(seed=seed)]
    along = [row | {"images": 12000} for seed in cases.SEEDS for row in cases.line(seed=seed)]
    line = _table(tmp_path, "line", along)
    figure = fig2.loss_plane(surface, _table(tmp_path, "hessian", rows), line)
    figure.canvas.draw()
    panels = [panel for panel in figure.axes if panel.get_title(loc="left")]
    assert len(panels) == 4
    for panel in panels:
        title = panel._left_title
        assert title.get_window_extent().x1 <= panel.bbox.x1, title.get_text()


def test_fig5_has_a_panel_a_net_and_layer(tmp_path):
    neurons = [row for row in cases.neurons() if (row["strategy"], row["layer"]) != ("rewind", "1")]
    psp = [{**row, "part": part} for part in ("test", "train") for row in cases.psp()]
    figure = fig5.class_entropies(_table(tmp_path, "psp", psp), _table(tmp_path, "neurons", neurons))
    assert "(train)" in figure.get_suptitle()
    panels = {axes.get_title(loc="left"): axes for axes in figure.axes if axes.get_title(loc="left")}
    assert list(panels) == [
        "G, 0: 2 of 100 neurons",
        "1-S, 0: 1 of 100 neurons",
        "G, 1: 2 of 100 neurons",
        "1-S, 1: 0 of 100 neurons",
    ]
    # Neuron 9 first: its sum over the classes is the higher one.
    image = panels["G, 0: 2 of 100 neurons"].images[0]
    assert image.get_array().tolist() == [[0.25, 0.5], [0.25, 0], [0.25, 0]]
    assert image.get_clim() == (0, 1)
    assert "every state is constant within its class" in _texts(figure)


def test_fig5_is_of_one_run(tmp_path):
    few = [{**row, "entropy_1_bits_by_class": "1 1"} for row in cases.neurons()]
    with pytest.raises(FigureError, match="within 2 classes, the PSP table 3"):
        fig5.class_entropies(_table(tmp_path, "psp", cases.psp()), _table(tmp_path, "neurons", few))
    rows = cases.psp(seed=0) + cases.psp(seed=1)
    with pytest.raises(FigureError, match="one run"):
        fig5.class_entropies(_table(tmp_path, "psp", rows), _table(tmp_path, "neurons", cases.neurons()))


def test_fig6_has_a_panel_a_transfer_and_mode(tmp_path):
    rows = [row for seed in cases.SEEDS for row in cases.transfer(seed=seed)]
    rows += [row for seed in (0, 1) for row in cases.transfer(seed=seed, to="digits", dataset="mnist")]
    figure = fig6.transfer_errors(_table(tmp_path, "transfer", rows))
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert [title.splitlines() for title in titles] == [
        ["(a) LeNet-5, 95.5 % removed", "digits to Fashion-MNIST, linear probe"],
        ["(b) LeNet-5, 95.5 % removed", "digits to Fashion-MNIST, fine-tuned"],
        ["(c) LeNet-5, 95.5 % removed", "MNIST to digits, linear probe"],
        ["(d) LeNet-5, 95.5 % removed", "MNIST to digits, fine-tuned"],
    ]
    probe = figure.axes[0]
    labels = [label.get_text() for label in probe.get_xticklabels()]
    assert labels == ["dense\nn = 3", "G\nn = 3", "1-S\nn = 3", "random\nstructure\nn = 2"]
    dots = [line.get_ydata() for line in probe.lines if line.get_marker() == "."]
    assert [sorted(values) for values in dots] == [[9, 10, 11], [10, 11, 12], [12, 13, 14], [20, 21]]


def test_fig6_leaves_single_draws_of_other_runs_out_of_the_mean(tmp_path):
    """As the report's table does (`shown_draws`)."""
    rows = [row for seed in cases.SEEDS for row in cases.transfer(seed=seed)]
    one = next(row for row in rows if row["strategy"] == "random-structure" and row["mode"] == "probe")
    rows += [{**one, "seed": 1, "test_error_percent": 60.0}]
    probe = fig6.transfer_errors(_table(tmp_path, "transfer", rows)).axes[0]
    assert probe.get_xticklabels()[-1].get_text() == "random\nstructure\nn = 2"
    dots = [sorted(line.get_ydata()) for line in probe.lines if line.get_marker() == "."]
    assert dots[-1] == [20, 21, 60]
    means = [line.get_ydata()[0] for line in probe.lines if line.get_marker() not in (".", "None", "_")]
    assert means[-1] == pytest.approx(20.5)


@pytest.mark.parametrize(("fine", "scale"), [(30.0, "linear"), (90.0, "log")])
def test_fig6_shows_nets_that_fail_when_tuned_although_their_probes_do_not(tmp_path, fine, scale):
    rows = cases.transfer()
    for row in rows:
        if (row["strategy"], row["mode"]) == ("random-structure", "finetune"):
            row["test_error_percent"] = fine
    for axes in fig6.transfer_errors(_table(tmp_path, "transfer", rows)).axes:
        low, high = axes.get_ylim()
        assert low <= 4
        assert fine <= high
        assert axes.get_yscale() == scale


def test_fig6_needs_a_transfer():
    with pytest.raises(FigureError, match="no transfer table"):
        fig6.transfer_errors(tables.read_table("transfer", []))


@pytest.mark.parametrize("grid", [8, 9])
def test_maps_show_the_values_of_the_ends(tmp_path, grid):
    surface = _table(tmp_path, "surface", cases.surface(grid=grid))
    for figure, ends in (
        (fig3.norm_plane(surface), {"G: 1", "1-S: 1.4"}),
        (fig4.entropy_plane(surface), {"G: 2", "1-S: 2.01", "G: 4", "1-S: 3.5"}),
    ):
        assert ends <= set(_texts(figure))
        assert "95.50 % removed" in figure.get_suptitle()


def test_a_map_of_two_runs_or_without_ends_is_refused(tmp_path):
    two = cases.surface(seed=0) + cases.surface(seed=1)
    with pytest.raises(FigureError, match="one run"):
        fig3.norm_plane(_table(tmp_path, "surface", two))
    with pytest.raises(FigureError, match="the point G"):
        fig3.norm_plane(_table(tmp_path, "surface", cases.surface()[1:]))


@pytest.mark.parametrize(
    ("low", "high"), [(0.5, 0.9), (1e-3, 3.0), (0.011, 0.097), (1e-9, 1e4), (-1.0, 5.0), (2.0, 2.0)]
)
def test_contour_levels_hold_all_values(low, high):
    norm, levels, ticks = scales.colour_scale(np.ma.masked_invalid([[low, high]]))
    assert isinstance(norm, LogNorm) == (low > 0 and high / low > 8)
    assert levels[0] <= low <= high <= levels[-1]
    assert 2 <= len(ticks) <= 9
    assert len(levels) <= 18


_DRAW = """
import sys
from sharpminima.figures import fig2, style
from sharpminima.report import tables
*paths, out = sys.argv[1:]
read = [tables.read_table(kind, path) for kind, path in zip(("surface", "hessian", "line"), paths)]
figure = fig2.loss_plane(*read)
style.save_figure(figure, out)
"""


@pytest.mark.slow
def test_equal_tables_give_equal_bytes_in_another_process(tmp_path):
    makers = {"surface": cases.surface, "hessian": cases.hessian, "line": cases.line}
    paths = [cases.write(tmp_path, kind, make()) for kind, make in makers.items()]
    read = [tables.read_table(kind, path) for kind, path in zip(makers, paths, strict=True)]
    style.save_figure(fig2.loss_plane(*read), tmp_path / "here")
    command = [sys.executable, "-c", _DRAW, *map(str, paths), str(tmp_path / "there")]
    subprocess.run(command, check=True)
    for extension in ("pdf", "svg"):
        first, second = (Path(tmp_path, f"{name}.{extension}").read_bytes() for name in ("here", "there"))
        assert first == second
        assert b"CreationDate" not in first


def test_figures_keep_their_fonts_where_matplotlibs_cache_lacks_them(tmp_path, monkeypatch):
    shipped = str(Path(matplotlib.get_data_path()))
    others = [entry for entry in fontManager.ttflist if not entry.fname.startswith(shipped)]
    monkeypatch.setattr(fontManager, "ttflist", others)
    figure = fig3.norm_plane(_table(tmp_path, "surface", cases.surface()))
    font = figure.axes[0]._left_title.get_fontproperties()
    assert font.get_family() == ["STIXGeneral", "DejaVu Sans"]
    assert Path(fontManager.findfont(font, fallback_to_default=False)).name == "STIXGeneral.ttf"
    count = len(fontManager.ttflist)
    with style.styled():
        assert len(fontManager.ttflist) == count  # none is registered twice


def test_transfers_show_quartiles_where_some_nets_fail(tmp_path):
    rows = [row for row in cases.transfer() if row["mode"] == "probe"]
    others = [row for row in rows if row["strategy"] != "random-structure"]
    drawn = next(row for row in rows if row["strategy"] == "random-structure")
    rows = others + [
        {**drawn, "replica": number, "test_error_percent": error}
        for number, error in enumerate((4.0, 5.0, 6.0, 7.0, 90.0))
    ]
    (axes,) = fig6.transfer_errors(_table(tmp_path, "transfer", rows)).axes
    bars = [tuple(segment[:, 1]) for collection in axes.collections for segment in collection.get_segments()]
    assert bars == [(9.0, 9.0), (10.0, 10.0), (12.0, 12.0), (5.0, 7.0)]
    medians = [line.get_ydata()[0] for line in axes.lines if line.get_marker() != "."]
    assert medians == [9.0, 10.0, 12.0, 6.0]
