"""Hessian-vector products and the top-5 eigenvalues: ours against the usual ways, on LeNet-5 at LOBSTER's masks."""

import importlib.util
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.sparse.linalg import LinearOperator, eigsh
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks._pruned import MASKS, Pruned, described, load_pruned, timed
from sharpminima.analysis import HessianVectorProduct, hessian_eigenvalues
from sharpminima.data.prepare import DEFAULT_ROOT
from sharpminima.nets.masks import Masks
from sharpminima.runtime.rng import generator

TOLERANCE = 1e-3  # of the eigenvalues, relative
STEPS = 20  # of power iteration, the paper's
WANTED = 5


def hessian(
    level_name: str = "98",
    *,
    images: int = 10_000,
    product_images: int = 1_000,
    repeats: int = 5,
    data: Path = DEFAULT_ROOT,
    masks: Path = MASKS,
    device: str = "cpu",
    threads: int = 1,
) -> list[dict[str, Any]]:
    """Rows of both tables: `_product_rows`, on ``product_images``, and `_eigenvalue_rows`, on ``images``."""
    options: dict[str, Any] = {"data": data, "masks": masks, "device": device, "threads": threads}
    rows = _product_rows(load_pruned(level_name, product_images, **options), repeats)
    rows += _eigenvalue_rows(load_pruned(level_name, images, **options))
    return [{"level": level_name, "device": device, "threads": threads, **row} for row in rows]


# Products ---------------------------------------------------------------------------------------------------------


def _product_rows(net: Pruned, repeats: int) -> list[dict[str, Any]]:
    """Seconds of a product with a vector over all parameters; the ways take turns, to and fro."""
    images, labels = net.split.images, net.split.labels
    ours = HessianVectorProduct(net.model, images, labels)
    exact = HessianVectorProduct(net.model.double(), images.double(), labels)
    vectors = torch.randn(4, ours.dimension, generator=generator(0, "benchmark", "vectors")).to(images.device)
    expected = exact(vectors)
    net.model.float()
    ways: dict[str, tuple[int, Callable[[], Tensor]]] = {
        "double backward, batches of 500": (1, lambda: _double_backward(net, vectors[0], 500)),
        "ours, 1 vector": (1, lambda: ours(vectors[:1])),
        "ours, 4 vectors": (4, lambda: ours(vectors)),
    }
    absent = importlib.util.find_spec("curvlinops") is None
    if not absent:
        ways |= _curvlinops(net, vectors)
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    errors = {}
    for number in range(repeats + 1):  # the first warms up
        for name in list(ways) if number % 2 else reversed(ways):
            count, way = ways[name]
            taken, products = timed(way)
            seconds[name].append(taken / count)
            errors[name] = float((products - expected[: len(products)]).norm() / expected[: len(products)].norm())
    rows = [
        {
            "table": "product",
            "way": name,
            "images": len(labels),
            "synthetic": net.synthetic,
            "seconds": min(taken[1:]),
            "median_seconds": statistics.median(taken[1:]),
            "relative_error": errors[name],
        }
        for name, taken in seconds.items()
    ]
    if absent:
        rows.append({"table": "product", "way": "curvlinops", "images": len(labels), "synthetic": net.synthetic})
    return rows


def _double_backward(net: Pruned, vector: Tensor, batch_size: int) -> Tensor:
    """The usual way: the gradient of the gradient's slope along the vector; [1, P]."""
    parameters = list(net.model.parameters())
    direction = [
        part.view_as(p) for part, p in zip(vector.split([p.numel() for p in parameters]), parameters, strict=True)
    ]
    total = torch.zeros_like(vector)
    for batch, target in zip(net.split.images.split(batch_size), net.split.labels.split(batch_size), strict=True):
        loss = F.cross_entropy(net.model(batch), target, reduction="sum")
        gradients = torch.autograd.grad(loss, parameters, create_graph=True)
        slope = sum((g * d).sum() for g, d in zip(gradients, direction, strict=True))
        total += torch.cat([part.flatten() for part in torch.autograd.grad(slope, parameters)])
    return total[None] / len(net.split.labels)


def _curvlinops(net: Pruned, vectors: Tensor) -> dict[str, tuple[int, Callable[[], Tensor]]]:
    """curvlinops's operator."""
    from curvlinops import HessianLinearOperator

    batches = list(zip(net.split.images.split(125), net.split.labels.split(125), strict=True))
    operator = HessianLinearOperator(
        net.model, nn.CrossEntropyLoss(), list(net.model.parameters()), batches, check_deterministic=False
    )
    return {
        "curvlinops, 1 vector": (1, lambda: (operator @ vectors[0]).detach()[None]),
        "curvlinops, 4 vectors": (4, lambda: (operator @ vectors.T).detach().T),
    }


# Eigenvalues ------------------------------------------------------------------------------------------------------


def _eigenvalue_rows(net: Pruned) -> list[dict[str, Any]]:
    """Time, products and the worst residual of the top-5 eigenvalues in both spaces, all with the same operator."""
    rows = []
    images, labels = net.split.images, net.split.labels
    for masks in (None, net.masks):
        operator = HessianVectorProduct(net.model, images, labels, masks=masks)
        ways: dict[str, Callable[[], _Eigenpairs]] = {
            "ours": lambda masks=masks, operator=operator: _ours(net, operator, masks),
            f"scipy eigsh, tol {TOLERANCE:g}": lambda operator=operator: _arpack(operator),
            f"power iteration, {STEPS} steps": lambda operator=operator: _power_iteration(operator),
        }
        for name, way in ways.items():
            calls, spent = operator.calls, time.process_time()
            seconds, (values, vectors, hvps) = timed(way)
            spent = time.process_time() - spent
            hvps = hvps or operator.calls - calls
            residuals = (operator(vectors) - values[:, None] * vectors).norm(dim=1)
            rows.append(
                {
                    "table": "eigenvalues",
                    "way": name,
                    "space": operator.space,
                    "dimension": operator.dimension,
                    "images": len(labels),
                    "synthetic": net.synthetic,
                    "seconds": seconds,
                    "cpu_seconds": spent,
                    "hvps": hvps,
                    "relative_residual": float((residuals / values.abs()).max()),
                    "eigenvalues": values.tolist(),
                }
            )
            print(_line(rows[-1]), file=sys.stderr, flush=True)
    return rows


_Eigenpairs = tuple[Tensor, Tensor, int]  # eigenvalues [k], eigenvectors [k, dimension], products (0: as counted)


def _ours(net: Pruned, operator: HessianVectorProduct, masks: Masks | None) -> _Eigenpairs:
    # Relative to the largest of them, the residuals of the others must be smaller.
    spectrum = hessian_eigenvalues(
        net.model, net.split.images, net.split.labels, k=WANTED, masks=masks, tol=0.3 * TOLERANCE
    )
    vectors = spectrum.eigenvectors.to(operator.device)
    kept = operator.expand(torch.ones(operator.dimension, device=operator.device)) > 0
    return spectrum.eigenvalues.to(operator.device), vectors[:, kept], spectrum.hvps


def _arpack(operator: HessianVectorProduct) -> _Eigenpairs:
    def product(vector: np.ndarray) -> np.ndarray:
        return operator(torch.from_numpy(vector.reshape(-1)).to(operator.device)).cpu().numpy()

    shape = (operator.dimension, operator.dimension)
    start = torch.randn(operator.dimension, generator=generator(0, "benchmark", "eigsh"), dtype=torch.float64)
    values, vectors = eigsh(
        LinearOperator(shape, matvec=product, dtype=np.float64), k=WANTED, which="LA", tol=TOLERANCE, v0=start.numpy()
    )
    order = np.argsort(values)[::-1].copy()
    return (
        torch.from_numpy(values[order]).to(operator.device),
        torch.from_numpy(vectors.T[order]).to(operator.device),
        0,
    )


def _power_iteration(operator: HessianVectorProduct) -> _Eigenpairs:
    """Each vector is multiplied `STEPS` times, and kept orthogonal to those found before."""
    draws = generator(0, "benchmark", "power")
    vectors: list[Tensor] = []
    values = []
    for _ in range(WANTED):
        vector = torch.randn(operator.dimension, generator=draws, dtype=torch.float64).to(operator.device)
        for _ in range(STEPS):
            for other in vectors:
                vector = vector - (other @ vector) * other
            vector = vector / vector.norm()
            image = operator(vector)
            value, previous, vector = vector @ image, vector, image
        vectors.append(previous)
        values.append(value)
    return torch.stack(values), torch.stack(vectors), 0


# Output -----------------------------------------------------------------------------------------------------------


def _line(row: dict[str, Any]) -> str:
    if "seconds" not in row:
        return f"{row['way']:34} not installed (pip install .[bench]); not measured"
    if row["table"] == "product":
        return (
            f"{row['way']:34} {row['seconds']:8.3f} s (median {row['median_seconds']:.3f})"
            f"  relative error {row['relative_error']:.0e}"
        )
    values = " ".join(f"{value:.4g}" for value in row["eigenvalues"])
    return (
        f"{row['way']:28} {row['space']:9} {row['seconds']:8.1f} s (CPU {row['cpu_seconds']:.1f})"
        f"  {row['hvps']:4} products  residual {row['relative_residual']:.1e} |lambda|  [{values}]"
    )


def render(rows: Sequence[dict[str, Any]]) -> str:
    """The rows as text."""
    lines = []
    for table, title in (
        ("product", "Hessian-vector product over all parameters, seconds a vector"),
        ("eigenvalues", f"Top-{WANTED} eigenvalues, worst residual of them"),
    ):
        chosen = [row for row in rows if row["table"] == table]
        if chosen:
            lines += ["", f"{title}: {described(chosen[0])}"]
            lines += [f"  {_line(row)}" for row in chosen]
    return "\n".join(lines)
