"""Trace and spectral density of the Hessian and other matrices of curvature, by random probes, with errors."""

import math
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from sharpminima.analysis._loss import Criterion, LossFunction
from sharpminima.analysis._results import Result
from sharpminima.analysis.hessian._lanczos import BUDGET, COLUMNS, Basis, Plan, check_room, plan_quadrature, quadrature
from sharpminima.analysis.hessian.operators import TOGETHER, CurvatureProduct, operator_of, signs_for
from sharpminima.base.errors import AnalysisError
from sharpminima.base.numbers import check_number, check_whole, optional
from sharpminima.base.stop import Stopped
from sharpminima.nets.modes import measuring
from sharpminima.nets.resume import ResumeFile, check_path, save_or_stop
from sharpminima.runtime.rng import generator

_REACH = 4.0  # widths of the kernel that the grid of a density goes beyond the nodes


@dataclass(frozen=True, eq=False, repr=False)
class HessianTrace(Result):
    """The trace of a Hessian, estimated."""

    drawn_by = "sharpminima.figures.results:trace"

    trace: float  # in units of the loss: nats of cross-entropy
    standard_error: float  # of the trace, from the spread of the probes; 0 where nothing was left to probe
    captured: float  # what of the trace lies in the sketched space and is known without error
    rank: int  # vectors of that space
    probes: int  # random vectors for the rest
    hvps: int  # Hessian-vector products
    space: str  # "all" parameters, the "surviving" ones, or layers that were "chosen"
    dimension: int  # parameters in that space
    scaling: str | None  # the coordinates, as of `hessian_eigenvalues`
    matrix: str = "hessian"  # of `MATRICES`
    unit: str = "nats"  # of the loss, where it is cross-entropy

    def _lines(self) -> tuple[str, str, str]:
        return (
            f"HessianTrace: over {self.dimension:,} parameters ({self.space})",
            f"trace {self.trace:.4g} +- {self.standard_error:.2g} {self.unit}",
            f"{self.captured:.4g} of it captured by {self.rank} vectors; {self.hvps} products",
        )

    def _columns(self) -> dict[str, Any]:
        return {
            "trace": [self.trace],
            "standard_error": [self.standard_error],
            "captured": [self.captured],
            "rank": [self.rank],
            "hvps": [self.hvps],
        }


@dataclass(frozen=True, eq=False, repr=False)
class HessianDensity(Result):
    """The spectral density of a Hessian, estimated: the share of its eigenvalues by their value."""

    drawn_by = "sharpminima.figures.results:density"

    nodes: Tensor  # float64 [probes, steps]; eigenvalues as each probe sees them, ascending; nats
    # float64 [probes, steps]; the share of the spectrum at each node; a probe's sum is 1. 0 at a node that is left over
    # where a probe sees fewer eigenvalues than it makes steps, which says nothing of the spectrum.
    weights: Tensor
    grid: Tensor  # float64 [points]; eigenvalues at which the density is given
    density: Tensor  # float64 [points]; share of the eigenvalues per nat, smoothed; its integral is 1
    standard_error: Tensor  # float64 [points]; of the density, from the spread of the probes
    sigma: float  # standard deviation of the Gaussian that smooths, nats
    hvps: int  # Hessian-vector products
    space: str  # "all" parameters, the "surviving" ones, or layers that were "chosen"
    dimension: int  # parameters in that space
    scaling: str | None  # the coordinates, as of `hessian_eigenvalues`
    matrix: str = "hessian"  # of `MATRICES`
    unit: str = "nats"  # of the loss, where it is cross-entropy

    def _lines(self) -> tuple[str, str, str]:
        lowest, highest = _range(self.nodes, self.weights)
        return (
            f"HessianDensity: over {self.dimension:,} parameters ({self.space})",
            f"eigenvalues seen from {lowest:.4g} to {highest:.4g} {self.unit}",
            f"{len(self.nodes)} probes of {self.nodes.shape[1]} steps, smoothed by {self.sigma:.2g} {self.unit}; "
            f"{self.hvps} products",
        )

    def _columns(self) -> dict[str, Any]:
        return {"eigenvalue": self.grid, "density": self.density, "standard_error": self.standard_error}


@measuring(gradients=True)
def hessian_trace(
    model: nn.Module,
    images: Any,
    labels: Any = None,
    *,
    matrix: str = "hessian",
    criterion: Criterion | None = None,
    loss_fn: LossFunction | None = None,
    products: int = 60,
    masks: Mapping[str, Tensor] | None = None,
    parameters: str | Iterable[str] | None = None,
    seed: int = 0,
    scaling: str | None = None,
    dtype: torch.dtype | None = None,
    batch_size: int | None = None,
    memory: float | None = None,
    progress: Callable[[int, int], None] | None = None,
    resume: str | os.PathLike[str] | None = None,
) -> HessianTrace:
    """The trace of the Hessian of the mean loss on ``images`` (cross-entropy, or yours), by Hutch++.

    Meyer, Musco, Musco, Woodruff, "Hutch++: optimal stochastic trace estimation", 2021: a third of the products
    sketches the dominant eigenspace, a third takes its trace exactly, a third estimates the rest with random signs.
    The estimate is unbiased. With as many products in a third as parameters, it is exact.

    Args:
        model, images, labels, matrix, criterion, loss_fn, masks, parameters, scaling, dtype, batch_size: as for
            `hessian_eigenvalues`.
        products: Hessian-vector products in all, at least 6.
        seed: of the sketch and the probes.
        memory: bytes up to which the sketch is made at once; above them, its vectors are made one by one and kept in
            float32. None: 1 GiB.
        progress: called with (products done, products in all).
        resume: a file for the products so far, which then stay in memory too, written every minute and on SIGTERM, and
            removed at the end. A call with the same arguments goes on from it, to the same bits; a file of other
            arguments is ignored.

    Memory: products / 3 vectors of the space's dimension in float64, three times, up to ``memory`` bytes; above, once
    in float32, and about 15 in float64. And a batch's graph.

    Raises:
        AnalysisError: fewer than 6 products; the device has no room for the sketch; else as `hessian_eigenvalues`.
        CheckpointError: ``resume`` is a file of others, a folder, ...
        Stopped: SIGTERM came (where `sharpminima.base.stop` catches it).

    >>> net = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    >>> _ = [nn.init.zeros_(parameter) for parameter in net.parameters()]
    >>> trace = hessian_trace(net, torch.ones(2, 1, 2, 2), torch.tensor([0, 1]))
    >>> round(trace.trace, 6)  # one eigenvalue is not 0
    2.5
    """
    products, seed = check_whole("products", products), check_whole("seed", seed)
    memory = optional(check_number, "memory", memory, least=0)
    batch_size = optional(check_whole, "batch_size", batch_size, least=1)
    if resume is not None:
        check_path(resume)
    if products < 6:
        raise AnalysisError(f"products is {products}; give at least 6, of which two probe the rest")
    product = operator_of(matrix)(
        model,
        images,
        labels,
        criterion=criterion,
        loss_fn=loss_fn,
        masks=masks,
        parameters=parameters,
        scaling=scaling,
        dtype=dtype,
        batch_size=batch_size,
    )
    draws = generator(seed, "hessian-trace")
    rank = min(products // 3, product.dimension)
    probes = products // 3 if rank < product.dimension else 0
    whole = 24 * rank * product.dimension <= (BUDGET if memory is None else memory)
    file = None
    if resume is not None:
        facts = {"of": "hessian_trace", "products": products, "seed": seed, "dtype": str(dtype)}
        sizes = {"batch_size": batch_size, "whole": whole}
        file = ResumeFile(resume, fingerprint=product.fingerprint(model, masks, {**facts, **sizes}))
    kept = _Kept(product, file, None if progress is None else partial(_called, progress, 2 * rank + probes))
    captured, rest = (_at_once if whole else _one_by_one)(kept, rank, probes, draws)
    if file is not None:
        file.remove()
    return HessianTrace(
        trace=captured + (float(rest.mean()) if probes else 0.0),
        standard_error=float(rest.std()) / math.sqrt(probes) if probes else 0.0,
        captured=captured,
        rank=rank,
        probes=probes,
        hvps=kept.done,
        space=product.space,
        dimension=product.dimension,
        scaling=scaling,
        matrix=matrix,
        unit=product.unit,
    )


@measuring(gradients=True)
def hessian_density(
    model: nn.Module,
    images: Any,
    labels: Any = None,
    *,
    matrix: str = "hessian",
    criterion: Criterion | None = None,
    loss_fn: LossFunction | None = None,
    probes: int = 8,
    steps: int = 40,
    sigma: float | None = None,
    points: int = 1000,
    masks: Mapping[str, Tensor] | None = None,
    parameters: str | Iterable[str] | None = None,
    seed: int = 0,
    scaling: str | None = None,
    dtype: torch.dtype | None = None,
    batch_size: int | None = None,
    memory: float | None = None,
    progress: Callable[[int, int], None] | None = None,
    resume: str | os.PathLike[str] | None = None,
) -> HessianDensity:
    """The spectral density of the Hessian of the mean loss on ``images``, by stochastic Lanczos quadrature.

    Ubaru, Chen, Saad, "Fast estimation of tr(f(A)) via stochastic Lanczos quadrature", 2017; for nets: Ghorbani,
    Krishnan, Xiao, "An investigation into neural net optimization via Hessian eigenvalue density", 2019. The mean
    over probes of the sum of weights * nodes^j is an unbiased estimate of tr(H^j) / dimension for j < 2 steps.

    Args:
        model, images, labels, matrix, criterion, loss_fn, masks, parameters, scaling, dtype, batch_size: as for
            `hessian_eigenvalues`.
        probes: random sign vectors, at least 2.
        steps: of Lanczos for each probe: products, and nodes. At most the dimension.
        sigma: standard deviation of the Gaussian that smooths the density, in nats; None: a hundredth of the range
            of the nodes that have weight, or of their size where they are all one.
        points: of the grid, which is even and reaches 4 sigma beyond those nodes at both ends.
        seed: of the probes.
        memory: bytes of the Lanczos bases; None: 1 GiB, or what one probe takes in float32.
        progress: called with (probes done, probes in all).
        resume: a file for the finished probes, written after each group of them, and one beside it for the steps of a
            group that SIGTERM stopped; both are removed at the end. A call with the same arguments goes on from them,
            to the same bits; files of other arguments are ignored.

    Memory: 4 (steps + 3) vectors of the space's dimension in float64 (LeNet-5, 40 steps: 590 MB) if they fit into
    ``memory``; else of as many probes at once as fit in float32. And a batch's graph.

    Raises:
        AnalysisError: fewer than 2 probes, 1 step or 2 points; sigma is not positive; a probe does not fit into
            ``memory``, or the device has no room for it; else as `hessian_eigenvalues`.

    >>> net = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    >>> _ = [nn.init.zeros_(parameter) for parameter in net.parameters()]
    >>> density = hessian_density(net, torch.ones(2, 1, 2, 2), torch.tensor([0, 1]), steps=2)
    >>> density.nodes.shape, round(float(density.nodes.max()), 4)  # one eigenvalue is not 0
    (torch.Size([8, 2]), 2.5)
    """
    probes, steps = check_whole("probes", probes, least=2), check_whole("steps", steps, least=1)
    points, seed = check_whole("points", points, least=2), check_whole("seed", seed)
    sigma, memory = optional(check_number, "sigma", sigma), optional(check_number, "memory", memory, least=0)
    batch_size = optional(check_whole, "batch_size", batch_size, least=1)
    if resume is not None:
        check_path(resume)
    if sigma is not None and not sigma > 0:
        raise AnalysisError(f"sigma is {sigma}; give a positive one")
    product = operator_of(matrix)(
        model,
        images,
        labels,
        criterion=criterion,
        loss_fn=loss_fn,
        masks=masks,
        parameters=parameters,
        scaling=scaling,
        dtype=dtype,
        batch_size=batch_size,
    )
    draws = generator(seed, "hessian-density")
    rounding = 16 * product.rounding
    together, held = plan_quadrature(
        product.dimension, steps, min(TOGETHER, probes), rounding=rounding, memory=memory, device=product.device
    )
    file = None
    if resume is not None:
        facts = {"of": "hessian_density", "probes": probes, "steps": steps, "seed": seed, "dtype": str(dtype)}
        sizes = {"batch_size": batch_size, "together": together, "held": str(held)}
        file = ResumeFile(resume, fingerprint=product.fingerprint(model, masks, {**facts, **sizes}))
    finished: list[dict[str, Any]] = [] if file is None else file.load() or []
    calls = finished[-1]["calls"] if finished else 0
    for number, first in enumerate(range(0, probes, together)):
        starts = signs_for(min(together, probes - first), product, draws) / math.sqrt(product.dimension)
        if number < len(finished):
            continue
        steps_file = None if file is None else file.beside(f"steps-{number}")
        nodes, weights, made = quadrature(product, starts, steps, rounding=rounding, dtype=held, resume=steps_file)
        calls += made * len(starts)
        finished.append({"nodes": nodes.cpu(), "weights": weights.cpu(), "calls": calls})
        if progress:
            progress(first + len(starts), probes)
        save_or_stop(file, lambda: finished)
    if file is not None:
        file.remove()
    nodes, weights = (torch.cat([part[name] for part in finished]) for name in ("nodes", "weights"))
    lowest, highest = _range(nodes, weights)
    if sigma is None:
        # A spectrum of one value has no range but rounding, one of zeros no scale either.
        scale = max(abs(lowest), abs(highest))
        sigma = (highest - lowest if highest - lowest > rounding * scale else scale or 1.0) / 100
    grid = torch.linspace(lowest - _REACH * sigma, highest + _REACH * sigma, points, dtype=torch.float64)
    distances = (grid[:, None, None] - nodes) / sigma
    kernels = torch.exp(-distances.square() / 2) / (sigma * math.sqrt(2 * math.pi))
    densities = (kernels * weights).sum(dim=2)
    return HessianDensity(
        nodes=nodes,
        weights=weights,
        grid=grid,
        density=densities.mean(dim=1),
        standard_error=densities.std(dim=1) / math.sqrt(probes),
        sigma=sigma,
        hvps=finished[-1]["calls"],
        space=product.space,
        dimension=product.dimension,
        scaling=scaling,
        matrix=matrix,
        unit=product.unit,
    )


def _range(nodes: Tensor, weights: Tensor) -> tuple[float, float]:
    """The lowest and the highest node that has weight."""
    seen = nodes[weights > 0]
    return float(seen.min()), float(seen.max())


class _Kept:
    """The products that a trace is made of, in a resume file where there is one, in the order in which they are asked.

    Args:
        progress: called with the products done so far.
    """

    def __init__(
        self, product: CurvatureProduct, file: ResumeFile | None, progress: Callable[[int], None] | None
    ) -> None:
        self.product = product
        self.done = 0
        self._file, self._progress = file, progress
        self._parts: list[Tensor] = [] if file is None else file.load() or []
        self._next = 0

    def __call__(self, block: Tensor, keep: Callable[[Tensor], Tensor] = lambda images: images) -> Tensor:
        """What is kept of the products of vectors [b, dimension], `TOGETHER` of them at once: by default all."""
        parts = [self._part(part, keep) for part in block.split(TOGETHER)]
        return torch.cat(parts) if len(parts) > 1 else parts[0]

    def _part(self, part: Tensor, keep: Callable[[Tensor], Tensor]) -> Tensor:
        self.done += len(part)
        self._next += 1
        if self._next <= len(self._parts):
            # A copy is aligned in memory, which BLAS's bits depend on.
            return self._parts[self._next - 1].clone().to(self.product.device)
        try:
            images = keep(self.product(part))
        except Stopped:
            if self._file is not None:
                self._file.save(self._parts)
            raise
        if self._file is not None:
            self._parts.append(images.cpu())
            if self._file.due():
                self._file.save(self._parts)
        if self._progress:
            self._progress(self.done)
        return images


def _called(progress: Callable[[int, int], None], most: int, done: int) -> None:
    progress(done, most)


def _at_once(kept: _Kept, rank: int, probes: int, draws: torch.Generator) -> tuple[float, Tensor]:
    """What of the trace a sketch of ``rank`` vectors captures, and what each probe finds of the rest: [probes]."""
    basis = torch.linalg.qr(kept(signs_for(rank, kept.product, draws)).T)[0].T
    captured = float((basis * kept(basis)).sum())
    if not probes:
        return captured, torch.zeros(0, dtype=torch.float64)
    signs = signs_for(probes, kept.product, draws)
    signs = signs - (signs @ basis.T) @ basis
    return captured, (signs * kept(signs)).sum(dim=1)


def _one_by_one(kept: _Kept, rank: int, probes: int, draws: torch.Generator) -> tuple[float, Tensor]:
    """The same with one vector after another; only the sketch's basis is kept, in float32 where the products are."""
    product = kept.product
    dtype = torch.float32 if product.rounding >= torch.finfo(torch.float32).eps else torch.float64
    check_room(
        rank * product.dimension * dtype.itemsize, f"a sketch of {rank} vectors", "fewer products", product.device
    )
    basis = Basis(Plan(rank, dtype, COLUMNS), product.dimension, product.device)
    for _ in range(rank):
        image = kept(signs_for(1, product, draws), lambda image: image.to(dtype))
        length = image.norm()
        image = basis.orthogonalised(image)
        if image.norm() > 16 * product.rounding * length:  # else it adds nothing to the space
            basis.add(image / image.norm())
    captured = 0.0
    for number in range(basis.filled):
        row = basis.row(number)
        captured += float(kept(row, partial(_along, row)) / row.square().sum())
    rest = torch.zeros(probes, dtype=torch.float64)
    for number in range(probes):
        signs = basis.orthogonalised(signs_for(1, product, draws).to(dtype))
        rest[number] = kept(signs, partial(_along, signs))[0]
    return captured, rest


def _along(vectors: Tensor, images: Tensor) -> Tensor:
    """The scalar product of one vector with its image: float64 [1]."""
    return (vectors * images).sum()[None]
