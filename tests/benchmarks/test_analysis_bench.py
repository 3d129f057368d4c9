"""The benchmark of the analysis runs and says what it measured; its times are no test's business."""

import json
import math
from pathlib import Path

import pytest

from benchmarks import _entropy, _hessian, _large, _others, _surface
from benchmarks.analysis import main

pytestmark = pytest.mark.bench


@pytest.fixture(scope="module")
def nothing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder without raw files: the images are synthetic."""
    return tmp_path_factory.mktemp("nothing")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")  # curvlinops, where it is installed
def test_hessian(nothing: Path) -> None:
    rows = _hessian.hessian("99.57", images=40, product_images=20, repeats=1, data=nothing)
    products = {row["way"]: row for row in rows if row["table"] == "product"}
    assert {"double backward, batches of 500", "ours, 1 vector", "ours, 4 vectors"} <= products.keys()
    measured = {way: row for way, row in products.items() if "seconds" in row}
    assert measured.keys() in (products.keys(), products.keys() - {"curvlinops"})
    assert all(row["relative_error"] < 1e-4 and row["seconds"] > 0 for row in measured.values())
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
def test_others(nothing: Path) -> None:
    rows = list(_others.others(["lenet5"], images=20, data=nothing))
    assert [row["way"] for row in rows] == list(_others.WAYS)
    ours = rows[0]
    assert ours["residual"] <= _others.TOLERANCE
    for row in rows:
        assert (row["net"], row["images"]) == ("lenet5", 20)
        if "residual" not in row:  # not installed
            continue
        assert row["cpu_seconds"] > 0
        assert row["memory_mib"] > 0
        if row["way"] != "PyHessian":  # power iteration does not get as far
            assert row["residual"] <= 2 * _others.TOLERANCE
            assert row["eigenvalues"] == pytest.approx(ours["eigenvalues"], rel=1e-2)
    text = _others.render(rows)
    assert "SYNTHETIC" in text
    assert "(1.00 x)" in text
    assert sum(parameter.numel() for parameter in _others.build("resnet18").parameters()) == 11_173_962


@pytest.mark.slow
def test_large() -> None:
    rows = list(_large.large(images=16, size=32))
    assert [row["way"] for row in rows] == list(_large.WAYS)
    _, whole, by_class = rows
    assert whole["mean_bits"] == pytest.approx(by_class["mean_bits"], rel=1e-12)
    assert 0 < whole["mean_bits"] < _large.CLASSES
    assert all(row["cpu_seconds"] > 0 for row in rows)
    text = _large.render(rows)
    assert all(way in text for way in _large.WAYS)
    assert sum(parameter.numel() for parameter in _large.build().parameters()) == 25_557_032


@pytest.mark.slow
def test_surface(nothing: Path) -> None:
    rows = _surface.surface(images=40, points=2, data=nothing)
    assert [row["measures"] for row in rows] == list(_surface.MEASURES)
    for row in rows:
        assert row["points"] == 3
        assert row["scaled_map_minutes"] == pytest.approx(51 * 51 / 60 * row["seconds"], rel=5)
        assert math.isfinite(row["slowest_seconds"])
    assert "51 x 51" in _surface.render(rows)


@pytest.mark.slow
def test_every_way_finds_the_same_entropies(nothing: Path) -> None:
    rows = _entropy.entropy(("99.57",), images=40, repeats=1, growth=0.02, data=nothing)
    first = {row["way"]: row for row in rows if row["table"] == "first order"}
    assert first["ours"]["difference_bits"] < 1e-12
    second = {row["way"]: row for row in rows if row["table"] == "second order"}
    assert {"ours", "int8 matrix products", "float32 matrix products"} <= second.keys()
    assert all(row["difference"] is None or row["difference"] < 1e-12 for row in second.values())
    grown = [row for row in rows if row["table"] == "growth"]
    assert {row["what"] for row in grown} == {"neurons", "samples", "order"}
    text = _entropy.render(rows)
    assert "SYNTHETIC" in text
    assert "x as fast" in text


def test_a_part_by_itself(nothing: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "found.json"
    options = ["--quick", "--threads", "1", "--data", str(nothing), "--json", str(target)]
    assert main([*options, "--only", "surface"]) == 0
    found = json.loads(target.read_text())
    assert list(found["parts"]) == ["surface"]
    assert found["machine"]["cores"] >= 1
    assert "QUICK" in capsys.readouterr().out
    assert main([*options, "--only", "surface", "--masks", str(tmp_path)]) == 1
    assert "there is no such checkpoint" in capsys.readouterr().err
