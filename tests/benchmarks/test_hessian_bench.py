"""The benchmarks of the Hessian and the surface run and say what they measured; their times are no test's business."""

import math
from pathlib import Path

import pytest

from benchmarks import _hessian, _surface


@pytest.fixture(scope="module")
def nothing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder without raw files: the images are synthetic."""
    return tmp_path_factory.mktemp("nothing")


@pytest.mark.slow
def test_hessian(nothing: Path) -> None:
    rows = _hessian.hessian("99.57", images=40, product_images=20, repeats=1, data=nothing)
    products = {row["way"]: row for row in rows if row["table"] == "product"}
    assert {"double backward, batches of 500", "ours, 1 vector", "ours, 4 vectors"} <= products.keys()
    assert all(row["relative_error"] < 1e-4 and row["seconds"] > 0 for row in products.values())
    found = {(row["space"], row["way"]): row for row in rows if row["table"] == "eigenvalues"}
    assert len(found) == 6
    for (space, way), row in found.items():
        ours = found[space, "ours"]
        if way.startswith("power"):
            assert row["hvps"] == 100
            assert row["relative_residual"] > ours["relative_residual"]
        else:
            assert row["relative_residual"] < 1e-2
            assert row["eigenvalues"] == pytest.approx(ours["eigenvalues"], rel=1e-3)
            assert row["hvps"] < 100
        assert (row["images"], row["synthetic"]) == (40, True)
    assert found["all", "ours"]["relative_residual"] <= 1e-3
    text = _hessian.render(rows)
    assert "SYNTHETIC" in text
    assert all(way in text for _, way in found)


@pytest.mark.slow
def test_surface(nothing: Path) -> None:
    rows = _surface.surface(images=40, points=2, data=nothing)
    assert [row["measures"] for row in rows] == list(_surface.MEASURES)
    for row in rows:
        assert row["points"] == 3
        assert row["scaled_map_minutes"] == pytest.approx(51 * 51 / 60 * row["seconds"], rel=5)
        assert math.isfinite(row["slowest_seconds"])
    assert "51 x 51" in _surface.render(rows)
