"""The steps that make checkpoints, called as the command line does, on the real digits."""

import copy
import json
import math
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import torch
from torch import nn
from typer.testing import CliRunner

from sharpminima import tracking
from sharpminima.base.errors import CheckpointError, SharpminimaError
from sharpminima.base.stop import STOP, Stopped
from sharpminima.catalogue import plugins
from sharpminima.catalogue.models import MODELS, Model
from sharpminima.catalogue.recipes import RecipeSettings
from sharpminima.cli import app
from sharpminima.data import load_prepared
from sharpminima.nets.checkpoint import load_checkpoint, save_checkpoint
from sharpminima.nets.evaluation import evaluate
from sharpminima.nets.masks import count, sparsity
from sharpminima.nets.models import build_model
from sharpminima.nets.storage import stored_bytes
from sharpminima.report.tables import ranking
from sharpminima.runtime.precision import set_precision
from sharpminima.runtime.usage import read_usage
from sharpminima.steps import dense, job, prune, retrain, tables
from sharpminima.study.schema import MethodChoice
from sharpminima.training import RecipePolicy

RECIPE = RecipeSettings(batch_size=50, max_epochs=3)
LOBSTER = {"name": "lobster", "batch_size": 50, "lambda": 4e-3, "twt": 0.5, "pwe": 2, "max_epochs": 40}
CPU = job.Runtime("cpu", 1)


def command(*arguments: object) -> None:
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output


@pytest.fixture(scope="module")
def run(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """init, dense and two levels of LOBSTER of one run; the second level is never reached."""
    folder = tmp_path_factory.mktemp("run")
    common = ("--data", digits, "--init", folder / "init", "--device", "cpu")
    command("init", "--data", digits, "--model", "lenet300", "--seed", 5, "--out", folder / "init")
    command("dense", *common, "--settings", RECIPE.model_dump_json(), "--out", folder / "dense")
    levels = ("--level", 0.2, "--level", 0.5, "--level", 0.9999)
    command("prune", *common, "--settings", json.dumps(LOBSTER), *levels, "--out", folder / "lobster")
    return folder


def gradual(run: Path, level: str) -> Path:
    return run / f"lobster/level-{level}/gradual/seed-5/checkpoint.safetensors"


@pytest.mark.slow
def test_dense_starts_from_init_and_records_what_it_measured(run: Path, digits: Path) -> None:
    checkpoint = load_checkpoint(run / "dense/checkpoint.safetensors")
    facts = checkpoint.metadata
    assert (facts["model"], facts["seed"], facts["strategy"]) == ("lenet300", 5, "dense")
    assert facts["settings"]["max_epochs"] == 3
    assert facts["runtime"] == {"device": "cpu", "threads": 1, "compaction": True, "precision": "float32"}
    test = load_prepared(digits).split("test")
    found = evaluate(checkpoint.load_into(build_model("lenet300")), test.images, test.labels)
    assert facts["metrics"][0]["test_wrong"] == found.wrong
    assert facts["metrics"][0]["test_images"] == len(test.labels)
    assert facts["metrics"][0]["test_loss"] == found.loss
    assert found.error_percent < 40
    rows = (run / "dense/history.csv").read_text().splitlines()
    assert len(rows) == 4
    assert not list((run / "dense").glob("resume*"))


def test_measuring_the_levels_counts_as_part_of_the_job(
    run: Path, digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise RuntimeError("metrics")

    monkeypatch.setattr(job.TrainingJob, "metrics", fails)
    method = MethodChoice.model_validate({**LOBSTER, "max_epochs": 2}).root
    with pytest.raises(RuntimeError, match="metrics"):
        prune.prune(digits, run / "init", method, [0.2], tmp_path, CPU)
    assert not read_usage(tmp_path / "run/seed-5")["finished"]
    assert read_usage(run / "lobster/run/seed-5")["finished"]


def test_levels_of_a_run(run: Path) -> None:
    low, middle, high = (load_checkpoint(gradual(run, level)) for level in ("20", "50", "99.99"))
    assert low.metadata["reached"]
    assert not high.metadata["reached"]
    # The first event passes 20 % and 50 % at once: one state, represented by the higher level.
    assert low.metadata["metrics"][0]["event"] == middle.metadata["metrics"][0]["event"] == 1
    assert low.metadata["represented_by"] == middle.metadata["represented_by"] == 0.5
    assert high.metadata["represented_by"] == 0.9999
    for checkpoint in (low, high):
        assert sparsity(checkpoint.masks[0]) == pytest.approx(checkpoint.metadata["metrics"][0]["sparsity"])
    events = json.loads((run / "lobster/run/seed-5/events.json").read_text())
    assert events[0]["sparsity"] == low.metadata["metrics"][0]["sparsity"]


OWN = """
import copy
from sharpminima.catalogue.methods.search import SearchSettings, searched_method

def search(run, level, settings, resume):
    from sharpminima.pruning.engine.distribution import keep_best, survivors_at
    from sharpminima.pruning.engine.search import search_result
    from sharpminima.training import FlatModel

    flat = FlatModel(copy.deepcopy(run.model))
    scores = {name: flat.view(flat.values, name).abs() for name in ("1.weight", "3.weight")}
    return search_result(flat, keep_best(scores, survivors_at(level, 266_200)WHOLE, "global"), [])

SHARPMINIMA = [searched_method("own", search, SearchSettings, "ours", "scored")]
"""


def test_a_method_of_ones_own_may_leave_a_layer_whole(run: Path, digits: Path, tmp_path: Path) -> None:
    """It survives, in the file and in the table; other survivors than are promised are an error of the command line."""
    settings = {"name": "own", "epochs": 1, "recipe": RECIPE.model_dump(mode="json")}

    def pruned(whole: str, folder: str) -> None:
        (tmp_path / "own.py").write_text(OWN.replace("WHOLE", whole))
        plugins.use([tmp_path / "own.py"])
        common = ("--data", digits, "--init", run / "init", "--device", "cpu", "--out", tmp_path / folder)
        command("prune", *common, "--settings", json.dumps(settings), "--level", 0.5, "--level", 0.9)

    try:
        said = "own.py: method 'own': level 0.5: 134100 weights survive, 133100 asked for; its dial is .weights.: keep"
        with pytest.raises(SharpminimaError, match=said):
            pruned("", "own")
        pruned(" - 1000", "own")
    finally:
        plugins.use([])
    nets = [tmp_path / f"own/level-{level}/gradual/seed-5/checkpoint.safetensors" for level in (50, 90)]
    for net, level in zip(nets, (0.5, 0.9), strict=True):
        checkpoint = load_checkpoint(net)
        assert checkpoint.metadata["reached"]
        assert checkpoint.metadata["metrics"][0]["sparsity"] == pytest.approx(level)
        assert checkpoint.masks[0]["5.weight"].all()
    tables.results(nets, tmp_path / "results.csv", tmp_path / "density.csv")
    rows = pd.read_csv(tmp_path / "results.csv")
    assert rows["sparsity"].tolist() == pytest.approx([0.5, 0.9])


@pytest.mark.parametrize("strategy", ["rewind", "reinit", "random-structure"])
def test_retraining_keeps_the_structure(run: Path, digits: Path, tmp_path: Path, strategy: str) -> None:
    replicas = 1 if strategy == "rewind" else 2
    retrain.retrain(digits, run / "init", gradual(run, "99.99"), strategy, replicas, RECIPE, tmp_path, CPU)
    found = load_checkpoint(tmp_path / "checkpoint.safetensors")
    masks = load_checkpoint(gradual(run, "99.99")).masks[0]
    assert found.replicas == replicas
    for replica in range(replicas):
        assert count(found.masks[replica]) == count(masks)
        same = all(torch.equal(found.masks[replica][name], masks[name]) for name in masks)
        assert same == (strategy != "random-structure")
    assert found.metadata["trained"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["checkpoint.safetensors", "history.csv", "usage.json"]


def test_weights_of_the_first_replica_alone_leave_the_others_masks_metrics_and_predictions(
    run: Path, digits: Path, tmp_path: Path
) -> None:
    arguments = (digits, run / "init", gradual(run, "99.99"), "random-structure", 3, RECIPE)
    retrain.retrain(*arguments, tmp_path / "all", CPU)
    retrain.retrain(*arguments, tmp_path / "first", CPU, weights="first")
    whole, thin = (load_checkpoint(tmp_path / name / "checkpoint.safetensors") for name in ("all", "first"))
    assert (len(thin.states), thin.replicas, len(thin.masks)) == (1, 3, 3)
    assert thin.metadata == whole.metadata
    assert all(torch.equal(thin.states[0][name], value) for name, value in whole.states[0].items())
    for replica in range(3):
        assert all(torch.equal(thin.masks[replica][name], mask) for name, mask in whole.masks[replica].items())
    labels = load_prepared(digits).split("test").labels
    wrong = (thin.predictions != labels).sum(dim=1).tolist()
    assert wrong == [metrics["test_wrong"] for metrics in whole.metadata["metrics"][1:]]


@pytest.mark.slow
def test_where_the_highest_level_alone_keeps_weights_the_others_keep_all_else(
    run: Path, digits: Path, tmp_path: Path
) -> None:
    """Of the dense net, of LOBSTER's lower levels, and of what is retrained at their masks."""
    common = ("--data", digits, "--init", run / "init", "--device", "cpu")
    command("dense", *common, "--settings", RECIPE.model_dump_json(), "--weights", "none", "--out", tmp_path / "dense")
    levels = ("--level", 0.2, "--level", 0.5, "--level", 0.9999)
    given = ("--settings", json.dumps(LOBSTER), *levels, "--weights", "highest")
    command("prune", *common, *given, "--out", tmp_path / "lobster")
    for file in ("lobster/level-99.99/gradual/seed-5", "lobster/run/seed-5"):
        for path in (run / file).iterdir():
            assert path.name == "usage.json" or path.read_bytes() == (tmp_path / file / path.name).read_bytes()
    labels = load_prepared(digits).split("test").labels
    for cell in ("dense", "lobster/level-20/gradual/seed-5", "lobster/level-50/gradual/seed-5"):
        whole, thin = (load_checkpoint(folder / cell / "checkpoint.safetensors") for folder in (run, tmp_path))
        assert (thin.states, thin.replicas, thin.metadata) == ([], 1, whole.metadata)
        assert int((thin.predictions[0] != labels).sum()) == whole.metadata["metrics"][0]["test_wrong"]
        if whole.masks is not None:
            assert all(torch.equal(thin.masks[0][name], mask) for name, mask in whole.masks[0].items())
    arguments = (run / "init", gradual(tmp_path, "50"), "rewind", 1, RECIPE)
    retrain.retrain(digits, *arguments, tmp_path / "all", CPU)
    retrain.retrain(digits, *arguments, tmp_path / "none", CPU, weights="none")
    whole, thin = (load_checkpoint(tmp_path / name / "checkpoint.safetensors") for name in ("all", "none"))
    assert (len(whole.states), thin.states, thin.metadata) == (1, [], whole.metadata)


@pytest.mark.slow
def test_a_long_retraining_lasts_as_long_as_the_method(run: Path, digits: Path, tmp_path: Path) -> None:
    retrain.retrain(digits, run / "init", gradual(run, "99.99"), "rewind-long", 1, RECIPE, tmp_path, CPU)
    found = load_checkpoint(tmp_path / "checkpoint.safetensors")
    assert found.metadata["metrics"][0]["epochs"] == LOBSTER["max_epochs"]
    assert found.metadata["settings"]["schedule"] == "constant"


def test_a_level_that_another_represents_is_not_trained(run: Path, digits: Path, tmp_path: Path) -> None:
    retrain.retrain(digits, run / "init", gradual(run, "20"), "reinit", 2, RECIPE, tmp_path, CPU)
    found = load_checkpoint(tmp_path / "checkpoint.safetensors")
    assert not found.metadata["trained"]
    assert found.replicas == 1
    tables.results([tmp_path / "checkpoint.safetensors"], tmp_path / "r.csv", tmp_path / "d.csv")
    assert len((tmp_path / "r.csv").read_text().splitlines()) == 1


def test_a_replica_does_not_depend_on_its_companions(run: Path, digits: Path, tmp_path: Path) -> None:
    for replicas in (1, 2):
        folder = tmp_path / str(replicas)
        retrain.retrain(digits, run / "init", gradual(run, "50"), "reinit", replicas, RECIPE, folder, CPU)
    alone, together = (load_checkpoint(tmp_path / n / "checkpoint.safetensors") for n in ("1", "2"))
    assert all(torch.equal(alone.states[0][name], value) for name, value in together.states[0].items())


@pytest.mark.slow
def test_an_interrupted_cell_goes_on_with_its_next_replica(
    run: Path, digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = (digits, run / "init", gradual(run, "50"), "reinit", 3, RECIPE)
    retrain.retrain(*arguments, tmp_path / "whole", CPU)
    original, started = retrain.fit, []

    def failing(*given: object) -> object:
        started.append(1)
        if len(started) == 3:
            raise KeyboardInterrupt
        return original(*given)

    monkeypatch.setattr(retrain, "fit", failing)
    with pytest.raises(KeyboardInterrupt):
        retrain.retrain(*arguments, tmp_path / "cut", CPU)
    monkeypatch.setattr(retrain, "fit", lambda *given: (started.append(1), original(*given))[1])
    retrain.retrain(*arguments, tmp_path / "cut", CPU)
    assert len(started) == 4  # two finished, one cut off, one more
    for name in ("checkpoint.safetensors", "history.csv"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "cut" / name).read_bytes()


def set_aside(folder: Path) -> None:
    """As Snakemake's start does it, and then Snakemake with the outputs of a job."""
    tracking.set_aside([str(folder / name) for name in ("checkpoint.safetensors", "history.csv")])
    for name in ("checkpoint.safetensors", "history.csv"):
        (folder / name).unlink()


def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The places of the draws that are trained from here on."""
    trained: list[int] = []
    original = retrain.fit

    def counting(*given: object) -> object:
        assert isinstance(given[4], tuple)
        trained.append(given[4][1])
        return original(*given)

    monkeypatch.setattr(retrain, "fit", counting)
    return trained


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["reinit", "random-structure"])
@pytest.mark.parametrize("weights", ["all", "first", "none"])
def test_more_draws_leave_those_that_were_trained(
    run: Path, digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, strategy: str, weights: str
) -> None:
    arguments = (digits, run / "init", gradual(run, "50"), strategy)
    for number in (2, 3):
        retrain.retrain(*arguments, number, RECIPE, tmp_path / f"{number}", CPU, weights=weights)
    grown = tmp_path / "grown"
    shutil.copytree(tmp_path / "2", grown)
    spent = read_usage(grown)["wall_s"]
    trained = counted(monkeypatch)
    for number, expected in ((3, [2]), (2, [])):
        trained.clear()
        set_aside(grown)
        retrain.retrain(*arguments, number, RECIPE, grown, CPU, weights=weights)
        assert trained == expected
        for name in ("checkpoint.safetensors", "history.csv"):
            assert (grown / name).read_bytes() == (tmp_path / f"{number}" / name).read_bytes()
        assert read_usage(grown)["wall_s"] > spent
        assert len(list(grown.iterdir())) == 3


def other_settings(given: dict[str, object], _: Path) -> None:
    given["settings"] = RECIPE.model_copy(update={"lr": 0.01})


def other_compaction(given: dict[str, object], _: Path) -> None:
    given["runtime"] = job.Runtime("cpu", 1, compaction=False)


def younger_inputs(given: dict[str, object], _: Path) -> None:
    os.utime(str(given["w0"]))


def other_masks(given: dict[str, object], _: Path) -> None:
    """Another structure, in a file that is as old as the first."""
    path = Path(str(given["pruned"]))
    cell = load_checkpoint(path)
    assert cell.masks is not None
    states, masks = copy.deepcopy(cell.states), copy.deepcopy(cell.masks)
    name, mask = next(iter(masks[0].items()))
    place = tuple(mask.nonzero()[0].tolist())
    mask[place], states[0][name][place] = False, 0.0
    stat = path.stat()
    save_checkpoint(path, states, masks=masks, metadata=cell.metadata)
    os.utime(path, ns=(stat.st_mtime_ns, stat.st_mtime_ns))


def damaged(_: dict[str, object], folder: Path) -> None:
    path = folder / ".checkpoint.safetensors.before.part"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    stat = path.stat()
    path.write_bytes(content)
    os.utime(path, ns=(stat.st_mtime_ns, stat.st_mtime_ns))


def kept_without_weights(given: dict[str, object], _: Path) -> None:
    given["weights"] = "all"


@pytest.mark.slow
@pytest.mark.parametrize(
    "changed", [other_settings, other_compaction, younger_inputs, other_masks, damaged, kept_without_weights]
)
def test_draws_of_another_making_are_trained_anew(
    run: Path,
    digits: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    changed: Callable[[dict[str, object], Path], None],
) -> None:
    for name, source in (("init", run / "init"), ("pruned", gradual(run, "50"))):
        shutil.copy2(source, tmp_path / name)
    given: dict[str, object] = {"w0": tmp_path / "init", "pruned": tmp_path / "pruned", "weights": "none"}
    given |= {"data": digits, "strategy_name": "reinit", "settings": RECIPE, "runtime": CPU}
    cell = tmp_path / "cell"
    retrain.retrain(**given, replicas=1, out=cell)
    set_aside(cell)
    changed(given, cell)
    trained = counted(monkeypatch)
    retrain.retrain(**given, replicas=2, out=cell)
    assert trained == [0, 1]
    retrain.retrain(**given, replicas=2, out=tmp_path / "anew")
    for name in ("checkpoint.safetensors", "history.csv"):
        assert (cell / name).read_bytes() == (tmp_path / "anew" / name).read_bytes()


@pytest.mark.slow
def test_a_cell_that_is_made_again_with_as_many_draws_is_trained_anew(
    run: Path, digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who forces a job wants to see it train, and come to the same bits."""
    given: dict[str, object] = {"w0": run / "init", "pruned": gradual(run, "50"), "data": digits, "settings": RECIPE}
    given |= {"strategy_name": "reinit", "replicas": 2, "runtime": CPU, "out": tmp_path / "cell"}
    retrain.retrain(**given)
    before = (tmp_path / "cell/checkpoint.safetensors").read_bytes()
    set_aside(tmp_path / "cell")
    trained = counted(monkeypatch)
    retrain.retrain(**given)
    assert trained == [0, 1]
    assert (tmp_path / "cell/checkpoint.safetensors").read_bytes() == before


@pytest.mark.slow
def test_an_interrupted_cell_goes_on_with_more_or_fewer_draws(
    run: Path, digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = (digits, run / "init", gradual(run, "50"), "reinit")
    for number in (1, 4):
        retrain.retrain(*arguments, number, RECIPE, tmp_path / f"{number}", CPU)
    original, started = retrain.fit, []

    def failing(*given: object) -> object:
        assert isinstance(given[4], tuple)
        started.append(given[4][1])
        if len(started) == 3:
            raise KeyboardInterrupt
        return original(*given)

    monkeypatch.setattr(retrain, "fit", failing)
    with pytest.raises(KeyboardInterrupt):
        retrain.retrain(*arguments, 3, RECIPE, tmp_path / "cut", CPU)
    shutil.copytree(tmp_path / "cut", tmp_path / "fewer")
    for number, folder, places in ((4, "cut", [2, 3]), (1, "fewer", [])):
        started[:] = [None] * 3
        retrain.retrain(*arguments, number, RECIPE, tmp_path / folder, CPU)
        assert started[3:] == places
        for name in ("checkpoint.safetensors", "history.csv"):
            assert (tmp_path / f"{number}" / name).read_bytes() == (tmp_path / folder / name).read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("lost", [False, True])
def test_an_interrupted_cell_that_took_draws_over_goes_on_with_the_next(
    run: Path, digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lost: bool
) -> None:
    """What is finished has its place by the draws before it: without these it is not gone on from."""
    arguments = (digits, run / "init", gradual(run, "50"), "reinit")
    retrain.retrain(*arguments, 3, RECIPE, tmp_path / "whole", CPU)
    retrain.retrain(*arguments, 1, RECIPE, tmp_path / "cut", CPU)
    set_aside(tmp_path / "cut")
    trained = counted(monkeypatch)
    counting = retrain.fit

    def failing(*given: object) -> object:
        if trained:
            raise KeyboardInterrupt
        return counting(*given)

    monkeypatch.setattr(retrain, "fit", failing)
    with pytest.raises(KeyboardInterrupt):
        retrain.retrain(*arguments, 3, RECIPE, tmp_path / "cut", CPU)
    if lost:
        (tmp_path / "cut/.history.csv.before.part").unlink()
    monkeypatch.setattr(retrain, "fit", counting)
    retrain.retrain(*arguments, 3, RECIPE, tmp_path / "cut", CPU)
    assert trained == [1, *([0, 1, 2] if lost else [2])]
    for name in ("checkpoint.safetensors", "history.csv"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "cut" / name).read_bytes()


def test_a_dense_checkpoint_has_no_structure_to_retrain(run: Path, digits: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="holds no masks"):
        retrain.retrain(digits, run / "init", run / "dense/checkpoint.safetensors", "reinit", 1, RECIPE, tmp_path, CPU)


def test_the_results_table(run: Path, tmp_path: Path) -> None:
    paths = [run / "dense/checkpoint.safetensors", gradual(run, "50"), gradual(run, "99.99")]
    tables.results(paths, tmp_path / "r.csv", tmp_path / "d.csv")
    rows, density = pd.read_csv(tmp_path / "r.csv"), pd.read_csv(tmp_path / "d.csv")
    assert rows.strategy.tolist() == ["dense", "gradual", "gradual"]
    assert rows.reached.tolist() == [True, True, False]
    assert rows.parameters.tolist() == [266_610] * 3
    for row in rows.itertuples():
        assert row.test_error_percent == pytest.approx(100 * row.test_wrong / row.test_images)
        assert row.effective <= row.nonzero <= row.parameters
        assert row.sparsity_all == pytest.approx(1 - row.nonzero / row.parameters)
    sizes = {name: parameter.numel() for name, parameter in build_model("lenet300").named_parameters()}
    level = density[density.level == 0.5]
    survivors = sum(d * sizes[p] for p, d in zip(level.parameter, level.density, strict=True))
    assert survivors == pytest.approx(rows.nonzero[1])


def test_the_measures_table(run: Path, tmp_path: Path) -> None:
    dense = run / "dense/checkpoint.safetensors"
    command("measures", dense, gradual(run, "20"), "--out", tmp_path / "measures.csv")
    first, second = pd.read_csv(tmp_path / "measures.csv").itertuples()
    # LeNet-300: 784 x 300 + 300 x 100 + 100 x 10 kernel weights, and 410 biases.
    assert (first.parameters, first.prunable, first.kernels) == (266_610, 266_610, 266_200)
    state = load_checkpoint(gradual(run, "20")).states[0]
    kept = {name: int((value != 0).sum()) for name, value in state.items()}
    kernels = {name: size for name, size in kept.items() if name.endswith("weight")}
    assert (second.nonzero, second.nonzero_kernels) == (sum(kept.values()), sum(kernels.values()))
    assert second.density_percent == pytest.approx(100 * second.nonzero / 266_610)
    assert second.kernel_density_percent == pytest.approx(100 * second.nonzero_kernels / 266_200)
    assert second.flops_dense == 2 * 266_200
    assert second.flops_nonzero == 2 * second.nonzero_kernels
    assert (first.job_nets, second.job_nets) == (1, 3)
    assert first.final_epochs_at_most == 3
    assert first.stored_bytes == 4 * 266_610
    masks = load_checkpoint(gradual(run, "20")).masks
    assert masks is not None
    assert second.stored_bytes == stored_bytes(build_model("lenet300"), masks[0]) < 0.9 * first.stored_bytes
    for row in (first, second):
        assert row.job_wall_s > 0
        assert row.job_cpu_s > 0
        assert row.job_gpu_s == 0
        assert 50 < row.peak_mb < 50_000
        assert row.device == "cpu"


def test_what_is_not_measured_is_empty(run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "dense"
    shutil.copytree(run / "dense", folder)
    (folder / "usage.json").unlink()
    command("measures", folder / "checkpoint.safetensors", "--out", tmp_path / "measures.csv")
    (row,) = pd.read_csv(tmp_path / "measures.csv").itertuples()
    assert math.isnan(row.job_wall_s)
    assert row.test_wrong > 0


@pytest.mark.parametrize(("layer", "known"), [(nn.PReLU(), False), (nn.BatchNorm1d(12), True), (nn.GELU(), True)])
def test_a_net_whose_live_paths_are_not_known_has_empty_cells(
    layer: nn.Module, known: bool, digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What has been trained is kept."""

    def build(num_classes: int) -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(784, 12), copy.deepcopy(layer), nn.Linear(12, num_classes))

    monkeypatch.setitem(MODELS, "own", Model("own", (1, 28, 28), build))
    command("init", "--data", digits, "--model", "own", "--seed", 0, "--out", tmp_path / "init")
    common = ("--data", digits, "--init", tmp_path / "init", "--device", "cpu")
    recipe = {"batch_size": 50, "max_epochs": 1}
    command("dense", *common, "--settings", json.dumps(recipe), "--out", tmp_path / "dense")
    settings = {"name": "magnitude", "dense": recipe, "recipe": recipe}
    command("prune", *common, "--settings", json.dumps(settings), "--level", 0.5, "--out", tmp_path / "m")
    paths = [tmp_path / "dense/checkpoint.safetensors", tmp_path / "m/level-50/gradual/seed-0/checkpoint.safetensors"]
    command("measures", *paths, "--out", tmp_path / "measures.csv")
    tables.results(paths, tmp_path / "results.csv", tmp_path / "density.csv")
    for name in ("measures", "results"):
        table = pd.read_csv(tmp_path / f"{name}.csv")
        assert table[["effective", "flops_effective"]].notna().all(axis=None) == known
        assert table[["effective", "flops_effective"]].isna().all(axis=None) != known
        assert table["flops_dense"].tolist() == 2 * [2 * (784 + 10) * 12]
        assert table["collapsed"].eq(False).all(axis=None) == known
        assert table["collapsed"].isna().all(axis=None) != known
    (ranked,) = ranking(table).itertuples()
    assert not ranked.collapsed
    assert ranked.rank == 1


@pytest.mark.slow
def test_batchnorm_of_w0_is_that_of_all_that_follows(digits: Path, tmp_path: Path) -> None:
    init, chosen = tmp_path / "init", {"momentum": 0.5, "eps": 0.01}
    arguments = ("--data", digits, "--model", "lenet5-bn", "--seed", 0, "--out", init)
    command("init", *arguments, "--batchnorm", json.dumps(chosen))
    common = ("--data", digits, "--init", init, "--device", "cpu")
    recipe = {"batch_size": 50, "max_epochs": 1, "schedule": "constant"}
    command("dense", *common, "--settings", json.dumps(recipe), "--out", tmp_path / "dense")
    settings = {"name": "magnitude", "dense": recipe, "recipe": recipe}
    command("prune", *common, "--settings", json.dumps(settings), "--level", 0.5, "--out", tmp_path / "m")
    pruned = tmp_path / "m/level-50/gradual/seed-0/checkpoint.safetensors"
    again = ("--pruned", pruned, "--strategy", "reinit", "--settings", json.dumps(recipe), "--out", tmp_path / "reinit")
    command("retrain", *common, *again)
    test = load_prepared(digits).split("test")
    for folder in (tmp_path / "dense", pruned.parent, tmp_path / "reinit"):
        checkpoint = load_checkpoint(folder / "checkpoint.safetensors")
        assert checkpoint.metadata["batchnorm"] == chosen
        found = checkpoint.metadata["metrics"][0]["test_loss"]
        own = checkpoint.load_into(build_model("lenet5-bn", bn_momentum=0.5, bn_eps=0.01))
        usual = checkpoint.load_into(build_model("lenet5-bn"))
        assert found == evaluate(own, test.images, test.labels).loss
        assert found != evaluate(usual, test.images, test.labels).loss


def test_cuda_without_cuda_is_an_error(run: Path, digits: Path, tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has CUDA")
    with pytest.raises(SharpminimaError, match="device: cuda asked for, but torch sees no CUDA device"):
        dense.dense(digits, run / "init", RECIPE, tmp_path, job.Runtime("cuda", 1))


def test_tf32_on_a_cpu_is_an_error(run: Path, digits: Path, tmp_path: Path) -> None:
    runtime = job.Runtime("cpu", 1, precision="tf32")
    with pytest.raises(SharpminimaError, match="precision: tf32 asked for, which CPUs do not have"):
        dense.dense(digits, run / "init", RECIPE, tmp_path, runtime)


def test_dense_in_bfloat16_says_so_and_measures_in_float32(run: Path, digits: Path, tmp_path: Path) -> None:
    options = ("--settings", RECIPE.model_dump_json(), "--out", tmp_path, "--device", "cpu", "--precision", "bfloat16")
    try:
        command("dense", "--data", digits, "--init", run / "init", *options)
    finally:
        set_precision("float32", torch.device("cpu"))
    checkpoint, usual = (load_checkpoint(f / "checkpoint.safetensors") for f in (tmp_path, run / "dense"))
    assert checkpoint.metadata["runtime"]["precision"] == "bfloat16"
    net = checkpoint.load_into(build_model("lenet300"))
    assert {p.dtype for p in net.parameters()} == {torch.float32}
    test = load_prepared(digits).split("test")
    (found,), (expected,) = checkpoint.metadata["metrics"], usual.metadata["metrics"]
    assert found["test_loss"] == evaluate(net, test.images, test.labels).loss
    assert found["test_loss"] != expected["test_loss"]
    assert found["test_loss"] == pytest.approx(expected["test_loss"], rel=0.05)


@pytest.mark.gpu
def test_tf32_is_off_unless_asked_for() -> None:
    if not torch.cuda.is_available():
        pytest.skip("this machine has no CUDA")
    from sharpminima.runtime.device import configure

    for precision in ("tf32", "float32"):
        configure("cuda", 1, precision)
        assert torch.backends.cuda.matmul.allow_tf32 == (precision == "tf32")
        assert torch.backends.cudnn.allow_tf32 == (precision == "tf32")


def test_a_gpu_slot_without_a_gpu_is_a_loud_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has CUDA")
    from sharpminima.runtime.device import configure

    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    with pytest.warns(UserWarning, match="holds a GPU slot .* but runs on the CPU"):
        configure("auto", 1)


def batched(run: Path, digits: Path, out: Path, strategy: str = "reinit", replicas: int = 3) -> None:
    runtime = job.Runtime("cpu", 1, replica_strategy="batched")
    retrain.retrain(digits, run / "init", gradual(run, "99.99"), strategy, replicas, RECIPE, out, runtime)


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["reinit", "random-structure"])
def test_a_batched_cell_is_the_looped_one_up_to_rounding(
    run: Path, digits: Path, tmp_path: Path, strategy: str
) -> None:
    batched(run, digits, tmp_path / "batched", strategy)
    retrain.retrain(digits, run / "init", gradual(run, "99.99"), strategy, 3, RECIPE, tmp_path / "loop", CPU)
    one, other = (load_checkpoint(tmp_path / name / "checkpoint.safetensors") for name in ("batched", "loop"))
    for state, looped, masks, looped_masks in zip(one.states, other.states, one.masks, other.masks, strict=True):
        for name, value in looped.items():
            torch.testing.assert_close(state[name], value, rtol=1e-3, atol=1e-4)
        for name, mask in looped_masks.items():
            assert torch.equal(masks[name], mask)
            assert not state[name][~mask].any()
    assert one.metadata["runtime"] == {**other.metadata["runtime"], "replica_strategy": "batched"}
    assert other.metadata["runtime"]["replica_strategy"] == "loop"
    rows, looped_rows = (pd.read_csv(tmp_path / name / "history.csv") for name in ("batched", "loop"))
    pd.testing.assert_frame_equal(rows, looped_rows, rtol=1e-3)
    assert sorted(p.name for p in (tmp_path / "batched").iterdir()) == [
        "checkpoint.safetensors",
        "history.csv",
        "usage.json",
    ]


# 26 steps an epoch of 3 epochs: in the middle, and when the cell is trained but not written.
@pytest.mark.parametrize("when", ["training", "writing"])
@pytest.mark.slow
def test_a_stopped_batch_goes_on_to_the_same_bits(
    run: Path, digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    batched(run, digits, tmp_path / "whole")
    if when == "training":
        monkeypatch.setattr(RecipePolicy, "after_step", stopping_after(100))
        expected: type[BaseException] = Stopped
    else:
        monkeypatch.setattr(retrain, "write_cell", interrupted)
        expected = KeyboardInterrupt
    with pytest.raises(expected):
        batched(run, digits, tmp_path / "cut")
    monkeypatch.undo()
    STOP.raised = False
    left = {"training": "resume-batch.safetensors", "writing": "resume-finished.safetensors"}
    assert {p.name for p in (tmp_path / "cut").iterdir()} == {left[when], "usage.json"}
    batched(run, digits, tmp_path / "cut")
    for name in ("checkpoint.safetensors", "history.csv"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "cut" / name).read_bytes()


def stopping_after(calls: int) -> Callable[..., None]:
    """A policy's ``after_step`` that asks for a stop at its ``calls``-th call."""
    counted = []

    def after_step(self: RecipePolicy, flat: object) -> None:
        counted.append(1)
        STOP.raised = STOP.raised or len(counted) == calls

    return after_step


def interrupted(*given: object) -> None:
    raise KeyboardInterrupt


def test_auto_is_a_rule_by_device(run: Path, digits: Path) -> None:
    for asked, device, replicas, used in [
        ("auto", "cpu", 10, "loop"),
        ("auto", "cuda", 10, "batched"),
        ("auto", "cuda", 1, "loop"),
        ("loop", "cuda", 10, "loop"),
        ("batched", "cpu", 1, "batched"),
    ]:
        training = job.TrainingJob(digits, job.Runtime("cpu", 1, replica_strategy=asked))
        training.device = torch.device(device)
        assert training.replica_strategy(replicas) == used


ENTROPY = '{"beta": 0.3, "tau": 0.5}'


@pytest.mark.slow
def test_psp_entropy_rides_on_every_training_step_and_is_recorded(run: Path, digits: Path, tmp_path: Path) -> None:
    common = ("--data", digits, "--init", run / "init", "--device", "cpu", "--psp-entropy", ENTROPY)
    recipe = ("--settings", RECIPE.model_dump_json())
    command("dense", *common, *recipe, "--out", tmp_path / "dense")
    command("prune", *common, "--settings", json.dumps(LOBSTER), "--level", 0.2, "--out", tmp_path / "lobster")
    pruned = gradual(tmp_path, "20")
    for strategy in ("rewind", "reinit"):
        out = tmp_path / strategy
        command(
            *("retrain", *common, *recipe, "--pruned", pruned, "--strategy", strategy, "--out", out),
            *("--replicas", 1 if strategy == "rewind" else 2, "--replica-strategy", "batched"),
        )
    made = [tmp_path / "dense/checkpoint.safetensors", pruned]
    for path in (*made, *(tmp_path / strategy / "checkpoint.safetensors" for strategy in ("rewind", "reinit"))):
        assert load_checkpoint(path).metadata["psp_entropy"] == {"revision": 1, "beta": 0.3, "tau": 0.5, "order": 1}
    assert "psp_entropy" not in load_checkpoint(run / "dense/checkpoint.safetensors").metadata
    states = [load_checkpoint(folder / "dense/checkpoint.safetensors").states[0] for folder in (run, tmp_path)]
    assert any(not torch.equal(tensor, states[1][name]) for name, tensor in states[0].items())


def test_a_beta_of_0_leaves_the_nets_of_every_step_as_they_are(run: Path, digits: Path, tmp_path: Path) -> None:
    command(
        *("dense", "--data", digits, "--init", run / "init", "--device", "cpu", "--psp-entropy", '{"beta": 0}'),
        *("--settings", RECIPE.model_dump_json(), "--out", tmp_path),
    )
    plain, other = (load_checkpoint(folder / "checkpoint.safetensors") for folder in (run / "dense", tmp_path))
    assert all(torch.equal(tensor, other.states[0][name]) for name, tensor in plain.states[0].items())


def test_a_label_behind_a_models_name_is_recorded_and_changes_nothing(run: Path, digits: Path, tmp_path: Path) -> None:
    command("init", "--data", digits, "--model", "lenet300@plus", "--seed", 5, "--out", tmp_path / "init")
    common = ("--data", digits, "--init", tmp_path / "init", "--device", "cpu")
    command("dense", *common, "--settings", RECIPE.model_dump_json(), "--out", tmp_path / "dense")
    labelled = load_checkpoint(tmp_path / "dense/checkpoint.safetensors")
    assert labelled.metadata["model"] == "lenet300@plus"
    plain = load_checkpoint(run / "dense/checkpoint.safetensors").states[0]
    assert all(torch.equal(tensor, labelled.states[0][name]) for name, tensor in plain.items())
