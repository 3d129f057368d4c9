"""Trace and spectral density of the Hessian of a net's mean cross-entropy, both by random probes, with errors."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sharpminima.analysis._inputs import check_number, check_whole, given
from sharpminima.analysis.hessian._lanczos import quadrature
from sharpminima.analysis.hessian.eigenvalues import TOGETHER, HessianVectorProduct
from sharpminima.base.errors import AnalysisError
from sharpminima.nets.modes import measuring
from sharpminima.runtime.rng import generator

_REACH = 4.0  # widths of the kernel that the grid of a density goes beyond the nodes


@dataclass(frozen=True, eq=False)
class HessianTrace:
    """The trace of a Hessian, estimated."""

    trace: float  # nats
    standard_error: float  # of the trace, from the spread of the probes; 0 where nothing was left to probe
    captured: float  # what of the trace lies in the sketched space and is known without error
    rank: int  # vectors of that space
    probes: int  # random vectors for the rest
    hvps: int  # Hessian-vector products
    space: str  # "all" parameters or the "surviving" ones
    dimension: int  # parameters in that space
    scaling: str | None  # the coordinates, as of `hessian_eigenvalues`


@dataclass(frozen=True, eq=False)
class HessianDensity:
    """The spectral density of a Hessian, estimated: the share of its eigenvalues by their value."""

    nodes: Tensor  # float64 [probes, steps]; eigenvalues as each probe sees them, ascending; nats
    weights: Tensor  # float64 [probes, steps]; the share of the spectrum at each node; a probe's sum is 1
    grid: Tensor  # float64 [points]; eigenvalues at which the density is given
    density: Tensor  # float64 [points]; share of the eigenvalues per nat, smoothed; its integral is 1
    standard_error: Tensor  # float64 [points]; of the density, from the spread of the probes
    sigma: float  # standard deviation of the Gaussian that smooths, nats
    hvps: int  # Hessian-vector products
    space: str  # "all" parameters or the "surviving" ones
    dimension: int  # parameters in that space
    scaling: str | None  # the coordinates, as of `hessian_eigenvalues`


@measuring(gradients=True)
def hessian_trace(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    products: int = 60,
    masks: Mapping[str, Tensor] | None = None,
    seed: int = 0,
    scaling: str | None = None,
    dtype: torch.dtype | None = None,
    batch_size: int | None = None,
) -> HessianTrace:
    """The trace of the Hessian of the mean cross-entropy on ``images``, by Hutch++.

    Meyer, Musco, Musco, Woodruff, "Hutch++: optimal stochastic trace estimation", 2021: a third of the products
    sketches the dominant eigenspace, a third takes its trace exactly, a third estimates the rest with random signs.
    The estimate is unbiased. With as many products in a third as parameters, it is exact.

    Args:
        model, images, labels, masks, scaling, dtype, batch_size: as for `hessian_eigenvalues`.
        products: Hessian-vector products in all, at least 6.
        seed: of the sketch and the probes.

    Memory: products / 3 vectors of the space's dimension in float64, three times, and a batch's graph.

    Raises:
        AnalysisError: fewer than 6 products; else as `hessian_eigenvalues`.

    >>> net = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    >>> _ = [nn.init.zeros_(parameter) for parameter in net.parameters()]
    >>> found = hessian_trace(net, torch.ones(2, 1, 2, 2), torch.tensor([0, 1]))
    >>> round(found.trace, 6)  # one eigenvalue is not 0
    2.5
    """
    check_whole(products=products, seed=seed)
    if products < 6:
        raise AnalysisError(f"products is {products}; give at least 6, of which two probe the rest")
    product = HessianVectorProduct(
        model, images, labels, masks=masks, scaling=scaling, dtype=dtype, batch_size=batch_size
    )
    draws = generator(seed, "hessian-trace")
    rank = min(products // 3, product.dimension)
    sketch = product(_signs(rank, product, draws))
    basis = torch.linalg.qr(sketch.T)[0].T
    captured = float((basis * product(basis)).sum())
    probes = products // 3 if rank < product.dimension else 0
    rest = torch.zeros(0, dtype=torch.float64)
    if probes:
        signs = _signs(probes, product, draws)
        signs = signs - (signs @ basis.T) @ basis
        rest = (signs * product(signs)).sum(dim=1)
    return HessianTrace(
        trace=captured + (float(rest.mean()) if probes else 0.0),
        standard_error=float(rest.std()) / math.sqrt(probes) if probes else 0.0,
        captured=captured,
        rank=rank,
        probes=probes,
        hvps=product.calls,
        space=product.space,
        dimension=product.dimension,
        scaling=scaling,
    )


@measuring(gradients=True)
def hessian_density(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    probes: int = 8,
    steps: int = 40,
    sigma: float | None = None,
    points: int = 1000,
    masks: Mapping[str, Tensor] | None = None,
    seed: int = 0,
    scaling: str | None = None,
    dtype: torch.dtype | None = None,
    batch_size: int | None = None,
) -> HessianDensity:
    """The spectral density of the Hessian of the mean cross-entropy on ``images``, by stochastic Lanczos quadrature.

    Ubaru, Chen, Saad, "Fast estimation of tr(f(A)) via stochastic Lanczos quadrature", 2017; for nets: Ghorbani,
    Krishnan, Xiao, "An investigation into neural net optimization via Hessian eigenvalue density", 2019. The mean
    over probes of the sum of weights * nodes^j is an unbiased estimate of tr(H^j) / dimension for j < 2 steps.

    Args:
        model, images, labels, masks, scaling, dtype, batch_size: as for `hessian_eigenvalues`.
        probes: random sign vectors, at least 2.
        steps: of Lanczos for each probe: products, and nodes. At most the dimension.
        sigma: standard deviation of the Gaussian that smooths the density, in nats; None: a hundredth of the range
            of the nodes.
        points: of the grid, which is even and reaches 4 sigma beyond the nodes at both ends.
        seed: of the probes.

    Memory: 4 (steps + 3) vectors of the space's dimension in float64 (LeNet-5, 40 steps: 590 MB), and a batch's graph.

    Raises:
        AnalysisError: fewer than 2 probes, 1 step or 2 points; sigma is not positive; else as `hessian_eigenvalues`.

    >>> net = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    >>> _ = [nn.init.zeros_(parameter) for parameter in net.parameters()]
    >>> found = hessian_density(net, torch.ones(2, 1, 2, 2), torch.tensor([0, 1]), steps=2)
    >>> found.nodes.shape, round(float(found.nodes.max()), 4)  # one eigenvalue is not 0
    (torch.Size([8, 2]), 2.5)
    """
    check_whole(probes=probes, steps=steps, points=points, seed=seed)
    check_number(**given(sigma=sigma))
    for name, value, least in (("probes", probes, 2), ("steps", steps, 1), ("points", points, 2)):
        if value < least:
            raise AnalysisError(f"{name} is {value}; give at least {least}")
    if sigma is not None and not (sigma > 0 and math.isfinite(sigma)):
        raise AnalysisError(f"sigma is {sigma}; give a positive one")
    product = HessianVectorProduct(
        model, images, labels, masks=masks, scaling=scaling, dtype=dtype, batch_size=batch_size
    )
    draws = generator(seed, "hessian-density")
    starts = _signs(probes, product, draws) / math.sqrt(product.dimension)
    parts = [quadrature(product, part, steps, rounding=16 * product.rounding) for part in starts.split(TOGETHER)]
    nodes, weights = (torch.cat(part).cpu() for part in zip(*parts, strict=True))
    lowest, highest = float(nodes.min()), float(nodes.max())
    if sigma is None:
        # A spectrum of one value has no range, one of zeros no scale either.
        sigma = (highest - lowest or abs(highest) or 1.0) / 100
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
        hvps=product.calls,
        space=product.space,
        dimension=product.dimension,
        scaling=scaling,
    )


def _signs(count: int, product: HessianVectorProduct, draws: torch.Generator) -> Tensor:
    """Random signs, float64 [count, dimension]."""
    signs = torch.randint(0, 2, (count, product.dimension), generator=draws, dtype=torch.float64)
    return (2 * signs - 1).to(product.device)
