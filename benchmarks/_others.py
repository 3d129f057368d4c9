"""Top-5 eigenvalues by other libraries and by ours, each in a process of its own: CPU seconds, residual, memory."""

import gc
import importlib.util
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks._machine import peak_memory
from benchmarks._setup import RECIPES, Setup, find_root
from sharpminima.analysis import HessianVectorProduct, hessian_eigenvalues
from sharpminima.nets.models import build_model
from sharpminima.runtime.memory import give_back_memory
from sharpminima.runtime.rng import generator

WANTED = 5
TOLERANCE = 1e-3  # of residuals, relative to the largest eigenvalue
BATCH = 125  # images a pass, of the others and of residuals
# Of ours, within what ARPACK takes: images a pass, bytes of the basis (of ResNet-18 24 vectors), and of graphs that are
# kept, of half of LeNet-5's 500 images and of all of ResNet-18's.
OUR_OPTIONS = {
    "lenet5": {"batch_size": 25, "graphs": 45e6},
    "resnet18": {"batch_size": 50, "memory": 1.1e9, "graphs": 2.4e9},
}
WARM = 2  # images of the call before the one that counts, which imports and compiles
POWER_STEPS = 20  # a vector: the paper's; PyHessian's default of 100 takes five times as long
NETS = {"lenet5": "lenet5", "resnet18": "resnet32"}  # net -> the recipe whose images it takes
OURS = "ours"

_Pairs = tuple[Tensor, Tensor, int | None]  # eigenvalues [k], vectors [k, P], products (None: not counted)
# Of hessian-eigenthings, which makes all that it is asked for; 30 did not do for LeNet-5, and each that fails costs its
# whole time.
_STEPS = (40, 50, 60, 80)
_Batches = list[tuple[Tensor, Tensor]]


class _Block(nn.Module):
    def __init__(self, before: int, width: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(before, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU())
        self.second = nn.Sequential(nn.Conv2d(width, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width))
        self.short: nn.Module = nn.Identity()
        if stride > 1 or before != width:
            self.short = nn.Sequential(nn.Conv2d(before, width, 1, stride, bias=False), nn.BatchNorm2d(width))

    def forward(self, features: Tensor) -> Tensor:
        return torch.relu(self.second(self.first(features)) + self.short(features))


def _resnet18() -> nn.Module:
    """ResNet-18 as it is used on CIFAR-10: 11,173,962 parameters, a first convolution of 3 x 3 without pooling."""
    layers: list[nn.Module] = [nn.Conv2d(3, 64, 3, 1, 1, bias=False), nn.BatchNorm2d(64), nn.ReLU()]
    before = 64
    for width in (64, 128, 256, 512):
        layers += [_Block(before, width, 1 if width == 64 else 2), _Block(width, width, 1)]
        before = width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 10))


def build(net: str) -> nn.Module:
    """The net, freshly initialised."""
    if net == "lenet5":
        return build_model("lenet5", seed=0).eval()
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        return _resnet18().eval()


# Ways --------------------------------------------------------------------------------------------------------------


def _ours(net: nn.Module, batches: _Batches, **options: Any) -> _Pairs:
    images, labels = (torch.cat(part) for part in zip(*batches, strict=True))
    found = hessian_eigenvalues(net, images, labels, k=WANTED, tol=TOLERANCE, **options)
    return found.eigenvalues, found.eigenvectors, found.hvps


def _curvlinops(net: nn.Module, batches: _Batches) -> _Pairs:
    from curvlinops import HessianLinearOperator
    from scipy.sparse.linalg import LinearOperator, eigsh

    operator = HessianLinearOperator(
        net, nn.CrossEntropyLoss(), list(net.parameters()), batches, check_deterministic=False
    ).to_scipy()
    calls = 0

    def product(vector: np.ndarray) -> np.ndarray:
        nonlocal calls
        calls += 1
        return operator @ vector.reshape(-1)

    counted = LinearOperator(operator.shape, matvec=product, dtype=operator.dtype)
    # The start of ours: how many products it takes depends on it by a fifth.
    start = torch.randn(1, operator.shape[0], generator=generator(0, "hessian"), dtype=torch.float64)[0].float().numpy()
    values, vectors = eigsh(counted, k=WANTED, which="LA", tol=TOLERANCE, v0=start)
    order = np.argsort(values)[::-1].copy()
    return torch.from_numpy(values[order]).double(), torch.from_numpy(vectors.T[order]), calls


def _pyhessian(net: nn.Module, batches: _Batches) -> _Pairs:
    from pyhessian import hessian

    torch.manual_seed(0)
    found = hessian(net, nn.CrossEntropyLoss(), dataloader=batches, cuda=False)
    values, vectors = found.eigenvalues(maxIter=POWER_STEPS, tol=TOLERANCE, top_n=WANTED)
    flat = torch.stack([torch.cat([part.detach().flatten() for part in vector]) for vector in vectors])
    return torch.tensor(values, dtype=torch.float64), flat, None


def _eigenthings(net: nn.Module, batches: _Batches, steps: int = _STEPS[-1]) -> _Pairs:
    from hessian_eigenthings import HessianOperator, lanczos, supervised_loss

    operator = HessianOperator(net, batches, supervised_loss(nn.CrossEntropyLoss()))
    found = lanczos(operator, k=WANTED, max_iter=steps, tol=TOLERANCE, which="LA", seed=0, reorthogonalize=True)
    values = torch.as_tensor(found.eigenvalues).double()
    vectors = torch.as_tensor(found.eigenvectors)
    vectors = vectors if vectors.shape[0] == WANTED else vectors.T
    order = values.argsort(descending=True)
    return values[order], vectors[order], steps


WAYS: dict[str, tuple[str, Callable[[nn.Module, _Batches], _Pairs]]] = {
    OURS: ("sharpminima", _ours),
    "curvlinops + ARPACK": ("curvlinops", _curvlinops),
    "hessian-eigenthings": ("hessian_eigenthings", _eigenthings),
    "PyHessian": ("pyhessian", _pyhessian),
}


# Measuring ---------------------------------------------------------------------------------------------------------


def others(
    nets: Sequence[str] = tuple(NETS), *, images: int = 500, data: Path, threads: int = 1
) -> Iterator[dict[str, Any]]:
    """A row for each net and way; a way that is not installed says so."""
    for net in nets:
        for way, (package, _) in WAYS.items():
            common = {"net": net, "way": way, "images": images, "threads": threads}
            if importlib.util.find_spec(package) is None:
                yield common
                continue
            command = [sys.executable, "-m", "benchmarks._others", net, way, str(images), str(data), str(threads)]
            run = subprocess.run(command, capture_output=True, text=True)
            if run.returncode:
                raise RuntimeError(f"{way} on {net} failed: {run.stderr.strip().splitlines()[-1]}")
            yield common | json.loads(run.stdout.splitlines()[-1])


def _measure(net_name: str, way: str, images: int, data: Path, threads: int) -> dict[str, Any]:
    torch.set_num_threads(threads)  # and no `configure`, which lets the process keep what is freed
    recipe = RECIPES[NETS[net_name]]
    root = find_root(recipe.dataset, data)
    dataset = Setup(NETS[net_name], recipe, root, "cpu", threads).images()
    split = dataset.subset("train", images, generator(0, "benchmark", "images"), device=torch.device("cpu"))
    pixels, labels = split.images, split.labels
    net = build(net_name)
    del dataset
    batches = list(zip(pixels.split(BATCH), labels.split(BATCH), strict=True))
    run: Callable[..., _Pairs] = WAYS[way][1]
    ways = [run]
    if run is _ours:
        ways = [partial(run, **OUR_OPTIONS[net_name])]
    elif run is _eigenthings:
        ways = [partial(run, steps=steps) for steps in _STEPS]
    started = time.process_time()
    ways[0](net, [(pixels[:WARM], labels[:WARM])])
    first = time.process_time() - started
    for run in ways:  # of several, the first that is good enough counts alone
        gc.collect()
        give_back_memory()  # what the call before has left to the allocator would count for nothing
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew, from what is held now
        before = peak_memory()["peak_memory_mib"]
        spent, started = time.process_time(), time.perf_counter()
        values, vectors, calls = run(net, batches)
        spent, wall = time.process_time() - spent, time.perf_counter() - started
        peak = peak_memory()["peak_memory_mib"] - before
        residual = _residual(net, pixels, labels, values, vectors)
        if residual <= TOLERANCE:
            break
    return {
        "synthetic": root is None,
        "cpu_seconds": spent,
        "seconds": wall,
        "first_cpu_seconds": first,
        "memory_mib": peak,
        "residual": residual,
        "hvps": calls,
        "eigenvalues": values.tolist(),
    }


def _residual(net: nn.Module, images: Tensor, labels: Tensor, values: Tensor, vectors: Tensor) -> float:
    """The largest residual, relative to the largest eigenvalue."""
    product = HessianVectorProduct(net, images, labels, batch_size=BATCH)
    found = 0.0
    for value, vector in zip(values.tolist(), vectors.double(), strict=True):
        vector = vector / vector.norm()
        found = max(found, float((product(vector) - value * vector).norm()))
    return found / float(values.abs().max())


def render(rows: Sequence[dict[str, Any]]) -> str:
    """The rows as text; ratios are to ours."""
    lines = []
    for net in dict.fromkeys(row["net"] for row in rows):
        chosen = [row for row in rows if row["net"] == net]
        ours = next(row for row in chosen if row["way"] == OURS)
        kind = "SYNTHETIC images" if ours["synthetic"] else f"images of {RECIPES[NETS[net]].dataset}"
        lines += ["", f"Top-{WANTED} eigenvalues of {net}, {ours['images']} {kind}, {ours['threads']} threads"]
        for row in chosen:
            if "cpu_seconds" not in row:
                lines.append(f"  {row['way']:22} not installed (pip install .[bench]); not measured")
                continue
            ratio, memory = (row[name] / ours[name] for name in ("cpu_seconds", "memory_mib"))
            lines.append(
                f"  {row['way']:22} {row['cpu_seconds']:8.1f} CPU s ({ratio:.2f} x)  {row['memory_mib']:7.0f} MiB "
                f"({memory:.2f} x)  residual {row['residual']:.1e}  {row['hvps'] or '?'} products"
            )
    return "\n".join(lines)


if __name__ == "__main__":
    _net, _way, _images, _data, _threads = sys.argv[1:]
    print(json.dumps(_measure(_net, _way, int(_images), Path(_data), int(_threads))))
