"""Largest eigenvalues of a symmetric operator that is known only by its products with vectors."""

from collections.abc import Callable

import torch
from torch import Tensor

from sharpminima.errors import AnalysisError


def largest_eigenpairs(
    product: Callable[[Tensor], Tensor],
    dimension: int,
    k: int,
    *,
    tol: float,
    max_iterations: int,
    rounding: float,
    generator: torch.Generator,
    device: torch.device | str = "cpu",
) -> tuple[Tensor, int, float]:
    """Ritz vectors of the k largest (algebraic) eigenvalues of a symmetric operator.

    Returns the vectors (float64 [k, dimension], orthonormal, largest eigenvalue first), the iterations taken,
    and the largest Ritz value in magnitude, an estimate of the operator's norm.

    Lanczos with full reorthogonalisation and thick restarts (Wu and Simon, "Thick-restart Lanczos method for
    large symmetric eigenvalue problems", 2000). It ends when the residual estimates of all k Ritz vectors
    are at most ``tol`` times the largest of the k Ritz values in magnitude (or at the level of rounding), or
    after ``max_iterations`` products. Memory: max(40, 2 k + 20) vectors in float64.

    A Krylov space holds one vector of each distinct eigenvalue. Where it closes (in operators with few
    distinct eigenvalues, as a dead net's), new random directions are tried until one of them leaves the k
    values unchanged: so multiple eigenvalues are listed as often as they occur. Where the k vectors
    converge before it closes, an exactly multiple eigenvalue may be listed once.

    Args:
        product: float64 [dimension] -> float64 [dimension], symmetric.
        rounding: the product's relative error.

    Raises:
        AnalysisError: a product is not finite.
    """
    size = min(dimension, max(40, 2 * k + 20))
    keep = k + (size - k) // 2
    basis = torch.zeros(size, dimension, dtype=torch.float64, device=device)
    projected = torch.zeros(size, size, dtype=torch.float64, device=device)
    filled = 0
    closed = False  # has a Krylov space closed?
    settled: Tensor | None = None  # the k largest Ritz values when it last did

    def orthogonalise(vector: Tensor) -> Tensor:
        for _ in range(2):  # once is not enough where most of the vector cancels
            vector = vector - (basis[:filled] @ vector) @ basis[:filled]
        return vector

    def random_direction() -> Tensor:
        draw = torch.randn(dimension, generator=generator, dtype=torch.float64).to(device)
        draw = orthogonalise(draw)
        return draw / draw.norm()

    candidate = random_direction()
    for iteration in range(1, max_iterations + 1):
        basis[filled] = candidate
        filled += 1
        image = product(candidate)
        if not image.isfinite().all():
            raise AnalysisError("a Hessian-vector product holds NaN or infinity; check the weights and the images")
        overlaps = basis[:filled] @ image
        projected[filled - 1, :filled] = projected[:filled, filled - 1] = overlaps
        remainder = orthogonalise(image)
        remaining = remainder.norm()

        values, rotation = torch.linalg.eigh(projected[:filled, :filled])
        values, rotation = values.flip(0), rotation.flip(1)
        top = values[:k]
        scale = values.abs().max()
        margin = torch.maximum(tol * top.abs().max(), rounding * scale)
        # No Ritz vector's residual exceeds the remainder: at the margin, the space counts as invariant.
        broken = bool(remaining <= margin)
        if filled == dimension:
            break
        if filled >= k:
            if broken:
                if settled is not None and bool(((top - settled).abs() <= margin).all()):
                    break
                settled = top
            elif not closed and bool((remaining * rotation[-1, :k].abs() <= margin).all()):
                break
        if iteration == max_iterations:
            break
        if filled == size:
            # The remainder is orthogonal to all Ritz vectors, so Lanczos goes on from those that are kept.
            basis[:keep] = rotation[:, :keep].T @ basis
            projected.zero_()
            projected[:keep, :keep] = values[:keep].diag()
            filled = keep
        if broken:
            closed = True
            candidate = random_direction()
        else:
            candidate = remainder / remaining
    return rotation[:, :k].T @ basis[:filled], iteration, float(scale)
