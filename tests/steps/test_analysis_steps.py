"""The steps that measure G and 1-S, called as the command line does, on the real digits."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from typer.testing import CliRunner

from sharpminima.analysis import hessian_eigenvalues, psp_entropy
from sharpminima.base.errors import AnalysisError
from sharpminima.base.stop import STOP, Stopped
from sharpminima.catalogue.analyses import (
    ANALYSES,
    AnalysisData,
    HessianSettings,
    LineSettings,
    PspSettings,
    SurfaceSettings,
)
from sharpminima.catalogue.columns import (
    BARRIER_COLUMNS,
    HESSIAN_COLUMNS,
    LINE_COLUMNS,
    NEURON_COLUMNS,
    PSP_COLUMNS,
    SURFACE_COLUMNS,
)
from sharpminima.cli import app
from sharpminima.data import load_prepared
from sharpminima.nets.checkpoint import load_checkpoint, save_checkpoint
from sharpminima.nets.evaluation import evaluate
from sharpminima.nets.masks import prunable_parameters, sparsity
from sharpminima.nets.models import build_model
from sharpminima.report.tables import read_table
from sharpminima.runtime.rng import generator
from sharpminima.steps.analyse import _nets, hessian, plane
from sharpminima.steps.job import Runtime

CPU = Runtime("cpu", 1)


@pytest.fixture(scope="module")
def nets(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """The data, and checkpoints of two nets at one mask, as G and 1-S."""
    folder = tmp_path_factory.mktemp("nets")
    data = load_prepared(digits)
    paths = []
    for seed, strategy in enumerate(("gradual", "rewind")):
        net = build_model("lenet300", num_classes=10, seed=seed)
        masks = {
            name: torch.rand(net.get_parameter(name).shape, generator=generator(0, name)) < 0.1
            for name in prunable_parameters(net)
        }
        with torch.no_grad():
            for name, mask in masks.items():
                net.get_parameter(name).mul_(mask)
        metadata = {
            "model": "lenet300",
            "dataset": "digits",
            "dataset_sha256": data.sha256,
            "method": "lobster",
            "strategy": strategy,
            "level": 0.9,
            "seed": 3,
            "metrics": [{"sparsity": sparsity(masks)}],
        }
        paths.append(folder / f"{strategy}.safetensors")
        save_checkpoint(paths[-1], [net.state_dict()], masks=[masks], metadata=metadata)
    return digits, *paths


@pytest.fixture
def dense(digits: Path, tmp_path: Path) -> Path:
    """The dense net of the run."""
    return dense_net(digits, tmp_path / "nets", seed=3)


def dense_net(digits: Path, folder: Path, *, seed: int) -> Path:
    """A checkpoint of a dense net of a run."""
    metadata = {
        "model": "lenet300",
        "dataset": "digits",
        "dataset_sha256": load_prepared(digits).sha256,
        "strategy": "dense",
        "seed": seed,
        "metrics": [{"sparsity": 0.0}],
    }
    folder.mkdir(exist_ok=True)
    path = folder / f"dense-{seed}.safetensors"
    save_checkpoint(path, [build_model("lenet300", num_classes=10, seed=seed).state_dict()], metadata=metadata)
    return path


def command(
    name: str, nets: tuple[Path, Path, Path], out: Path, dense_net: Path | None = None, **settings: object
) -> pd.DataFrame:
    data, gradual, rewind = nets
    arguments = ["--data", data, "--gradual", gradual, "--rewind", rewind, "--out", out, "--device", "cpu"]
    chosen = ["--settings", json.dumps(settings)]
    out.parent.mkdir(exist_ok=True)
    more = [] if dense_net is None else ["--dense", dense_net]
    result = CliRunner().invoke(app, [name, *map(str, [*arguments, *more]), *chosen])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    assert [path.name for path in out.parent.iterdir()] == [out.name]
    return read_table(name, out)


@pytest.fixture
def _no_signal() -> Iterator[None]:
    yield
    STOP.raised = False


def stopping_after(points: int) -> Callable[..., None]:
    """In place of `Progress`: stands for a SIGTERM after so many points in all."""
    seen = []

    class Stopping:
        def __init__(self, label: str) -> None:
            pass

        def __call__(self, done: int, total: int, unit: str) -> None:
            assert unit == "point"
            seen.append(done)
            STOP.raised = len(seen) == points

    return Stopping


def test_barrier_on_two_parts(nets: tuple[Path, Path, Path], tmp_path: Path) -> None:
    table = command("barrier", nets, tmp_path / "barrier.csv", points=5, images=60)
    assert list(table.columns) == BARRIER_COLUMNS
    assert list(table["part"]) == ["train"] * 5 + ["test"] * 5
    assert list(table["x"]) == [0, 0.25, 0.5, 0.75, 1] * 2
    assert set(table["images"]) == {60}
    for part, rows in table.groupby("part"):
        data = load_prepared(nets[0])
        split = data.subset(part, 60, generator(0, "analysis-images", "digits"))
        for row, path in ((rows.iloc[0], nets[1]), (rows.iloc[-1], nets[2])):
            net = load_checkpoint(path).load_into(build_model("lenet300"))
            found = evaluate(net, split.images, split.labels)
            assert row["loss_nats"] == pytest.approx(found.loss, rel=1e-6)
            assert row["error_percent"] == found.error_percent
            assert row["loss_excess_nats"] == 0
        chord = (rows["loss_nats"].iloc[0] + rows["loss_nats"].iloc[-1]) / 2
        assert rows["loss_excess_nats"].iloc[2] == pytest.approx(rows["loss_nats"].iloc[2] - chord)
    assert (table["method"] == "lobster").all()
    assert (table["distance"] == table["distance"].iloc[0]).all()


@pytest.mark.parametrize(
    ("name", "module", "function", "options"),
    [("hessian", hessian, "hessian_eigenvalues", {}), ("line", plane, "hessian_along_line", {"points": 2})],
)
def test_the_recorded_eigenvalues_keep_the_digits_of_their_basis(
    nets: tuple[Path, Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    module: Any,
    function: str,
    options: dict[str, int],
) -> None:
    def stopped(*_: Any, **given: Any) -> None:
        raise Stopped(str(given["basis"]))

    monkeypatch.setattr(module, function, stopped)
    entry = ANALYSES[name]
    settings = entry.settings(images=40, eigenvalues=2, **options)
    with pytest.raises(Stopped, match=r"^torch\.float64$"):
        entry.load()(*nets, settings, tmp_path / "table.csv", CPU)


@pytest.mark.slow
def test_line_holds_both_spaces_and_both_ends(nets: tuple[Path, Path, Path], tmp_path: Path) -> None:
    settings = {"images": 40, "eigenvalues": 2, "tolerance": 1e-2}
    table = command("line", nets, tmp_path / "line/line.csv", points=3, **settings)
    ends = command("hessian", nets, tmp_path / "hessian/hessian.csv", **settings)
    assert list(table.columns) == LINE_COLUMNS
    assert list(ends.columns) == HESSIAN_COLUMNS
    assert list(table["x"]) == [0, 0, 0.5, 0.5, 1, 1] * 2
    assert list(table["index"]) == [1, 2] * 6
    assert table["converged"].all()
    for space, rows in table.groupby("space"):
        for x, strategy in ((0, "gradual"), (1, "rewind")):
            same = ends[(ends["space"] == space) & (ends["strategy"] == strategy)]
            assert list(rows[rows["x"] == x]["eigenvalue"]) == list(same["eigenvalue"])
            assert set(rows["dimension"]) == set(same["dimension"])


@pytest.mark.slow
@pytest.mark.usefixtures("_no_signal")
@pytest.mark.parametrize("points", [1, 5])
def test_a_stopped_line_goes_on(
    nets: tuple[Path, Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, points: int
) -> None:
    settings = LineSettings(images=30, eigenvalues=1, tolerance=1e-2, points=3)
    plane.line(*nets, settings, tmp_path / "whole" / "line.csv", CPU)
    out = tmp_path / "stopped" / "line.csv"
    with monkeypatch.context() as patch:
        patch.setattr(_nets, "Progress", stopping_after(points))
        with pytest.raises(Stopped):
            plane.line(*nets, settings, out, CPU)
    STOP.raised = False
    assert not out.exists()
    plane.line(*nets, settings, out, CPU)
    assert out.read_bytes() == (tmp_path / "whole" / "line.csv").read_bytes()
    assert [path.name for path in out.parent.iterdir()] == ["line.csv"]


@pytest.mark.slow
def test_stopped_eigenvalues_go_on_with_those_that_are_left(
    nets: tuple[Path, Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = HessianSettings(images=30, eigenvalues=1, tolerance=1e-2)
    eigenvalues, calls = hessian.hessian_eigenvalues, []

    def counted(*arguments: Any, **options: Any) -> Any:
        calls.append(options["scaling"])
        if len(calls) == 4:
            raise Stopped("as on SIGTERM")
        return eigenvalues(*arguments, **options)

    monkeypatch.setattr(hessian, "hessian_eigenvalues", counted)
    data, gradual, rewind = nets
    out = tmp_path / "stopped" / "hessian.csv"
    with pytest.raises(Stopped):
        hessian.hessian(*nets, settings, out, CPU)
    assert not out.exists()
    (left,) = out.parent.iterdir()
    others = tmp_path / "others" / "hessian.csv"
    others.parent.mkdir()
    shutil.copy(left, others.with_name(left.name))

    hessian.hessian(*nets, settings, out, CPU)
    assert len(calls) == 4 + 3, "three of six were finished"
    hessian.hessian(*nets, settings, tmp_path / "whole" / "hessian.csv", CPU)
    assert out.read_bytes() == (tmp_path / "whole" / "hessian.csv").read_bytes()
    assert [path.name for path in out.parent.iterdir()] == ["hessian.csv"]

    calls[:] = [None] * 4
    checkpoint = load_checkpoint(rewind)
    state = {name: 2 * value for name, value in checkpoint.states[0].items()}
    save_checkpoint(tmp_path / "other", [state], masks=checkpoint.masks, metadata=checkpoint.metadata)
    hessian.hessian(data, gradual, tmp_path / "other", settings, others, CPU)
    assert len(calls) == 4 + 6, "what was finished of other nets does not count"


@pytest.mark.usefixtures("_no_signal")
def test_a_stopped_map_goes_on(nets: tuple[Path, Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = SurfaceSettings(grid=3, images=50)
    plane.surface(*nets, settings, tmp_path / "whole.csv.bz2", CPU)
    out = tmp_path / "surface.csv.bz2"  # compressed, as the workflow's
    with monkeypatch.context() as patch:
        patch.setattr(_nets, "Progress", stopping_after(4))
        with pytest.raises(Stopped, match=r"surface-resume\.safetensors"):
            plane.surface(*nets, settings, out, CPU)
    STOP.raised = False
    assert not out.exists()
    plane.surface(*nets, settings, out, CPU)
    assert out.read_bytes() == (tmp_path / "whole.csv.bz2").read_bytes()
    assert list(read_table("surface", out).columns) == SURFACE_COLUMNS
    assert not (tmp_path / "surface-resume.safetensors").exists()


def test_psp_by_layer_and_by_class(nets: tuple[Path, Path, Path], tmp_path: Path) -> None:
    both = command("psp", nets, tmp_path / "both/psp.csv", images=100)
    assert list(both.columns) == PSP_COLUMNS
    assert both.groupby("part", sort=False)["images"].unique().to_dict() == {"train": [100], "test": [100]}
    alone = command("psp", nets, tmp_path / "test/psp.csv", images=100, parts=["test"])
    pd.testing.assert_frame_equal(both[both["part"] == "test"].reset_index(drop=True), alone)
    table = both[both["part"] == "train"]
    whole = table[table["class"] == "all"]
    assert list(whole["layer"]) == ["2", "4", "all"] * 2
    within = table[table["class"] != "all"]
    assert list(within["class"].unique()) == list("0123456789")
    for strategy in ("gradual", "rewind"):
        for layer in ("2", "4"):
            rows = within[(within["strategy"] == strategy) & (within["layer"] == layer)]
            (its_layer,) = whole[(whole["strategy"] == strategy) & (whole["layer"] == layer)].to_dict("records")
            assert len(rows) == 10
            for column in ("entropy_1_bits", "entropy_2_joint_bits", "entropy_2_agreement_bits"):
                assert rows[column].sum() == pytest.approx(its_layer[column], rel=1e-12)
            assert (rows["live_neurons"] <= its_layer["live_neurons"]).all()


@pytest.mark.slow
def test_eigenvalues_of_relative_changes_do_not_depend_on_the_scale_of_layers(
    nets: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    """A layer's weights doubled and the next one's halved: the same function, other plain eigenvalues."""
    scaled = []
    for path in nets[1:]:
        checkpoint = load_checkpoint(path)
        (state,) = checkpoint.states
        state["1.weight"] *= 2
        state["1.bias"] *= 2
        state["3.weight"] /= 2
        scaled.append(tmp_path / path.name)
        save_checkpoint(scaled[-1], [state], masks=checkpoint.masks, metadata=checkpoint.metadata)
    settings = {"images": 100, "eigenvalues": 2, "tolerance": 1e-5}
    before = command("hessian", nets, tmp_path / "before/hessian.csv", **settings)
    after = command("hessian", (nets[0], *scaled), tmp_path / "after/hessian.csv", **settings)
    assert list(before["space"].unique()) == ["all", "surviving", "relative"]
    ratio = (after["eigenvalue"] / before["eigenvalue"]).groupby(before["space"])
    assert ratio.max()["relative"] == pytest.approx(1, rel=1e-3)
    assert ratio.min()["relative"] == pytest.approx(1, rel=1e-3)
    assert abs(ratio.mean()["all"] - 1) > 0.01


def test_neurons_are_those_that_vary_within_a_class(nets: tuple[Path, Path, Path], tmp_path: Path) -> None:
    table = command("neurons", nets, tmp_path / "neurons.csv", images=100)
    assert list(table.columns) == NEURON_COLUMNS
    split = load_prepared(nets[0]).subset("train", 100, generator(0, "analysis-images", "digits"))
    for strategy, path in (("gradual", nets[1]), ("rewind", nets[2])):
        net = load_checkpoint(path).load_into(build_model("lenet300"))
        expected = psp_entropy(net, split.images, split.labels).per_neuron
        for layer, entropies in expected.items():
            rows = table[(table["strategy"] == strategy) & (table["layer"].astype(str) == layer)]
            varying = entropies.any(dim=0)
            assert rows["neuron"].tolist() == varying.nonzero().flatten().tolist() != []
            found = torch.tensor([[float(v) for v in text.split()] for text in rows["entropy_1_bits_by_class"]])
            torch.testing.assert_close(found.T.double(), entropies[:, varying], rtol=1e-3, atol=0)


def test_the_dense_net_of_the_run_is_measured_beside_the_others(
    nets: tuple[Path, Path, Path], dense: Path, tmp_path: Path
) -> None:
    of_two = command("psp", nets, tmp_path / "two" / "psp.csv", parts=["test"], images=60)
    of_three = command("psp", nets, tmp_path / "three" / "psp.csv", dense, dense=True, parts=["test"], images=60)
    assert of_three[of_three["strategy"] != "dense"].equals(of_two)
    own = of_three[of_three["strategy"] == "dense"]
    assert set(zip(own["method"], own["level"], own["seed"], own["sparsity"], strict=True)) == {("lobster", 0, 3, 0)}
    split = load_prepared(nets[0]).subset("test", 60, generator(0, "analysis-images", "digits"))
    expected = psp_entropy(build_model("lenet300", num_classes=10, seed=3), split.images, split.labels)
    (whole,) = (row for _, row in own.iterrows() if (row["layer"], row["class"]) == ("all", "all"))
    assert whole["entropy_1_bits"] == pytest.approx(expected.mean, rel=1e-6)
    assert whole["neurons"] == 400


def test_eigenvalues_at_the_dense_net_are_of_all_parameters(
    nets: tuple[Path, Path, Path], dense: Path, tmp_path: Path
) -> None:
    settings = HessianSettings(images=30, eigenvalues=1, tolerance=1e-2, dense=True)
    hessian.hessian(*nets, settings, tmp_path / "hessian.csv", CPU, dense=dense)
    table = read_table("hessian", tmp_path / "hessian.csv")
    assert list(table["space"]) == [*["all", "surviving", "relative"] * 2, "all", "relative"]
    own = table[table["strategy"] == "dense"]
    split = load_prepared(nets[0]).subset("train", 30, generator(0, "analysis-images", "digits"))
    net = build_model("lenet300", num_classes=10, seed=3)
    for row, scaling in zip(own.to_dict("records"), (None, "parameter"), strict=True):
        assert row["dimension"] == sum(parameter.numel() for parameter in net.parameters())
        found = hessian_eigenvalues(net, split.images, split.labels, k=1, scaling=scaling, tol=1e-4)
        assert row["eigenvalue"] == pytest.approx(float(found.eigenvalues[0]), rel=2e-2)


def test_a_dense_net_that_does_not_belong_there_is_refused(
    nets: tuple[Path, Path, Path], dense: Path, tmp_path: Path
) -> None:
    data, gradual, rewind = nets
    out = tmp_path / "psp.csv"
    given = ["psp", "--data", data, "--gradual", gradual, "--rewind", rewind, "--out", out]

    def refused(*more: object) -> str:
        result = CliRunner().invoke(app, list(map(str, (*given, *more))))
        assert result.exception is not None
        assert not out.exists()
        return str(result.exception)

    asked = ("--settings", '{"dense": true}')
    assert refused(*asked) == "--settings: dense: true; give the dense net by --dense"
    assert refused("--dense", dense) == "--settings: dense: false; leave --dense out, or say dense: true"
    of_barrier = CliRunner().invoke(app, list(map(str, ("barrier", *given[1:], "--dense", dense))))
    assert (of_barrier.exit_code, "--dense" in of_barrier.output) == (2, True), "which measures none"
    other = dense_net(data, tmp_path / "nets", seed=4)
    assert f"{gradual} and {other} do not belong together: seed 3 and 4" in refused(*asked, "--dense", other)
    assert "is of strategy gradual, and --dense takes dense" in refused(*asked, "--dense", gradual)
    assert "is a dense net; --gradual takes a pruned one" in refused("--gradual", dense)


def test_layers_of_too_many_pairs_are_measured_by_samples(
    nets: tuple[Path, Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Drawn by the run's seed, which stands in the rows."""
    monkeypatch.setattr("sharpminima.analysis.psp.entropy.MAX_STATES", 0)
    chosen = {"images": 100, "parts": ["test"]}
    with pytest.raises(AnalysisError, match=r"too many to count them all .* sample tuples with samples="):
        command("psp", nets, tmp_path / "none" / "psp.csv", **chosen)
    table = command("psp", nets, tmp_path / "psp" / "psp.csv", **chosen, samples=50)
    surface = {"images": 100, "part": "test", "grid": 3, "samples": 50}
    points = command("surface", nets, tmp_path / "surface" / "surface.csv", **surface)
    data, gradual, _ = nets
    split = _nets.images_of(load_prepared(data), AnalysisData(part="test", images=100), torch.device("cpu"))
    net = load_checkpoint(gradual).load_into(build_model("lenet300"))
    sampled = psp_entropy(net, split.images, split.labels, order=2, samples=50, seed=3)
    assert not sampled.exact
    whole = table[(table["layer"] == "all") & (table["strategy"] == "gradual")]
    assert whole["entropy_2_joint_bits"].item() == sampled.mean
    assert points[points["point"] == "G"]["psp_entropy_2_bits"].item() == pytest.approx(sampled.mean)


@pytest.mark.parametrize(("name", "chosen"), [("psp", {"parts": ["test"]}), ("neurons", {}), ("surface", {"grid": 3})])
def test_statistics_want_an_image_of_each_class(
    nets: tuple[Path, Path, Path], tmp_path: Path, name: str, chosen: dict[str, Any]
) -> None:
    said = "images: 9 given; PSP statistics need an image of each class, and digits has 10: give 10 or more"
    with pytest.raises(AnalysisError, match=said):
        command(name, nets, tmp_path / "out" / f"{name}.csv", images=9, **chosen)


def test_what_was_recorded_before_there_were_samples_stays_as_it_is() -> None:
    for settings in (PspSettings, SurfaceSettings):
        assert "samples" not in settings().model_dump(mode="json")
        assert settings(samples=50).model_dump(mode="json")["samples"] == 50
