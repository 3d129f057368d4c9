"""The inference benchmark compares nets that compute the same, and says what it measured."""

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from benchmarks.inference import main, structured_masks
from sharpminima.nets.compaction import compact
from sharpminima.nets.masks import apply_masks, sparsity
from sharpminima.nets.models import build_model

pytestmark = pytest.mark.bench


def test_every_structure_has_its_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--quick", "--rounds", "1", "--json", str(tmp_path / "found.json")]) == 0
    table, rows = capsys.readouterr().out, json.loads((tmp_path / "found.json").read_text())["models"]["lenet5"]
    assert len(rows) == 8
    for row in rows:
        assert row["name"] in table
        assert row["images_per_second"] >= row["median_images_per_second"] > 0
    bytes_of = {row["name"]: row["stored_bytes"] for row in rows}
    assert bytes_of["kernels, 2 % left"] < bytes_of["weights, 2 % left"] < bytes_of["one weight a kernel"]
    assert bytes_of["one weight a kernel"] < bytes_of["dense"]


def test_the_compact_nets_compute_what_the_masked_ones_do() -> None:
    images = torch.randn(4, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    for name, masks in structured_masks(build_model("lenet5")).items():
        masked = build_model("lenet5").eval()
        apply_masks(masked, masks)
        small = compact(masked, masks, sparse=(nn.Conv2d, nn.Linear)).model.eval()
        torch.testing.assert_close(small(images), masked(images), rtol=1e-4, atol=1e-6)
        if name.endswith("left"):
            assert sparsity(masks) == pytest.approx(1 - float(name.split()[-3]) / 100, abs=1e-3)
        else:
            assert all(bool((mask.flatten(2).sum(2) == 1).all()) for mask in masks.values())
