"""What the page of a study holds: the numbers of its tables, and nothing from elsewhere."""

import json
import re
from html import unescape
from pathlib import Path

import pandas as pd
import plotly.graph_objects as go
import pytest

from sharpminima.base.errors import FigureError
from sharpminima.base.files import read_json, write_json
from sharpminima.explore import write_page
from sharpminima.explore.chart import short
from sharpminima.explore.curves import _removals
from sharpminima.report.claims import measured_text
from sharpminima.report.tables import distinct, errors, read_table

from . import cases
from .conftest import Page


def test_every_net_is_a_point_with_the_numbers_of_its_row_and_the_path_of_its_checkpoint(there: Page) -> None:
    shown = [t for t in cases.charts(there.text)["errors"]["traces"] if t["meta"]["kind"] == "net"]
    found = {
        (t["meta"]["strategy"], *facts[:2], t["meta"].get("level", ["0"] * len(t["x"]))[i]): (x, y, facts)
        for t in shown
        for i, (x, y, facts) in enumerate(zip(t["x"], t["y"], t["customdata"], strict=True))
    }
    rows = distinct(read_table("results", there.layout.table("results"))).to_dict("records")
    assert len(found) == len(rows) == sum(len(t["x"]) for t in shown)
    for row in rows:
        x, y, facts = found[row["strategy"], row["seed"], row["replica"], f"{100 * row['level']:g}"]
        assert (x, y) == (100 * (1 - row["sparsity"]), row["test_error_percent"])
        names = ["training_loss_nats", "validation_loss_nats", "test_loss_nats", "best_epoch", "epochs"]
        assert facts[3:10] == [100 * row["sparsity"], row["nonzero"], *(row[name] for name in names)]
        assert "".join(facts[10:]) in there.layout.checkpoints()


def test_means_are_those_of_the_figure(there: Page) -> None:
    traces = [t for t in cases.charts(there.text)["errors"]["traces"] if t["meta"]["kind"] == "mean"]
    (of_g,) = [t for t in traces if t["meta"]["strategy"] == "gradual"]
    assert of_g["y"][-1] == pytest.approx(1.55)  # 1.5, 1.55 and 1.6 of the three runs
    assert of_g["error_y"]["array"][-1] == pytest.approx(0.05)
    assert of_g["customdata"][-1][:2] == [3, "95"]
    nets = distinct(read_table("results", there.layout.table("results")))
    for trace in traces:
        name = trace["meta"]["strategy"]
        summary = errors(nets[nets["strategy"] == name]).sort_values("removed_mean")
        assert trace["y"] == summary["error_mean"].tolist(), name
        assert trace["x"] == [100 - removed for removed in summary["removed_mean"]], name


def test_levels_that_were_not_reached_are_named(there: Page) -> None:
    notes = {t["meta"].get("note") for t in cases.charts(there.text)["errors"]["traces"]}
    assert notes == {None, "Levels that lobster did not reach: 95 % in 1 run (at most 94.50 %)."}


@pytest.mark.parametrize(
    ("chart", "columns"),
    [
        ("plane-loss", ["loss_nats"]),
        ("plane-psp", ["psp_norm", "psp_entropy_1_bits", "psp_entropy_2_bits", "error_percent"]),
    ],
)
def test_surfaces_are_those_of_the_tables(there: Page, chart: str, columns: list[str]) -> None:
    traces = cases.charts(there.text)[chart]["traces"]
    surfaces = [t for t in traces if t["type"] == "surface"]
    tables = [read_table("surface", path) for path in there.layout.analysis_tables("surface")]
    assert len(surfaces) == len(tables) * len(columns) == 3 * len(columns)
    by_key = {(t["meta"]["map"], t["meta"]["quantity"]): t for t in surfaces}
    for table in tables:
        key = f"digits/lenet5/lobster/{table['seed'].iloc[0]}"
        for column in columns:
            drawn = by_key[key, column]
            for row in table[table["point"] == "grid"].to_dict("records"):
                z = drawn["z"][drawn["y"].index(row["y"])][drawn["x"].index(row["x"])]
                assert z == short(row[column])
            ends = {t["text"][1]: t for t in traces if t["type"] == "scatter3d" and t["meta"] == _of(key, column)}
            for point in ("G", "1-S"):
                (row,) = table[table["point"] == point].to_dict("records")
                assert (ends[point]["x"][0], ends[point]["z"][0]) == (row["x"], short(row[column]))
    # The loss spreads over more than a decade, and has a logarithmic axis; the PSP norm does not.
    axes = {t["meta"]["quantity"]: t["meta"]["layout"]["scene.zaxis.type"] for t in surfaces}
    assert axes.get("loss_nats", "log") == "log"
    assert axes.get("psp_norm", "linear") == "linear"


def _of(key: str, column: str) -> dict[str, str]:
    return {"map": key, "quantity": column}


@pytest.mark.parametrize(("chart", "table", "at"), [("spectrum", "hessian", "index"), ("line", "line", "x")])
def test_eigenvalues_are_those_of_the_tables(there: Page, chart: str, table: str, at: str) -> None:
    points = [t for t in cases.charts(there.text)[chart]["traces"] if t["mode"] == "markers"]
    found = sorted(
        (facts[0], x, facts[1], y) for t in points for x, y, facts in zip(t["x"], t["y"], t["customdata"], strict=True)
    )
    rows = read_table(table, there.layout.analysis_tables(table))
    expected = rows[["seed", at, "index", "eigenvalue"]].itertuples(index=False, name=None)
    assert sorted(found) == sorted(expected)


def test_what_did_not_pass_the_residual_test_is_hollow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    layout = cases.finish(cases.study(tmp_path))
    path = Path(layout.analysis_tables("hessian")[0])
    frame = pd.read_csv(path)
    frame["converged"] = frame["index"] < 5
    frame.to_csv(path, index=False)
    points = [t for t in cases.charts(write_page(layout).read_text())["spectrum"]["traces"] if t["mode"] == "markers"]
    hollow = [
        (facts[0], facts[1], facts[3])
        for t in points
        for facts, symbol in zip(t["customdata"], t["marker"]["symbol"], strict=True)
        if symbol.endswith("-open")
    ]
    assert hollow == [(0, 5, "not converged")] * 4  # two nets, two spaces


def test_curves_are_those_of_the_histories(there: Page) -> None:
    traces = cases.charts(there.text)["curves"]["traces"]

    def of(strategy: str, run: str, level: str | None = None) -> dict[str, list[float]]:
        return {
            t["name"]: t["y"]
            for t in traces
            if (t["meta"]["strategy"], t["meta"]["run"], t["meta"].get("level")) == (strategy, run, level)
        }

    for strategy, run, level, draw in (
        ("dense", "1", None, 0),
        ("gradual", "2", None, 0),
        ("rewind", "0", "95", 0),
        ("reinit", "0.2", "80", 2),
    ):
        curve = of(strategy, run, level)
        assert curve["training loss (nats)"] == [short(1 / (3 * epoch) + draw, 4) for epoch in range(1, 6)]
        assert curve["validation loss (nats)"] == [short(0.5 / epoch + draw, 4) for epoch in range(1, 6)]
        assert curve["validation error (%)"] == [short(10 / epoch, 4) for epoch in range(1, 6)]
        assert curve["removed (%)"] == ([0, 0, 25, 25, 25] if strategy == "gradual" else [50, 50])
    flat = [t for t in traces if t["name"] == "removed (%)" and t["meta"]["strategy"] != "gradual"]
    assert {tuple(t["x"]) for t in flat} == {(1, 5)}  # the first epoch and the last
    removals = [t for t in traces if t["meta"].get("kind") == "removal"]
    assert [(t["meta"]["run"], t["x"], t["y"]) for t in removals] == [(run, [3], [25.0]) for run in "012"]
    assert "survivors 300<br>threshold 0.125" in removals[0]["customdata"][0].replace("sparsity 0.25<br>", "")


def test_claims_have_the_comparisons_behind_their_verdicts(there: Page) -> None:
    section = unescape(there.text.partition('<section id="claims"')[2].partition("</section>")[0])
    claims = read_json(there.layout.numbers())["claims"]
    assert section.count("<details class=claim") == len(claims) == 20
    compared = [result for claim in claims for result in claim["results"]]
    assert compared
    for claim in claims:
        assert claim["says"] in section
        assert f'data-verdict="{claim["verdict"]}"' in section
    for result in compared:
        assert measured_text(result) in section
        assert f"LeNet-5 on digits, lobster<td>{result['detail']}" in section


def test_what_a_figure_comes_from_is_a_graph_with_every_file_and_its_hash_below(there: Page) -> None:
    section = unescape(there.text.partition('<section id="origins"')[2].partition("</section>")[0])
    graphs = {t["meta"]["figure"]: t for t in cases.charts(there.text)["origins"]["traces"]}
    for figure in ("fig1", "fig2"):
        chain = read_json(there.layout.provenance(figure))
        for path, node in chain["origins"].items():
            assert f"<tr><td>{path}<td><code>{node['sha256']}</code>" in section
        labels, link = graphs[figure]["node"]["label"], graphs[figure]["link"]
        links = {
            (labels[source], labels[target]) for source, target in zip(link["source"], link["target"], strict=True)
        }
        assert ("data<br>digits", "LeNet-5 on digits<br>W0") in links
        assert ("table of results", f"{figure} of study seen") in links
        assert (f"notebook {figure}.ipynb", f"{figure} of study seen") in links
        assert not any(labels[target] == "data<br>digits" for target in link["target"])


def test_plotly_takes_every_trace(there: Page) -> None:
    for chart in cases.charts(there.text).values():
        assert chart["traces"]
        go.Figure(chart["traces"], chart["layout"])
        for trace in chart["traces"]:
            for path in trace["meta"].get("layout", {}):
                go.Layout({path.replace(".", "_"): trace["meta"]["layout"][path]})


def test_each_control_has_traces_for_each_of_its_options(there: Page) -> None:
    for name, chart in cases.charts(there.text).items():
        for control in chart["controls"]:
            values = {v for t in chart["traces"] for v in _listed(t["meta"].get(control["name"], []))}
            assert {option["value"] for option in control["options"]} == values, (name, control["name"])


def _listed(value: object) -> list[object]:
    return value if isinstance(value, list) else [value]


def test_the_page_needs_no_other_file(page: Page) -> None:
    html = re.sub(r"<script.*?</script>", "", page.text, flags=re.DOTALL)
    assert re.findall(r"(?:src|action)=", html) == []
    assert all(target.startswith("#") for target in re.findall(r'href="([^"]*)"', html))
    assert "url(" not in html
    assert "@import" not in html
    assert page.text.count("plotly.js v") == 1  # its licence, which it has at its head
    assert "<h1>A study &lt;of&gt; tests</h1>" in html
    assert len(page.text.encode()) < 5.4e6  # Plotly's 4.8, and what is made up here


def test_equal_results_give_equal_bytes(page: Page, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    layout = cases.finish(cases.study(tmp_path))
    first = write_page(layout).read_bytes()
    assert first == page.path.read_bytes()
    assert write_page(layout).read_bytes() == first


def test_what_was_not_measured_is_left_out_with_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    text = write_page(cases.finish(cases.study(tmp_path, analysed=False))).read_text()
    assert cases.charts(text).keys() == {"errors", "curves", "origins"}
    for section, absent in (
        ("planes", "no run's plane has been mapped"),
        ("spectrum", "no eigenvalues have been measured"),
        ("line", "no eigenvalues have been measured along the line from G to 1-S"),
    ):
        held = unescape(text.partition(f'<section id="{section}"')[2].partition("</section>")[0])
        assert f"Left out: {absent} in this study." in held
        assert "<figure" not in held


def test_methods_have_colours_and_switches_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    methods = ("lobster", "magnitude", "rigl")
    text = write_page(cases.finish(cases.study(tmp_path, methods=methods, analysed=False))).read_text()
    found = cases.charts(text)
    controls = {control["name"]: control for control in found["errors"]["controls"]}
    assert [option["value"] for option in controls["method"]["options"]] == list(methods)
    assert len({option["colour"] for option in controls["method"]["options"]}) == 3
    dense = [t for t in found["errors"]["traces"] if t["meta"]["strategy"] == "dense"]
    assert len(dense) == 2  # points and mean, once: methods share them
    assert all("method" not in t["meta"] for t in dense)
    nets = sum(len(t["x"]) for t in found["errors"]["traces"] if t["meta"]["kind"] == "net")
    assert f"LeNet-5 on digits ({nets} nets)" in text
    assert {t["meta"]["method"] for t in found["curves"]["traces"] if "method" in t["meta"]} == set(methods)


def test_missing_results_are_one_error_that_names_one_and_the_cure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    layout = cases.finish(cases.study(tmp_path))
    lost = Path(layout.analysis_tables("surface")[0])
    lost.unlink()
    with pytest.raises(FigureError) as caught:
        write_page(layout)
    assert str(caught.value).startswith(
        f"{lost}: missing; `snakemake --cores all --config study=seen.yaml -- explore` makes"
    )
    Path(layout.numbers()).unlink()
    with pytest.raises(FigureError, match=r"numbers\.json and 1 others: missing"):
        write_page(layout)


def test_a_damaged_history_is_one_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    layout = cases.finish(cases.study(tmp_path, analysed=False))
    history = next(path for path in layout.explore_job().inputs if path.endswith("history.csv"))
    Path(history).write_text("epoch,lr\n1,0.1\n")
    with pytest.raises(FigureError, match=f"{re.escape(history)}: lacks train_loss, .*remove it"):
        write_page(layout)


def test_a_level_that_shares_a_state_has_no_curve_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    layout = cases.finish(cases.study(tmp_path, analysed=False))
    history = Path(next(path for path in layout.explore_job().inputs if "/level-80/rewind/seed-0/" in path))
    history.write_text(history.read_text().partition("\n")[0] + "\n")
    traces = cases.charts(write_page(layout).read_text())["curves"]["traces"]
    levels = [t["meta"]["level"] for t in traces if (t["meta"]["strategy"], t["meta"]["run"]) == ("rewind", "0")]
    assert dict.fromkeys(levels) == dict.fromkeys(["50", "90", "95"])


def test_the_job_names_all_code_of_the_page(there: Page) -> None:
    room = Path("src/sharpminima/explore")
    files = {str(path) for path in room.rglob("*") if path.suffix in (".py", ".js", ".css", ".html")}
    assert files - {str(room / "__init__.py")} <= set(there.layout.explore_job().inputs)


def test_numbers_that_json_has_none_for_are_empty(there: Page) -> None:
    text = there.text.partition('<script type="application/json" id="charts">')[2].partition("</script>")[0]

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    json.loads(text, parse_constant=refuse)


def test_a_path_by_which_weights_come_in_marks_no_removals(tmp_path: Path) -> None:
    """DessiLBI records at each epoch what has come in, by layer too; what removes may record more than numbers."""
    kept = [{"epoch": 1, "survivors": 40, "sparsity": 0.6, "kept": {"fc1": 0.4}}]
    kept += [{"epoch": 2, "survivors": 30, "sparsity": 0.7, "kept": {"fc1": 0.3}}]
    file = tmp_path / "events.json"
    write_json(file, kept)
    (marks,) = _removals(str(file), {}, None)
    assert marks["customdata"][1] == "epoch 2<br>sparsity 0.7<br>survivors 30"
    write_json(file, [*kept, {"epoch": 3, "survivors": 50, "sparsity": 0.5, "kept": {"fc1": 0.5}}])
    assert _removals(str(file), {}, None) == []
