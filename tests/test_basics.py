"""The foundations: random numbers, files, progress, evaluation, the command line's manners."""

import bz2
import copy
import io
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import sharpminima
from sharpminima.analysis import hessian_trace, psp_entropy
from sharpminima.base.errors import AnalysisError, SharpminimaError
from sharpminima.base.files import atomic_path, read_json, write_csv, write_json, write_text
from sharpminima.base.progress import Progress
from sharpminima.nets.evaluation import evaluate, gradient_norm, predict
from sharpminima.nets.models import build_model
from sharpminima.runtime.rng import derive_seed, generator


def test_seeds_depend_on_every_part_of_the_role() -> None:
    parts = [(0,), (1,), (0, "a"), (0, "a", 1), (0, "a", "1"), (0, "a1"), (0, 1, "a"), (0, "a", 1, 0)]
    seeds = [derive_seed(*part) for part in parts]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**63 for seed in seeds)
    # A golden value: results of old studies must not change their seeds.
    assert derive_seed(0, "init") == 2410301491197795094


def test_generators_leave_the_global_state_alone() -> None:
    before = torch.random.get_rng_state()
    a, b = (torch.rand(3, generator=generator(0, "x")) for _ in range(2))
    assert torch.equal(a, b)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_files_appear_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "file"
    write_text(path, "old")

    def fail() -> None:
        with atomic_path(path) as scratch:
            scratch.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert path.read_text() == "old"
    assert [p.name for p in path.parent.iterdir()] == ["file"]
    assert path.stat().st_mode & 0o444 == 0o444 & ~_umask()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_a_full_disk_is_one_clear_error(tmp_path: Path) -> None:
    def fill() -> None:
        with atomic_path(tmp_path / "file"):
            raise OSError(28, "No space left on device")

    with pytest.raises(SharpminimaError, match=r"file: cannot be written .* free some space"):
        fill()


def test_json_and_csv(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"b": 1.5, "a": [None, True]})
    assert read_json(tmp_path / "a.json") == {"b": 1.5, "a": [None, True]}
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(SharpminimaError, match=r"a.json: is not JSON"):
        read_json(tmp_path / "a.json")
    with pytest.raises(SharpminimaError, match="cannot be read"):
        read_json(tmp_path / "none.json")
    value = 0.1 + 0.2
    write_csv(tmp_path / "t.csv", [{"x": value, "y": None}], ["x", "y"])
    assert (tmp_path / "t.csv").read_text() == f"x,y\n{value!r},\n"
    write_csv(tmp_path / "t.csv.bz2", [{"x": value, "y": None}], ["x", "y"])
    assert bz2.decompress((tmp_path / "t.csv.bz2").read_bytes()) == (tmp_path / "t.csv").read_bytes()
    with pytest.raises(ValueError, match="a row has"):
        write_csv(tmp_path / "t.csv", [{"x": 1}], ["x", "y"])


def test_progress_is_plain_lines_without_a_terminal() -> None:
    stream = io.StringIO()
    progress = Progress("dense", stream=stream, every_s=0.0)
    progress(1, 3, loss=0.123456, sparsity=0.5)
    progress(2, 3, loss=0.1)
    progress.note("something")
    progress(3, 3, loss=0.05)
    lines = stream.getvalue().splitlines()
    assert lines[0] == "dense  epoch 1/3  loss 0.1235  sparsity 0.5"
    assert lines[1].startswith("dense  epoch 2/3  loss 0.1  at most 0 s left")
    assert lines[2] == "dense  something"
    assert lines[3] == "dense  epoch 3/3  loss 0.05"
    assert "\x1b" not in stream.getvalue()


def test_progress_prints_seldom() -> None:
    stream = io.StringIO()
    progress = Progress("dense", stream=stream, every_s=1000.0)
    for epoch in range(1, 100):
        progress(epoch, 100)
    progress(100, 100)
    assert len(stream.getvalue().splitlines()) == 2


def test_evaluate_against_one_pass() -> None:
    model = build_model("lenet300", seed=1).train()
    random = torch.Generator().manual_seed(0)
    images = torch.randn(53, 1, 28, 28, generator=random)
    labels = torch.randint(0, 10, (53,), generator=random)
    found = evaluate(model, images, labels, batch_size=10)
    assert model.training
    with torch.no_grad():
        logits = model(images)
    assert found.loss == pytest.approx(F.cross_entropy(logits, labels).item(), rel=1e-5)
    assert found.wrong == int((logits.argmax(1) != labels).sum())
    assert found.error_percent == pytest.approx(100 * found.wrong / 53)


def test_gradient_norm_counts_survivors_only() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    with torch.no_grad():
        model[1].weight.fill_(0.5)
        model[1].bias.fill_(0.1)
        model[1].weight[0, 1] = 0.0  # removed: its gradient does not count
    images = torch.randn(7, 1, 2, 2, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([0, 1, 1, 0, 1, 0, 0])
    F.cross_entropy(model(images), labels).backward()
    expected = torch.cat([(p.grad * (p != 0)).flatten() for p in model.parameters()]).norm().item()
    model.zero_grad()
    assert gradient_norm(model, images, labels, batch_size=3) == pytest.approx(expected, rel=1e-6)
    assert all(p.grad is None or not p.grad.any() for p in model.parameters())


MEASURES = {
    "evaluate": lambda model, x, y: evaluate(model, x, y).loss,
    "predict": lambda model, x, y: predict(model, x).tolist(),
    "gradient_norm": lambda model, x, y: gradient_norm(model, x, y),
}


@pytest.mark.parametrize("name", MEASURES)
def test_modes_come_back_also_after_errors(name: str) -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(8, 3)).train()
    model[1].eval()  # frozen
    images, labels = torch.randn(6, 1, 4, 4, generator=torch.Generator().manual_seed(0)), torch.arange(6) % 3
    MEASURES[name](model, images, labels)
    assert [module.training for module in model] == [True, False, True, True]
    with pytest.raises(RuntimeError):
        MEASURES[name](model, images[:, :, :3], labels)
    assert [module.training for module in model] == [True, False, True, True]
    assert model.training


class Merging(nn.Linear):
    """A layer that adds a correction to its weights for eval mode, as those of low rank do."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs)
        self.left, self.right = nn.Parameter(torch.randn(outputs, 2)), nn.Parameter(torch.randn(2, inputs))
        self.merged = False

    def train(self, mode: bool = True) -> "Merging":
        super().train(mode)
        if self.merged == mode:
            self.weight.data += (-1 if mode else 1) * (self.left @ self.right).data
            self.merged = not mode
        return self

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) + (0 if self.merged else x @ self.right.T @ self.left.T)


OTHERS = {
    "psp_entropy": lambda model, x, y: psp_entropy(model, x, y).mean,
    "trace": lambda model, x, y: hessian_trace(model, x, y, products=6).trace,
}


@pytest.mark.parametrize("name", [*MEASURES, *OTHERS])
def test_a_train_of_its_own_is_undone(name: str) -> None:
    measure = {**MEASURES, **OTHERS}[name]
    model = nn.Sequential(nn.Flatten(), Merging(16, 8), nn.ReLU(), nn.Linear(8, 3)).train()
    images, labels = torch.randn(6, 1, 4, 4, generator=torch.Generator().manual_seed(0)), torch.arange(6) % 3
    before = {key: value.clone() for key, value in model.state_dict().items()}
    plain = copy.deepcopy(model)
    found = measure(model, images, labels)
    assert not model[1].merged
    assert [module.training for module in model] == [True] * 4
    for key, value in model.state_dict().items():
        assert torch.equal(value, before[key])
    assert found == measure(plain.eval(), images, labels)


class Keeping(nn.Linear):
    """A layer that makes a buffer in its first pass, and one longer in each."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs)
        self.register_buffer("made", None)
        self.register_buffer("grown", torch.zeros(0))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.made = torch.ones(1) if self.made is None else self.made
        self.grown.resize_(len(self.grown) + 1)
        return super().forward(x)


@pytest.mark.parametrize("name", [*MEASURES, *OTHERS])
def test_buffers_that_are_made_or_grow_in_a_pass_come_back(name: str) -> None:
    model = nn.Sequential(nn.Flatten(), Keeping(16, 8), nn.ReLU(), nn.Linear(8, 3))
    images, labels = torch.randn(6, 1, 4, 4, generator=torch.Generator().manual_seed(0)), torch.arange(6) % 3
    grown = model[1].grown
    ({**MEASURES, **OTHERS}[name])(model, images, labels)
    assert model[1].made is None
    assert model[1].grown is grown
    assert grown.shape == (0,)


def test_a_net_without_eval_mode_is_named() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 3))
    images, labels = torch.randn(6, 1, 4, 4), torch.arange(6) % 3
    exported = torch.export.export(model, (images,)).module()
    with pytest.raises(AnalysisError, match=r"cannot be put in eval mode \(.*\); give the model that it was made from"):
        psp_entropy(exported, images, labels)


@pytest.mark.parametrize("name", MEASURES)
def test_modes_of_the_caller_change_no_measure(name: str) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 3))
    images, labels = torch.randn(6, 1, 4, 4, generator=torch.Generator().manual_seed(0)), torch.arange(6) % 3
    expected = MEASURES[name](model, images, labels)
    for mode in (torch.no_grad(), torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16)):
        with mode:
            assert MEASURES[name](model, images, labels) == expected
    with torch.inference_mode():
        made, images = copy.deepcopy(model), images.clone()
    assert MEASURES[name](made, images, labels) == expected


def test_losses_of_half_precision_are_summed_in_float32() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 3)).bfloat16()
    images, labels = (
        torch.randn(300, 1, 4, 4, generator=torch.Generator().manual_seed(0)).bfloat16(),
        torch.arange(300) % 3,
    )
    with torch.no_grad():
        expected = F.cross_entropy(model(images).double(), labels).item()
    assert evaluate(model, images, labels).loss == pytest.approx(expected, rel=1e-6)


def test_gradient_norm_of_frozen_idle_and_no_parameters() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.Linear(3, 2))
    images, labels = torch.randn(7, 1, 2, 2, generator=torch.Generator().manual_seed(0)), torch.arange(7) % 2
    expected = gradient_norm(model, images, labels)
    model[1].requires_grad_(False)
    model.register_parameter("idle", nn.Parameter(torch.ones(2)))
    assert gradient_norm(model, images, labels) == pytest.approx(expected, rel=1e-6)
    assert not model[1].weight.requires_grad
    model.register_forward_hook(lambda *call: call[-1].detach())
    with pytest.raises(AnalysisError, match="depends on no parameter"):
        gradient_norm(model, images, labels)


def test_no_module_that_writes_results_knows_the_version() -> None:
    # A new release gives old bytes: only the command line, and who imports the package, may ask for its number.
    package = Path(sharpminima.__file__).parent
    readers = {
        path.relative_to(package).parts[0].removesuffix(".py")
        for path in package.rglob("*.py")
        if re.search(r"(?<!torch\.)__version__", path.read_text())
    }
    assert readers == {"__init__", "cli"}


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "sharpminima", *arguments], capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("levels", [("1.5",), ("-0.5",), ("0.9", "0.5"), ("0.9", "0.9"), ("nan",)])
def test_levels_on_a_command_line_ascend_between_0_and_1(tmp_path: Path, levels: tuple[str, ...]) -> None:
    given = [argument for level in levels for argument in ("--level", level)]
    wrong = command("prune", "--data", "d", "--init", "i", "--out", str(tmp_path), *given)
    assert wrong.returncode == 2
    assert "given; shares in (0, 1) are needed, ascending" in " ".join(wrong.stderr.split())


def test_a_device_that_there_is_not_is_refused(tmp_path: Path) -> None:
    wrong = command("dense", "--data", "d", "--init", "i", "--out", str(tmp_path), "--device", "gpu")
    assert wrong.returncode == 2
    assert "'gpu' is not one of 'auto', 'cpu', 'cuda'" in " ".join(wrong.stderr.split())


@pytest.mark.slow
def test_the_command_line(tmp_path: Path) -> None:
    assert command("--version").stdout.strip() == sharpminima.__version__
    helped = command("--help")
    assert helped.returncode == 0
    for name in (
        "prepare",
        "init",
        "dense",
        "prune",
        "retrain",
        "psp",
        "hessian",
        "surface",
        "table",
        "figure",
        "paper",
    ):
        assert name in helped.stdout
    wrong = command(
        "init", "--data", str(tmp_path / "no"), "--model", "lenet300", "--seed", "0", "--out", str(tmp_path / "w")
    )
    assert wrong.returncode == 1
    assert wrong.stderr.startswith("error: ")
    assert len(wrong.stderr.splitlines()) == 1
