"""Files that do not belong together: no step takes them."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from sharpminima.base.errors import AnalysisError, CheckpointError, ConfigError, DataError, SharpminimaError
from sharpminima.catalogue import plugins
from sharpminima.catalogue.analyses import ANALYSES, HessianSettings
from sharpminima.catalogue.recipes import BatchNormSettings, RecipeSettings
from sharpminima.catalogue.strategies import STRATEGIES
from sharpminima.data import load_prepared, prepare_dataset
from sharpminima.nets.checkpoint import load_checkpoint, read_metadata, save_checkpoint
from sharpminima.nets.initial import load_initial, save_initial
from sharpminima.nets.masks import prunable_parameters
from sharpminima.nets.models import build_model
from sharpminima.runtime.rng import generator
from sharpminima.steps import dense, init, prune, retrain, tables, transfer
from sharpminima.steps.analyse import _nets, hessian, plane
from sharpminima.steps.job import Runtime, TrainingJob
from sharpminima.study.schema import MethodChoice, TransferSettings

CPU = Runtime("cpu", 1)
RECIPE = RecipeSettings(max_epochs=1)


@dataclass
class Files:
    """Writes W0 and nets of one cell, or such as differ from it."""

    folder: Path
    data: Path

    def facts(self, **other: Any) -> dict[str, Any]:
        prepared = load_prepared(self.data)
        known = {"model": "lenet300", "dataset": "digits", "dataset_sha256": prepared.sha256, "seed": 0}
        return known | {"num_classes": 10} | other

    def w0(self, name: str = "w0", **other: Any) -> Path:
        save_initial(self.folder / name, self.facts(**other))
        return self.folder / name

    def net(self, name: str, strategy: str, mask_seed: int = 0, **other: Any) -> Path:
        facts = self.facts(**({"strategy": strategy, "method": "lobster", "level": 0.9} | other))
        net = build_model("lenet300", num_classes=10)
        masks = {
            key: torch.rand(net.get_parameter(key).shape, generator=generator(mask_seed, key)) < 0.1
            for key in prunable_parameters(net)
        }
        state = {key: value * masks[key] for key, value in net.state_dict().items()}
        facts = {"metrics": [{"sparsity": 0.9}], "represented_by": 0.9, "reached": True, "method_epochs": 1} | facts
        save_checkpoint(self.folder / name, [state], masks=[masks], metadata=facts)
        return self.folder / name


@pytest.fixture
def files(digits: Path, tmp_path: Path) -> Files:
    return Files(tmp_path, digits)


@pytest.fixture
def other_data(tmp_path: Path) -> Path:
    """The same images, split otherwise."""
    prepare_dataset("digits", tmp_path / "other", seed=1, progress=lambda _: None)
    return tmp_path / "other"


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"seed": 1}, r"w0 and .*G do not belong together: seed 1 and 0; give files of the same run"),
        ({"dataset_sha256": "e" * 64}, r"dataset_sha256 e{12} and [0-9a-f]{12};"),
        ({"batchnorm": {"momentum": 0.5, "eps": 1e-5}}, r"batchnorm \{.*\} and none;"),
        ({"model": "lenet5"}, "model lenet5 and lenet300;"),
    ],
)
def test_w0_of_another_run_is_not_retrained_at(files: Files, other: dict[str, Any], said: str) -> None:
    with pytest.raises(CheckpointError, match=said):
        retrain.retrain(
            files.data, files.w0(**other), files.net("G", "gradual"), "rewind", 1, RECIPE, files.folder / "out", CPU
        )
    assert not (files.folder / "out").exists()


def test_a_pruned_net_is_no_w0_and_a_retrained_one_no_structure(files: Files) -> None:
    pruned, ticket = files.net("G", "gradual"), files.net("1-S", "rewind")
    common = ("rewind", 1, RECIPE, files.folder / "out", CPU)
    with pytest.raises(CheckpointError, match="G: is of strategy gradual, and --init takes init"):
        retrain.retrain(files.data, pruned, pruned, *common)
    with pytest.raises(CheckpointError, match="1-S: is of strategy rewind, and --pruned takes gradual"):
        retrain.retrain(files.data, files.w0(), ticket, *common)
    with pytest.raises(CheckpointError, match="--init takes init"):
        dense.dense(files.data, pruned, RECIPE, files.folder / "out", CPU)
    with pytest.raises(CheckpointError, match="--init takes init"):
        prune.prune(files.data, ticket, MethodChoice.model_validate({"name": "snip"}).root, [0.5], files.folder, CPU)


def test_data_of_another_net_are_refused_by_every_training(files: Files, other_data: Path) -> None:
    w0, pruned, out = files.w0(), files.net("G", "gradual"), files.folder / "out"
    method = MethodChoice.model_validate({"name": "snip"}).root
    steps: list[Callable[[], None]] = [
        lambda: dense.dense(other_data, w0, RECIPE, out, CPU),
        lambda: prune.prune(other_data, w0, method, [0.5], out, CPU),
        lambda: retrain.retrain(other_data, w0, pruned, "reinit", 1, RECIPE, out, CPU),
    ]
    for step in steps:
        with pytest.raises(CheckpointError, match=r"is of other data \(digits, .*than --data gives \(digits, "):
            step()
    assert not out.exists()


@pytest.mark.parametrize("name", ANALYSES)
@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"seed": 1}, "seed 0 and 1; give files of the same run and the same cell"),
        ({"method": "gimp"}, "method lobster and gimp"),
        ({"level": 0.95}, "level 0.9 and 0.95"),
        ({"strategy": "gradual"}, "1-S: is of strategy gradual, and --rewind takes rewind"),
        ({"strategy": "reinit"}, "1-S: is of strategy reinit, and --rewind takes rewind"),
        ({"mask_seed": 1}, "G and .*1-S do not belong together: their masks differ"),
        ({"trained": False, "represented_by": 0.95}, "1-S: holds an untrained start; give the cell of level 0.95"),
        ({"dataset_sha256": "e" * 64}, "1-S: is of other data"),
    ],
)
def test_every_analysis_wants_g_and_1_s_of_one_cell(files: Files, name: str, other: dict[str, Any], said: str) -> None:
    entry = ANALYSES[name]
    gradual, rewind = files.net("G", "gradual"), files.net("1-S", **({"strategy": "rewind"} | other))
    with pytest.raises(CheckpointError, match=said):
        entry.load()(files.data, gradual, rewind, entry.settings(), files.folder / "table.csv", CPU)
    assert not (files.folder / "table.csv").exists()


@pytest.mark.parametrize("name", ["hessian", "line"])
def test_more_eigenvalues_than_survivors_are_refused_before_the_first(
    files: Files, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module, function in ((hessian, "hessian_eigenvalues"), (plane, "hessian_along_line")):
        monkeypatch.setattr(module, function, lambda *_, **__: pytest.fail("looked for eigenvalues"))
    entry = ANALYSES[name]
    nets = files.net("G", "gradual"), files.net("1-S", "rewind")
    settings = entry.settings(eigenvalues=50_000)
    with pytest.raises(AnalysisError, match=r"eigenvalues: 50000 wanted, \d+ parameters survive; ask for fewer"):
        entry.load()(files.data, *nets, settings, files.folder / "table.csv", CPU)


def test_a_transfer_goes_to_the_data_that_its_settings_name(files: Files, tmp_path: Path) -> None:
    prepare_dataset("digits-low", tmp_path / "low", progress=lambda _: None)
    settings = TransferSettings(to="digits-high")
    with pytest.raises(CheckpointError, match="low: is digits-low, and --settings go to digits-high"):
        transfer.transfer(tmp_path / "low", files.net("G", "gradual"), settings, tmp_path / "t.csv", CPU)


def test_a_model_that_takes_other_images_gets_no_w0(files: Files) -> None:
    with pytest.raises(DataError, match=r"resnet32 takes images \(3, 32, 32\), digits has \(1, 28, 28\)"):
        init.init(files.data, "resnet32", 0, files.folder / "w0")
    with pytest.raises(ConfigError, match="--batchnorm: lenet300 has none"):
        init.init(files.data, "lenet300", 0, files.folder / "w0", batchnorm=BatchNormSettings())
    with pytest.raises(SharpminimaError, match="lenet301"):
        init.init(files.data, "lenet301", 0, files.folder / "w0")


def test_nets_of_ones_own_say_what_a_step_takes_from_them(files: Files) -> None:
    """What is missing is named, in place of a KeyError."""
    state = build_model("lenet300").state_dict()
    masks = [{name: torch.ones_like(state[name], dtype=torch.bool) for name in state}]
    mine, out = files.folder / "mine", files.folder / "out"
    save_checkpoint(mine, [state], masks=masks, metadata={"strategy": "gradual", "level": 0.5})
    with pytest.raises(CheckpointError, match="mine: its metadata lack model, seed, method, represented_by, reached; "):
        retrain.retrain(files.data, files.w0(), mine, "rewind", 1, RECIPE, out, CPU)
    pruned = files.net("G", "gradual")
    known = {name: value for name, value in read_metadata(pruned).items() if name != "method_epochs"}
    save_checkpoint(mine, [state], masks=masks, metadata=known)
    budget = next(name for name, strategy in STRATEGIES.items() if strategy.budget == "method")
    with pytest.raises(CheckpointError, match="mine: its metadata lack method_epochs; "):
        retrain.retrain(files.data, files.w0(), mine, budget, 1, RECIPE, out, CPU)
    save_checkpoint(mine, [state], metadata={"model": "lenet300", "seed": 0, "strategy": "dense"})
    with pytest.raises(CheckpointError, match="mine: its metadata lack dataset, metrics, dataset_sha256; "):
        transfer.transfer(files.data, mine, TransferSettings(to="digits-high"), out, CPU)
    save_checkpoint(mine, [state], masks=masks, metadata={"strategy": "gradual"})
    with pytest.raises(CheckpointError, match="mine: its metadata lack model, seed, method, level; "):
        hessian.hessian(files.data, mine, files.net("1-S", "rewind"), HessianSettings(), out, CPU)


@pytest.mark.parametrize("name", ["hessian", "surface", "line", "barrier"])
@pytest.mark.parametrize(
    ("other", "said"),
    [
        (
            {"strategy": None},
            "mine: its metadata state no strategy, and --gradual takes gradual; state `strategy` where",
        ),
        (
            {"method": None, "level": None, "seed": None},
            "mine: its metadata lack seed, method, level; state them where",
        ),
        ({"trained": False}, "mine: holds an untrained start; give a trained net"),
        ({"seed": "3"}, "mine: states the seed '3'; give a whole number"),
        ({"level": "90 %"}, "mine: states the level '90 %'; give the share that is removed, as 0.9"),
        ({"dataset": "mnist"}, r"mine: is of other data \(mnist, .*than --data gives \(digits, "),
    ],
)
def test_a_net_of_ones_own_says_what_stands_in_the_table(
    files: Files, name: str, other: dict[str, Any], said: str
) -> None:
    given = files.net("G", "gradual")
    known = read_metadata(given) | other
    stated = {key: value for key, value in known.items() if value is not None and key != "represented_by"}
    checkpoint = load_checkpoint(given)
    save_checkpoint(files.folder / "mine", checkpoint.states, masks=checkpoint.masks, metadata=stated)
    entry = ANALYSES[name]
    with pytest.raises(CheckpointError, match=said):
        entry.load()(
            files.data, files.folder / "mine", files.net("1-S", "rewind"), entry.settings(), files.folder / "t.csv", CPU
        )


@pytest.mark.parametrize("metrics", [[{}], [], {}, {"sparsity": 0.5}, 0.5, [{"sparsity": 0.5}], None])
def test_sparsity_in_the_table_is_that_of_the_masks(files: Files, metrics: Any) -> None:
    """Whatever a net of one's own states, or leaves out; the name of the data is that of --data."""
    paths = []
    for name, strategy in (("G", "gradual"), ("1-S", "rewind")):
        checkpoint = load_checkpoint(files.net(name, strategy))
        assert checkpoint.masks is not None
        metadata = {"model": "lenet300", "seed": 2, "strategy": strategy, "method": "mine", "level": 0.9}
        metadata |= {} if metrics is None else {"metrics": metrics}
        save_checkpoint(files.folder / name, checkpoint.states, masks=checkpoint.masks, metadata=metadata)
        paths.append(files.folder / name)
    kept = sum(int(mask.sum()) for mask in checkpoint.masks[0].values())
    size = sum(mask.numel() for mask in checkpoint.masks[0].values())
    for end in _nets.load_ends(files.data, *paths, CPU)[0]:
        assert end.sparsity == 1 - kept / size
        assert end.key["dataset"] == "digits"
        assert (end.key["method"], end.key["level"], end.key["seed"]) == ("mine", 0.9, 2)


def test_weights_without_masks_count_as_survivors_in_the_table(files: Files) -> None:
    """Of a net of one's own, of which two layers stay whole."""
    size, masked = 266_200, 784 * 300
    net = build_model("lenet300", num_classes=10)
    masks = {"1.weight": torch.rand(net.get_parameter("1.weight").shape, generator=generator(0, "mine")) < 0.1}
    state = net.state_dict() | {"1.weight": net.state_dict()["1.weight"] * masks["1.weight"]}
    metadata = {"model": "lenet300", "seed": 2, "method": "mine", "level": 0.9}
    for name, strategy in (("G", "gradual"), ("1-S", "rewind")):
        save_checkpoint(files.folder / name, [state], masks=[masks], metadata=metadata | {"strategy": strategy})
    removed = (masked - int(masks["1.weight"].sum())) / size
    for end in _nets.load_ends(files.data, files.folder / "G", files.folder / "1-S", CPU)[0]:
        assert end.sparsity == pytest.approx(removed)
    metrics = TrainingJob(files.data, CPU, model="lenet300", seed=0).metrics(state, masks)
    assert metrics["sparsity"] == pytest.approx(removed)


@pytest.mark.parametrize("metrics", [[], {}, 0.5, [0.5]])
def test_metrics_that_are_none_are_named(files: Files, metrics: Any) -> None:
    mine = files.net("G", "gradual", metrics=metrics)
    with pytest.raises(CheckpointError, match="G: its metrics are no list of a dictionary for each of 1 replicas; "):
        transfer.transfer(files.data, mine, TransferSettings(to="digits-high"), files.folder / "out", CPU)
    with pytest.raises(CheckpointError, match="G: its metrics are no list of a dictionary for each of 1 replicas; "):
        tables.results([mine], files.folder / "table.csv", files.folder / "density.csv")
    mine = files.net("G", "gradual", metrics=[{}])
    with pytest.raises(CheckpointError, match="G: its metadata lack sparsity; "):
        transfer.transfer(files.data, mine, TransferSettings(to="digits-high"), files.folder / "out", CPU)


def test_one_s_own_w0s_of_equal_metadata_do_not_share_a_resume_file(files: Files) -> None:
    job = TrainingJob(files.data, CPU, model="lenet300", seed=0)
    prints = []
    for seed in (1, 2):
        state = build_model("lenet300", seed=seed).state_dict()
        save_checkpoint(files.folder / "own", [state], metadata={"model": "lenet300", "seed": 0})
        prints.append(job.fingerprint(load_initial(files.folder / "own")))
    assert prints[0] != prints[1]
    # Those of what commands have made are as they were when resume files began to wait.
    made = [load_initial(files.w0()), load_checkpoint(files.net("G", "gradual"))]
    text = json.dumps([job.facts, *(checkpoint.metadata for checkpoint in made)], sort_keys=True)
    assert job.fingerprint(*made) == hashlib.sha256(text.encode()).hexdigest()


def test_what_an_edited_plugin_had_computed_is_not_gone_on_from(files: Files) -> None:
    """As an edit makes its jobs again: a search of before would come back from the resume file."""
    own = files.folder / "own.py"
    builtin = TrainingJob(files.data, CPU, model="lenet300", method="snip").fingerprint()
    prints = {builtin}
    try:
        for edit in ("", "# mended\n"):
            own.write_text(
                f"{edit}from sharpminima.catalogue.methods.search import SearchSettings, searched_method\n"
                "SHARPMINIMA = [searched_method('own', print, SearchSettings, 'ours', 'scored')]\n"
            )
            plugins.use([own])
            prints.add(TrainingJob(files.data, CPU, model="lenet300", method="own").fingerprint())
            assert TrainingJob(files.data, CPU, model="lenet300", method="snip").fingerprint() == builtin
    finally:
        plugins.use([])
    assert len(prints) == 3
