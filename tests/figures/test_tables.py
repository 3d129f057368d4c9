import math
from pathlib import Path

import pandas as pd
import pytest

from sharpminima.base.errors import FigureError
from sharpminima.base.files import write_csv
from sharpminima.catalogue.columns import SURFACE_COLUMNS
from sharpminima.report import tables

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
        cases.result(method="magnitude", test_error_percent=3.5, reached=False),
        cases.result(method="magnitude", strategy="rewind", test_error_percent=0.1),
    ]
    found = tables.ranking(pd.DataFrame(rows))
    assert found["method"].tolist() == ["magnitude", "snip"]
    assert found["reached"].tolist() == [False, True]
    assert found["error_mean"].tolist() == [3.5, 4.0]
    assert found["error_n"].tolist() == [1, 2]
    assert found["epochs_mean"].tolist() == [30.0, 15.0]
    assert found["rank"].tolist() == [1, 2]
    # 4 +- 12.706 * sqrt(2) / sqrt(2): Student's t with one degree of freedom.
    assert found["error_low"].tolist() == pytest.approx([math.nan, 4 - 12.7062], abs=1e-3, nan_ok=True)
    assert found["error_high"].tolist() == pytest.approx([math.nan, 4 + 12.7062], abs=1e-3, nan_ok=True)
