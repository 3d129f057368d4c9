"""Results print in three lines, become tables and figures, and are saved and read."""

import dataclasses
import subprocess
import sys

import pandas as pd
import pytest
import torch
from matplotlib.figure import Figure

from sharpminima import analysis
from sharpminima.analysis import (
    HessianEigenvalues,
    PspEntropy,
    hessian_along_line,
    hessian_density,
    hessian_diagonal,
    hessian_eigenvalues,
    hessian_trace,
    loss_barrier,
    loss_surface,
    loss_surface_around,
    psp_entropy,
    psp_statistics,
)
from sharpminima.analysis._results import Result
from sharpminima.base.errors import AnalysisError

from . import cases


@pytest.fixture(scope="module")
def results():
    """A result of every kind."""
    net, other, data = cases.mlp(1), cases.mlp(2), cases.data(20)
    found = [
        hessian_eigenvalues(net, *data, k=3),
        hessian_trace(net, *data),
        hessian_density(net, *data, steps=5, points=50),
        psp_entropy(net, *data),
        psp_entropy(net, *data, order=2),
        loss_surface(net, other, *data, grid=(3, 2), measures=("loss", "psp_entropy_1")),
        loss_surface_around(net, *data, grid=(3, 1)),
        loss_barrier(net, other, *data, points=5),
        hessian_along_line(net, other, *data, points=3, k=2),
        hessian_diagonal(net, *data, probes=3),
        psp_statistics(net, *data, pairs=True),
    ]
    kinds = {kind for kind in vars(analysis).values() if isinstance(kind, type) and issubclass(kind, Result)}
    assert {type(each) for each in found} == kinds
    return found


def test_every_result_prints_in_three_lines(results):
    for result in results:
        lines = str(result).splitlines()
        assert repr(result) == str(result)
        assert len(lines) == 3
        assert lines[0].startswith(type(result).__name__)
        assert max(map(len, lines)) <= 120
    eigenvalues = results[0]
    assert str(eigenvalues).splitlines()[0] == "HessianEigenvalues: 3 largest, over 121 parameters (all)"
    assert f"{float(eigenvalues.eigenvalues[0]):.4g}" in str(eigenvalues).splitlines()[1]
    assert f"all converged; {eigenvalues.hvps} products" in str(eigenvalues)
    assert "mean " + f"{results[3].mean:.4g} bits" in str(results[3])


def test_every_result_is_a_table(results):
    eigenvalues, trace, density, first, second, surface, around, barrier, line, diagonal, statistics = results
    frames = [result.to_frame() for result in results]
    assert all(isinstance(frame, pd.DataFrame) and not frame.isna().any().any() for frame in frames)
    assert frames[0]["eigenvalue"].tolist() == eigenvalues.eigenvalues.tolist()
    assert frames[1].iloc[0].to_dict() == {
        name: getattr(trace, name) for name in ("trace", "standard_error", "captured", "rank", "hvps")
    }
    assert frames[2]["density"].tolist() == density.density.tolist()
    for frame, result in ((frames[3], first), (frames[4], second)):
        assert dict(zip(frame["layer"], frame["entropy_bits"], strict=True)) == result.per_layer
        assert frame["neurons"].tolist() == list(result.neurons.values())
    for frame, result in ((frames[5], surface), (frames[6], around)):
        table = frame.pivot(index="y", columns="x", values="loss")
        assert torch.equal(torch.tensor(table.to_numpy()), result.values["loss"])
        assert table.columns.tolist() == result.x.tolist()
        assert table.index.tolist() == result.y.tolist()
    assert frames[7]["loss_excess"].max() == barrier.barrier
    rows = frames[8].set_index(["x", "rank"])["eigenvalue"]
    assert rows[0.5, 2] == float(line.eigenvalues[1, 1])
    entries = frames[9].set_index(["parameter", "index"])
    assert entries["diagonal"].tolist() == diagonal.diagonal.tolist()
    assert entries.loc[("3.weight", 7), "standard_error"] == diagonal.standard_error[72 + 6 + 7]
    assert frames[10].equals(frames[3][frames[10].columns])  # those of the first order
    assert frames[10]["live"].tolist() == [int(statistics.live(layer).sum()) for layer in statistics.layers.values()]


def test_every_result_is_a_figure(results, tmp_path):
    for number, result in enumerate(results):
        figure = result.plot()
        assert isinstance(figure, Figure)
        assert figure.get_suptitle() == str(result).splitlines()[0]
        figure.savefig(tmp_path / f"{number}.png", dpi=40)
    loss = results[0].plot().axes[0].lines[0]
    assert loss.get_ydata().tolist() == results[0].eigenvalues.tolist()


def as_lists(value):
    """A value that == compares: tensors as lists with their dtype, also in dictionaries and dataclasses."""
    if isinstance(value, torch.Tensor):
        return str(value.dtype), value.tolist()
    if isinstance(value, dict):
        return {name: as_lists(part) for name, part in value.items()}
    if dataclasses.is_dataclass(value):
        return type(value), as_lists(vars(value))
    return value


def test_every_result_is_saved_and_read_to_the_bit(results, tmp_path):
    for result in results:
        path = tmp_path / "result.safetensors"
        result.save(path)
        again = type(result).load(path)
        for field in dataclasses.fields(result):
            value, read = getattr(result, field.name), getattr(again, field.name)
            assert as_lists(read) == as_lists(value)
            assert type(read) is type(value)
        result.save(tmp_path / "result.csv")
        pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "result.csv", dtype={"layer": str}), result.to_frame())


def test_errors(results, tmp_path):
    result, path = results[0], tmp_path / "result.safetensors"
    with pytest.raises(AnalysisError, match=r"result.xlsx is no file of a result; .* ends in .csv or .safetensors"):
        result.save(tmp_path / "result.xlsx")
    with pytest.raises(AnalysisError, match=r"holds no whole HessianEigenvalues"):
        HessianEigenvalues.load(path)
    result.save(path)
    with pytest.raises(AnalysisError, match=r"holds no whole PspEntropy"):
        PspEntropy.load(path)
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(AnalysisError, match=r"holds no whole HessianEigenvalues"):
        HessianEigenvalues.load(path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "pandas", None)
        with pytest.raises(AnalysisError, match=r"pandas is not installed; pip install 'sharpminima\[report\]'"):
            result.to_frame()


@pytest.mark.slow
def test_the_library_loads_neither_pandas_nor_matplotlib():
    code = "import sys, sharpminima.analysis; print({'pandas', 'matplotlib'} & set(sys.modules))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "set()"
