"""The training benchmark runs and says what it measured; its times are no test's business."""

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks._setup import RECIPES, Setup, find_root
from benchmarks.training import LEVEL_NAMES, main
from sharpminima.base.files import write_json
from sharpminima.nets.checkpoint import load_checkpoint, save_checkpoint
from sharpminima.study.costs import Throughput

pytestmark = pytest.mark.bench

ROOT = Path(__file__).parents[2]
QUICK = ["--quick", "--models", "lenet300", "--epochs", "1", "--threads", "1"]


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict[str, Any]]:
    """The table and the JSON of one quick run without raw files."""
    folder = tmp_path_factory.mktemp("bench")
    command = [sys.executable, "-m", "benchmarks.training", *QUICK]
    done = subprocess.run(
        [*command, "--data", str(folder / "nothing"), "--json", str(folder / "found.json")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout, json.loads((folder / "found.json").read_text())


def _numbers(node: Any) -> list[float]:
    if isinstance(node, dict):
        return [number for value in node.values() for number in _numbers(value)]
    if isinstance(node, list):
        return [number for value in node for number in _numbers(value)]
    return [node] if isinstance(node, int | float) and not isinstance(node, bool) else []


@pytest.mark.slow
def test_every_variant_has_finite_positive_numbers(quick: tuple[str, dict[str, Any]]) -> None:
    table, found = quick
    measured = found["models"]["lenet300"]
    names = [row["name"] for row in measured["variants"]]
    assert {"usual, 0 workers", "ours, dense", "ours, dense, bfloat16"} <= set(names)
    tracked = [name for name in LEVEL_NAMES if (ROOT / "benchmarks/masks" / f"lenet300-{name}.safetensors").exists()]
    assert {f"ours, {name} %" for name in tracked} <= set(names)
    assert len(names) == len(set(names))
    for row in measured["variants"]:
        assert row["name"] in table
        timed = {key: value for key, value in row.items() if key != "mask"}
        assert all(math.isfinite(number) and number > 0 for number in _numbers(timed)), row
    assert found["peak_gflops"] > 0


@pytest.mark.slow
def test_what_was_measured_is_said(quick: tuple[str, dict[str, Any]]) -> None:
    table, found = quick
    measured = found["models"]["lenet300"]
    assert measured["synthetic"]
    assert measured["scaled"]
    assert "SYNTHETIC" in table
    assert "QUICK" in table
    assert "1,000 training and 500 validation" in table


@pytest.mark.slow
def test_plans_take_its_numbers(quick: tuple[str, dict[str, Any]], tmp_path: Path) -> None:
    path = tmp_path / "found.json"
    write_json(path, quick[1])
    throughput = Throughput.from_benchmark(path)
    rows = {row["name"]: row["epoch_images_per_second"] for row in quick[1]["models"]["lenet300"]["variants"]}
    assert throughput.images_per_s == {"lenet300": rows["ours, dense"]}
    assert throughput.bfloat16_per_s == {"lenet300": rows["ours, dense, bfloat16"]}
    assert throughput.batched_per_s == {"lenet300": rows["ours, 99.57 %, R = 2, batched"]}
    assert throughput.origin == f"1 threads of {quick[1]['machine']['processor']} ({path})"


@pytest.mark.slow
def test_levels_without_a_mask_are_said_and_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = load_checkpoint(ROOT / "benchmarks" / "masks" / "lenet300-90.safetensors")
    # Its 91.8 % do not reach 98 %.
    for level in ("90", "98"):
        save_checkpoint(
            tmp_path / f"lenet300-{level}.safetensors", source.states, masks=source.masks, metadata=source.metadata
        )
    target = tmp_path / "found.json"
    options = ["--workers", "0", "--masks", str(tmp_path), "--data", str(tmp_path), "--json", str(target)]
    assert main([*QUICK, *options]) == 0
    measured = json.loads(target.read_text())["models"]["lenet300"]
    assert [row["name"] for row in measured["variants"]] == [
        "usual, 0 workers",
        "ours, dense",
        "ours, dense, bfloat16",
        "ours, 90 %",
    ]
    table = capsys.readouterr().out
    assert "less than the level: not measured" in table
    assert "99.57 %: no mask yet" in table


def test_a_mask_of_another_model_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = ROOT / "benchmarks" / "masks" / "lenet300-90.safetensors"
    (tmp_path / "lenet5-90.safetensors").write_bytes(source.read_bytes())
    assert main(["--quick", "--models", "lenet5", "--masks", str(tmp_path), "--data", str(tmp_path)]) == 1
    assert "is not a LOBSTER mask of lenet5" in capsys.readouterr().err


@pytest.mark.parametrize("model", RECIPES)
def test_the_splits_are_those_of_a_prepared_file(model: str) -> None:
    setup = Setup(model, RECIPES[model], None, "cpu", 1)
    train, validation = setup.full["train"], setup.full["validation"]
    assert len(train) + len(validation) == setup.spec.sizes[0]
    assert not set(train.tolist()) & set(validation.tolist())
    assert len(setup.measured["train"]) <= len(train)


def test_absent_raw_files_are_not_fetched(tmp_path: Path) -> None:
    assert find_root("mnist", tmp_path) is None
    assert list(tmp_path.iterdir()) == []
