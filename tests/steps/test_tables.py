"""The tables of results: one row a net, and none of a net that is not the one its path names."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from sharpminima.base.errors import CheckpointError
from sharpminima.nets.checkpoint import save_checkpoint
from sharpminima.nets.initial import save_initial
from sharpminima.steps import tables

FOLDER = Path("results/s/runs/digits/lenet300/lobster/level-90/rewind/seed-0")
COUNTS = {
    **dict.fromkeys(("parameters", "nonzero", "effective", "prunable"), 4),
    **dict.fromkeys(("compression", "flops_dense", "flops_effective", "flops_nonzero"), 1),
    "density_per_layer": {"w": 1.0},
}
LOSSES = {f"{part}_loss": 0.5 for part in ("training", "validation", "test")}
METRICS = {"sparsity": 0.9, "measures": COUNTS, "test_wrong": 3, "test_images": 100, "epoch": 1, "epochs": 2} | LOSSES


def save(path: Path, **other: Any) -> Path:
    facts = {"dataset": "digits", "model": "lenet300", "method": "lobster", "strategy": "rewind", "level": 0.9}
    save_checkpoint(path, [{"w": torch.ones(4)}], metadata=facts | {"seed": 0, "metrics": [METRICS]} | other)
    return path


def make(*paths: Path) -> list[str]:
    tables.results(paths, paths[0].parent / "r.csv", paths[0].parent / "d.csv")
    return (paths[0].parent / "r.csv").read_text().splitlines()


def test_a_net_in_its_place_has_a_row_wherever_the_study_lies(tmp_path: Path) -> None:
    assert len(make(save(tmp_path / FOLDER / "checkpoint.safetensors"))) == 2
    assert len(make(save(tmp_path / "mine" / "checkpoint.safetensors"))) == 2


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"seed": 1}, "lies where the net of seed 0 should, and is of 1; remove it"),
        ({"strategy": "reinit"}, "of strategy rewind should, and is of reinit"),
        ({"level": 0.95}, "of level 90 should, and is of 95"),
        ({"method": "gimp"}, "of method lobster should, and is of gimp"),
        ({"model": "lenet5"}, "of model lenet300 should, and is of lenet5"),
        ({"dataset": "mnist"}, "of dataset digits should, and is of mnist"),
    ],
)
def test_a_copied_cell_has_no_row(tmp_path: Path, other: dict[str, Any], said: str) -> None:
    with pytest.raises(CheckpointError, match=said):
        make(save(tmp_path / FOLDER / "checkpoint.safetensors", **other))
    assert not (tmp_path / FOLDER / "r.csv").exists()


def test_a_dense_net_of_another_seed_has_no_row(tmp_path: Path) -> None:
    path = tmp_path / "digits/lenet300/dense/seed-1/checkpoint.safetensors"
    facts = {"dataset": "digits", "model": "lenet300", "strategy": "dense", "seed": 0, "metrics": [METRICS]}
    save_checkpoint(path, [{"w": torch.ones(4)}], metadata=facts)
    with pytest.raises(CheckpointError, match="of seed 1 should, and is of 0"):
        make(path)


def test_a_net_stands_once(tmp_path: Path) -> None:
    first = save(tmp_path / "a.safetensors")
    shutil.copy(first, tmp_path / "b.safetensors")
    with pytest.raises(
        CheckpointError, match=r"b.safetensors: holds the same nets as .*a.safetensors; give each net once"
    ):
        make(first, tmp_path / "b.safetensors")
    with pytest.raises(CheckpointError, match=r"a.safetensors: stands twice"):
        make(first, Path(str(first)))
    with pytest.raises(CheckpointError, match=r"a.safetensors: stands twice"):
        tables.measures([first, Path(str(first))], tmp_path / "m.csv")


def test_w0_has_no_row(tmp_path: Path) -> None:
    save_initial(tmp_path / "w0", {"model": "lenet300", "num_classes": 10, "seed": 0, "dataset": "digits"})
    with pytest.raises(CheckpointError, match="w0: is W0, or a net that nobody has measured; give trained nets"):
        make(tmp_path / "w0")
