import math
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from typer.testing import CliRunner

from sharpminima.base.errors import FigureError
from sharpminima.base.files import write_csv
from sharpminima.catalogue.columns import MEASURE_COLUMNS, SURFACE_COLUMNS
from sharpminima.cli import app
from sharpminima.report import methods_table, tables

from . import cases


def test_a_shared_state_is_counted_once_at_its_highest_level(tmp_path):
    nets = tables.read_table("results", cases.write(tmp_path, "results", cases.results()))
    [(key, rows)] = tables.panels(nets)
    assert key == ("digits", "lenet5", "lobster")
    gradual = tables.errors(rows).query("strategy == 'gradual'").set_index("level")
    assert gradual["error_n"].to_dict() == {0.5: 3, 0.8: 2, 0.9: 3, 0.95: 3}


def test_levels_not_reached_are_found(tmp_path):
    nets = tables.read_table("results", cases.write(tmp_path, "results", cases.results()))
    [(level, runs, best)] = tables.unreached(nets, ("digits", "lenet5", "lobster"))
    assert (level, runs) == (0.95, 1)
    assert best == pytest.approx(0.945)


@pytest.mark.parametrize(
    ("text", "fault"),
    [("dataset,model\na,b\n", "lacks the columns"), ("", "cannot be read"), (None, "cannot be read")],
)
def test_a_table_that_is_not_one_is_refused(tmp_path, text, fault):
    path = tmp_path / "results.csv"
    if text is not None:
        path.write_text(text)
    with pytest.raises(FigureError, match=fault):
        tables.read_table("results", path)


def test_a_compressed_table_is_read_and_half_of_one_refused(tmp_path: Path) -> None:
    plain = cases.write(tmp_path, "surface", cases.surface())
    packed = tmp_path / "surface.csv.bz2"
    write_csv(packed, cases.surface(), SURFACE_COLUMNS)
    pd.testing.assert_frame_equal(tables.read_table("surface", packed), tables.read_table("surface", plain))
    packed.write_bytes(packed.read_bytes()[:-20])
    with pytest.raises(FigureError, match="cannot be read"):
        tables.read_table("surface", packed)


def test_ranking_orders_methods_by_their_own_nets_at_each_level() -> None:
    rows = [
        cases.result(method="snip", test_error_percent=3.0, seed=0, epochs=10),
        cases.result(method="snip", test_error_percent=5.0, seed=1, epochs=20),
        cases.result(method="magnitude", test_error_percent=3.5),
        cases.result(method="magnitude", strategy="rewind", test_error_percent=0.1),
    ]
    found = tables.ranking(pd.DataFrame(rows))
    assert found["method"].tolist() == ["magnitude", "snip"]
    assert found["error_mean"].tolist() == [3.5, 4.0]
    assert found["error_n"].tolist() == [1, 2]
    assert found["epochs_mean"].tolist() == [30.0, 15.0]
    assert found["rank"].tolist() == [1, 2]
    assert set(found["left"]) == {"as asked"}
    # 4 +- 12.706 * sqrt(2) / sqrt(2): Student's t with one degree of freedom.
    assert found["error_low"].tolist() == pytest.approx([math.nan, 4 - 12.7062], abs=1e-3, nan_ok=True)
    assert found["error_high"].tolist() == pytest.approx([math.nan, 4 + 12.7062], abs=1e-3, nan_ok=True)


def test_what_was_not_reached_or_collapsed_has_a_mark_and_no_rank(tmp_path: Path) -> None:
    rows = [
        cases.result(method="l0", test_error_percent=1.0, sparsity=0.2, reached=False),
        cases.result(method="dst", test_error_percent=2.0, sparsity=0.9, seed=0),
        cases.result(method="dst", test_error_percent=2.0, sparsity=0.7, seed=1, reached=False),
        cases.result(method="autoprune", test_error_percent=4.0, sparsity=0.97),
        cases.result(method="snip", test_error_percent=3.0),
        cases.result(method="random", test_error_percent=2.5, collapsed=True),
    ]
    write_csv(tmp_path / "results.csv", rows, tables.columns_of("results"))
    out = tmp_path / "ranking.csv"
    asked = ["ranking", "--results", str(tmp_path / "results.csv"), "--out", str(out), "--markdown"]
    done = CliRunner().invoke(app, asked)
    assert done.exit_code == 0, done.output
    found = pd.read_csv(out).set_index("method")
    assert found["rank"].dropna().to_dict() == {"snip": 1, "autoprune": 2}
    assert list(found.index) == ["snip", "autoprune", "l0", "dst", "random"]
    assert found["left"].to_dict() == {
        "snip": "as asked",
        "autoprune": "sparser",
        "l0": "denser",
        "dst": "denser",
        "random": "as asked",
    }
    assert found.index[found["collapsed"]].tolist() == ["random"]
    assert ",1,snip," in out.read_text()  # a whole number
    # And as a page shows it.
    head, _, *lines = done.output.splitlines()
    assert head == "| method | LeNet-5 on digits, 10 % | epochs |"
    assert lines == [
        "| `snip` | 3.00 | 30 |",
        "| `autoprune` | 4.00 (3 % left) | 30 |",
        "| `dst` | 2.00 ± 0.00 (20 % left) † | 30 |",
        "| `l0` | 1.00 (80 % left) † | 30 |",
        "| `random` | 2.50 ‡ | 30 |",
    ]


def test_a_page_has_a_column_a_net_and_level_and_a_dash_where_a_method_was_not_run() -> None:
    nets = (("lenet300", 0.9, 20), ("lenet300", 0.98, 30), ("lenet5", 0.9, 8))
    rows = [
        cases.result(method="rigl", level=level, model=model, sparsity=level, epochs=epochs)
        for model, level, epochs in nets
    ]
    rows.append(cases.result(method="shift_attention", level=0.9, test_error_percent=1.0, epochs=8))
    head, _, *lines = methods_table.as_markdown(tables.ranking(pd.DataFrame(rows))).splitlines()
    assert (
        head == "| method | LeNet-300 on digits, 10 % | LeNet-300 on digits, 2 % | LeNet-5 on digits, 10 % | epochs |"
    )
    assert lines == ["| `shift_attention` | – | – | 1.00 | 8 |", "| `rigl` | 2.00 | 2.00 | 2.00 | 30, 8 |"]


def test_a_page_says_what_nets_take_and_what_a_run_costs() -> None:
    cost = {"job_nets": 2, "job_wall_s": 9.0, "job_cpu_s": 60.0, "job_gpu_s": 0.0, "peak_mb": 500.0}
    rows = [
        measured(level=0.9, stored_bytes=9000, **cost),
        measured(level=0.98, stored_bytes=2000, flops_effective=20, **cost),
        measured(
            level=0.98, stored_bytes=1000, flops_effective=30, seed=1, **cost | {"job_cpu_s": 70.0, "peak_mb": 600.0}
        ),
        measured(level=0.98, stored_bytes=1500, model="lenet300"),
        measured(method="l0", level=0.98, stored_bytes=123456, flops_effective=None),
        measured(method="l0", strategy="rewind", level=0.98, stored_bytes=9),
    ]
    head, _, *lines = methods_table.sizes_as_markdown(pd.DataFrame(rows)).splitlines()
    of_a_net = "kB | FLOPs, % | CPU seconds | MB"
    assert head == f"| method | LeNet-5 on digits: {of_a_net} | LeNet-300 on digits: {of_a_net} |"
    # Both levels of a run are one job; memory is the most of all runs.
    assert lines == [
        "| `lobster` | 1.5 | 2.5 | 65 | 600 | 1.5 | 10 | – | – |",
        "| `l0` | 123 | – | – | – | – | – | – | – |",
    ]


def measured(**values: Any) -> dict[str, Any]:
    """A row of a table of measures; what is not named was not measured."""
    return dict.fromkeys(MEASURE_COLUMNS) | cases.result() | values
