"""Eigenvalues of a symmetric operator that is known only by its products with vectors."""

from collections.abc import Callable

import torch
from torch import Tensor


def largest_eigenpairs(
    product: Callable[[Tensor], Tensor],
    dimension: int,
    k: int,
    *,
    block_size: int = 1,
    tol: float,
    max_iterations: int,
    rounding: float,
    generator: torch.Generator,
    device: torch.device | str = "cpu",
) -> tuple[Tensor, int, float]:
    """Ritz vectors of the k largest (algebraic) eigenvalues of a symmetric operator.

    Returns the vectors (float64 [k, dimension], orthonormal, largest eigenvalue first), the iterations taken,
    and the largest Ritz value in magnitude, an estimate of the operator's norm.

    Block Lanczos (Golub and Underwood, "The block Lanczos method for computing eigenvalues", 1977) with full
    reorthogonalisation and thick restarts (Wu and Simon, "Thick-restart Lanczos method for large symmetric
    eigenvalue problems", 2000). It ends when the residual estimates of all k Ritz vectors are at most ``tol``
    times the largest of the k Ritz values in magnitude (or at the level of rounding), or after
    ``max_iterations`` blocks. Memory: max(40, 2 k + 20, k + 8 block_size) vectors in float64.

    A block of b vectors finds b copies of a multiple eigenvalue. Where the Krylov space closes (in operators
    with few distinct eigenvalues, as a dead net's), new random blocks are tried until one of them leaves the k
    values unchanged: so eigenvalues of any multiplicity are listed as often as they occur. Where the k vectors
    converge before it closes, an exactly multiple eigenvalue may be listed b times only.

    Args:
        product: float64 [b, dimension] -> float64 [b, dimension], symmetric, of b <= block_size vectors.
        block_size: vectors of a block; more of them take fewer blocks, but more products.
        rounding: the product's relative error.
    """
    size = min(dimension, max(40, 2 * k + 20, k + 8 * block_size))
    keep = k + (size - k) // 2
    basis = torch.zeros(size, dimension, dtype=torch.float64, device=device)
    projected = torch.zeros(size, size, dtype=torch.float64, device=device)
    filled = 0
    closed = False  # has a Krylov space closed?
    settled: Tensor | None = None  # the k largest Ritz values when it last did

    def orthogonalise(block: Tensor) -> Tensor:
        for _ in range(2):  # once is not enough where most of a vector cancels
            block = block - (block @ basis[:filled].T) @ basis[:filled]
        return block

    def random_block() -> Tensor:
        count = min(block_size, dimension - filled)
        draws = torch.randn(count, dimension, generator=generator, dtype=torch.float64).to(device)
        return torch.linalg.qr(orthogonalise(draws).T)[0].T

    block = random_block()
    for iteration in range(1, max_iterations + 1):
        first = filled
        filled += len(block)
        basis[first:filled] = block
        images = product(block)
        overlaps = basis[:filled] @ images.T
        projected[:filled, first:filled] = overlaps
        projected[first:filled, :filled] = overlaps.T
        # The remainder of H basis - basis projected is that of the newest block: coupling.T @ directions.
        directions, coupling = torch.linalg.qr(orthogonalise(images).T)
        left, strengths, _ = torch.linalg.svd(coupling)
        directions = left.T @ directions.T

        values, rotation = torch.linalg.eigh(projected[:filled, :filled])
        values, rotation = values.flip(0), rotation.flip(1)
        top = values[:k]
        scale = values.abs().max()
        margin = torch.maximum(tol * top.abs().max(), rounding * scale)
        # No Ritz vector's residual exceeds the remainder: at the margin, the space counts as invariant.
        going_on = min(int((strengths > margin).sum()), dimension - filled)
        if filled == dimension:
            break
        if filled >= k:
            if not going_on:
                if settled is not None and bool(((top - settled).abs() <= margin).all()):
                    break
                settled = top
            elif not closed and bool(((coupling @ rotation[first:, :k]).norm(dim=0) <= margin).all()):
                break
        if iteration == max_iterations:
            break
        if filled + (going_on or min(block_size, dimension - filled)) > size:
            # The remainder is orthogonal to all Ritz vectors, so Lanczos goes on from those that are kept.
            basis[:keep] = rotation[:, :keep].T @ basis[:filled]
            projected.zero_()
            projected[:keep, :keep] = values[:keep].diag()
            filled = keep
        if going_on:
            block = directions[:going_on]
            if going_on > 1:
                # The weak ones have lost orthogonality to the basis in relation to their own length.
                block = torch.linalg.qr(orthogonalise(block).T)[0].T
        else:
            closed = True
            block = random_block()
    return rotation[:, :k].T @ basis[:filled], iteration, float(scale)


def quadrature(
    product: Callable[[Tensor], Tensor], starts: Tensor, steps: int, *, rounding: float
) -> tuple[Tensor, Tensor]:
    """Gauss quadrature of each start's spectral measure: nodes and weights, float64 [b, min(steps, dimension)].

    For a unit vector s, the sum of w f(node) is s.T f(H) s, exactly for polynomials f of degree below twice the
    steps (Golub and Meurant, "Matrices, moments and quadrature", 1994). Lanczos with full reorthogonalisation, all
    starts in step. Where a start's Krylov space closes early, the nodes that are left over have weight 0. The
    weights of a start sum to its squared length. Memory: b (steps + 3) vectors in float64.

    Args:
        product: float64 [b, dimension] -> float64 [b, dimension], symmetric.
        starts: float64 [b, dimension].
        rounding: the product's relative error.
    """
    count, dimension = starts.shape
    steps = min(steps, dimension)
    basis = starts.new_zeros(count, steps, dimension)
    projected = starts.new_zeros(count, steps, steps)
    length = starts.norm(dim=1)
    vectors = starts / length[:, None]
    scale = torch.zeros_like(length)
    for step in range(steps):
        basis[:, step] = vectors
        images = product(vectors)
        scale = torch.maximum(scale, images.norm(dim=1))
        projected[:, step, step] = (vectors * images).sum(dim=1)
        for _ in range(2):  # once is not enough where most of a vector cancels
            overlaps = basis[:, : step + 1] @ images[:, :, None]
            images = images - (overlaps.mT @ basis[:, : step + 1])[:, 0]
        remaining = images.norm(dim=1)
        remaining = torch.where(remaining > rounding * scale, remaining, 0.0)
        if step + 1 == steps or not remaining.any():
            break
        projected[:, step, step + 1] = projected[:, step + 1, step] = remaining
        vectors = torch.where(remaining[:, None] > 0, images / remaining[:, None], 0.0)
    nodes, rotation = torch.linalg.eigh(projected)
    return nodes, (length[:, None] * rotation[:, 0]).square()
