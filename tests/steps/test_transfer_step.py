"""The step that takes nets to another dataset, on halves of the digits."""

import json
from pathlib import Path

import pandas as pd
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from typer.testing import CliRunner

from sharpminima.base.errors import CheckpointError, SharpminimaError
from sharpminima.catalogue.columns import TRANSFER_COLUMNS
from sharpminima.cli import app
from sharpminima.data import load_prepared, prepare_dataset
from sharpminima.nets.checkpoint import load_checkpoint, save_checkpoint
from sharpminima.nets.masks import prunable_parameters, sparsity
from sharpminima.nets.models import build_model
from sharpminima.report.tables import read_table
from sharpminima.runtime.rng import generator
from sharpminima.steps import transfer as step

SETTINGS = {
    "to": "digits-high",
    "probe": {"batch_size": 50, "lr": 1.0, "max_epochs": 3},
    "finetune": {"batch_size": 50, "max_epochs": 3},
}


@pytest.fixture(scope="module")
def halves(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The prepared digits 0 to 4 and 5 to 9."""
    folder = tmp_path_factory.mktemp("halves")
    for half in ("low", "high"):
        prepare_dataset(f"digits-{half}", folder / half, progress=lambda _: None)
    return {half: folder / half for half in ("low", "high")}


@pytest.fixture(scope="module")
def nets(halves: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two replicas of a LeNet-300 of the low digits at masks of a tenth; of the second, the last features are dead."""
    states, masks, metrics = [], [], []
    for replica in range(2):
        net = build_model("lenet300", num_classes=5, seed=replica)
        keep = {
            name: torch.rand(net.get_parameter(name).shape, generator=generator(replica, name)) < 0.1
            for name in prunable_parameters(net)
        }
        if replica == 1:
            keep["3.weight"][40:] = keep["3.bias"][40:] = False
        with torch.no_grad():
            for name, mask in keep.items():
                net.get_parameter(name).mul_(mask)
        states.append(net.state_dict())
        masks.append(keep)
        metrics.append({"sparsity": sparsity(keep)})
    metadata = {
        "model": "lenet300",
        "dataset": "digits-low",
        "dataset_sha256": load_prepared(halves["low"]).sha256,
        "method": "lobster",
        "strategy": "random-structure",
        "level": 0.9,
        "seed": 3,
        "metrics": metrics,
    }
    path = tmp_path_factory.mktemp("nets") / "checkpoint.safetensors"
    save_checkpoint(path, states, masks=masks, metadata=metadata)
    return path


def go(data: Path, source: Path, out: Path, **settings: object) -> pd.DataFrame:
    arguments = ["--data", data, "--source", source, "--out", out, "--device", "cpu"]
    chosen = ["--settings", json.dumps({**SETTINGS, **settings})]
    result = CliRunner().invoke(app, ["transfer", *map(str, arguments), *chosen])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return read_table("transfer", out)


@pytest.fixture(scope="module")
def went(
    halves: dict[str, Path], nets: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, list[tuple[nn.Module, object, dict[str, torch.Tensor]]]]:
    """The table, and of each training the net before it, its masks and the state after it."""
    out, seen = tmp_path_factory.mktemp("went") / "transfer.csv", []
    original = step.fit

    def watched(job, model, masks, *options):
        before = {name: value.clone() for name, value in model.state_dict().items()}
        found = original(job, model, masks, *options)
        seen.append((job, before, masks, found[0]))
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(step, "fit", watched)
        go(halves["high"], nets, out)
    return out, seen


def test_one_row_a_replica_and_mode(went, halves: dict[str, Path]) -> None:
    table = pd.read_csv(went[0])
    assert list(table.columns) == TRANSFER_COLUMNS
    assert list(zip(table["replica"], table["mode"], strict=True)) == [
        (0, "probe"),
        (0, "finetune"),
        (1, "probe"),
        (1, "finetune"),
    ]
    first = table.iloc[0]
    assert (first["dataset"], first["to"], first["strategy"], first["seed"]) == (
        "digits-low",
        "digits-high",
        "random-structure",
        3,
    )
    high = load_prepared(halves["high"])
    assert set(table["to_sha256"]) == {high.sha256}
    assert set(table["test_images"]) == {len(high.indices["test"])}
    assert (table["test_error_percent"] == 100 * table["test_wrong"] / table["test_images"]).all()
    assert (table["epochs"] == 3).all()
    assert (table["test_error_percent"] < 60).all()  # chance: 80
    assert table["live_features"].iloc[0] > 40 >= table["live_features"].iloc[2]
    assert [p.name for p in went[0].parent.iterdir()] == ["transfer.csv"]


def test_the_probe_trains_a_linear_layer_on_the_frozen_features(went, halves: dict[str, Path], nets: Path) -> None:
    job, _, masks, after = went[1][0]
    assert masks is None
    assert {name: tuple(value.shape) for name, value in after.items()} == {"1.weight": (5, 100), "1.bias": (5,)}
    net = load_checkpoint(nets).load_into(build_model("lenet300", num_classes=5))
    split = load_prepared(halves["high"]).split("train")
    with torch.no_grad():
        raw = nn.Sequential(*list(net)[:5])(split.images)
    features = job.training.images.flatten(1)
    live = raw.std(dim=0) > 0
    assert features.square().sum(dim=1).mean() == pytest.approx(1, rel=1e-5)
    assert not features[:, ~live].any()
    correlations = F.cosine_similarity(features[:, live], (raw - raw.mean(dim=0))[:, live], dim=0)
    assert correlations.min() > 0.9999
    assert torch.equal(job.training.labels, split.labels)


def test_fine_tuning_keeps_masks_and_starts_from_the_nets_with_the_same_new_layer(went, nets: Path) -> None:
    source = load_checkpoint(nets)
    heads = []
    for replica in range(2):
        _, before, masks, after = went[1][2 * replica + 1]
        body = [name for name in before if not name.startswith("5.")]
        for name in body:
            assert torch.equal(before[name], source.states[replica][name])
            assert not torch.equal(after[name], before[name])
            assert not after[name][~source.masks[replica][name]].any()
        assert not any(name.startswith("5.") for name in masks)
        assert (after["5.weight"] != 0).float().mean() > 0.3  # a feature that is always off has no gradient
        heads.append(before["5.weight"])
    assert torch.equal(heads[0], heads[1])
    assert heads[0].shape == (5, 100)
    # The probe starts from that layer as well.
    assert torch.equal(went[1][0][1]["1.weight"], heads[0])


def test_one_mode_and_equal_bytes(went, halves: dict[str, Path], nets: Path, tmp_path: Path) -> None:
    table = go(halves["high"], nets, tmp_path / "probe.csv", modes=["probe"])
    both = pd.read_csv(went[0])
    pd.testing.assert_frame_equal(table, both[both["mode"] == "probe"].reset_index(drop=True)[table.columns])


def test_a_killed_transfer_goes_on(
    went, halves: dict[str, Path], nets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, started = step.fit, []

    def failing(*given):
        started.append(given[4])
        if len(started) == 3:
            raise SharpminimaError("killed")
        return original(*given)

    monkeypatch.setattr(step, "fit", failing)
    with pytest.raises(SharpminimaError, match="killed"):
        go(halves["high"], nets, tmp_path / "transfer.csv")
    go(halves["high"], nets, tmp_path / "transfer.csv")
    assert started[2:] == [("transfer-probe", 1), ("transfer-probe", 1), ("transfer-finetune", 1)]
    assert (tmp_path / "transfer.csv").read_bytes() == went[0].read_bytes()
    assert [p.name for p in tmp_path.iterdir()] == ["transfer.csv"]


def test_a_net_without_any_feature_is_left_with_the_bias(halves: dict[str, Path], nets: Path, tmp_path: Path) -> None:
    source = load_checkpoint(nets)
    state, mask = source.states[0], source.masks[0]
    for name in ("3.weight", "3.bias"):
        state[name].zero_()
        mask[name].zero_()
    metadata = {key: value for key, value in source.metadata.items() if key not in ("version", "format", "replicas")}
    save_checkpoint(tmp_path / "dead", [state], masks=[mask], metadata=metadata)
    table = go(halves["high"], tmp_path / "dead", tmp_path / "transfer.csv", modes=["probe"])
    assert list(table["live_features"]) == [0]
    assert table["test_error_percent"].iloc[0] > 70


def test_nets_of_the_same_data_and_untrained_ones_are_refused(
    halves: dict[str, Path], nets: Path, tmp_path: Path
) -> None:
    with pytest.raises(CheckpointError, match="was trained on these very data"):
        go(halves["low"], nets, tmp_path / "out.csv")
    source = load_checkpoint(nets)
    facts = {key: value for key, value in source.metadata.items() if key not in ("version", "format", "replicas")}
    initial = {key: value for key, value in facts.items() if key != "metrics"} | {"drawn_sha256": "0" * 64}
    save_checkpoint(tmp_path / "w0", [], masks=None, metadata=initial)
    with pytest.raises(CheckpointError, match="is W0, which is not trained"):
        go(halves["high"], tmp_path / "w0", tmp_path / "out.csv")
    represented = {**facts, "trained": False, "represented_by": 0.95}
    save_checkpoint(tmp_path / "untrained", source.states, masks=source.masks, metadata=represented)
    with pytest.raises(CheckpointError, match=r"untrained start; give the cell of level 0\.95"):
        go(halves["high"], tmp_path / "untrained", tmp_path / "out.csv")
