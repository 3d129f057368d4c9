"""Eigenvalues of a symmetric operator that is known only by its products with vectors."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sharpminima.analysis._structure import mapped
from sharpminima.base.errors import AnalysisError
from sharpminima.base.stop import Stopped
from sharpminima.nets.resume import ResumeFile
from sharpminima.runtime.memory import available_memory
from sharpminima.runtime.rng import derive_seed

BUDGET = 1 << 30
"""Bytes that a Lanczos basis takes where no other number is given."""

_OVERLOOKED = 1e-2  # probability, at most, that a further copy of an eigenvalue is not seen

COLUMNS = 1 << 14  # of a basis in float32 that are computed with at once: they stay in a cache


@dataclass(frozen=True)
class Plan:
    """How a Lanczos basis is held."""

    size: int  # vectors
    dtype: torch.dtype
    columns: int  # of the vectors that are computed with at once


def plan_basis(
    dimension: int,
    k: int,
    block_size: int,
    *,
    rounding: float,
    dtype: torch.dtype | None,
    memory: float | None,
    most: int,
    device: torch.device | str,
) -> Plan:
    """The basis for k eigenvectors within ``memory`` bytes (None: `BUDGET`).

    max(40, 2 k + 20, k + 8 block_size) vectors, in float64 where ``dtype`` asks for it, or the products have more
    digits than float32, and where they, and the copy that a restart makes, fit. Else as many of them as fit, and at
    most so many, in float32 if the products have no more digits: a few columns at a time, without a copy. Without a
    number given, at least max(20, 2 k + 10, k + 4 block_size) vectors; within one that is given, up to ``most``, all
    that the iteration may come to: where they fit there is no restart, which costs products.

    Raises:
        AnalysisError: ``memory`` holds fewer than k + 3 block_size + 1 vectors, or the device has less than is needed.
    """
    usual = min(dimension, max(40, 2 * k + 20, k + 8 * block_size))
    budget = BUDGET if memory is None else memory
    coarse = torch.float32 if rounding >= torch.finfo(torch.float32).eps else torch.float64
    most = usual if memory is None else min(dimension, max(usual, most))
    exact = torch.float64 in (dtype, coarse)
    if exact and 8 * dimension * (usual + _kept(usual, k)) <= budget:
        size = max(usual, min(most, (2 * int(budget // (8 * dimension)) - k) // 3))  # with what a restart keeps of it
        if size > usual:
            _check_basis(8 * dimension, size, k, block_size, dimension, device, copied=_kept(size, k))
        return Plan(size, torch.float64, dimension)
    vector = dimension * coarse.itemsize
    least = min(dimension, k + 3 * block_size + 1)
    if memory is None:
        least = min(usual, max(20, 2 * k + 10, k + 4 * block_size))
    size = min(most, int(budget // vector))
    if size < least and memory is not None:
        raise AnalysisError(
            f"{k} eigenvalues of {dimension:,} parameters take a Lanczos basis of at least {least} vectors, "
            f"{least * vector / 1e9:.3g} GB, and memory is {memory / 1e9:.3g} GB; give "
            f"memory={_enough(least * vector)} or more, masks that leave fewer parameters, or a smaller k"
        )
    size = max(size, least)
    _check_basis(vector, size, k, block_size, dimension, device)
    return Plan(size, coarse, COLUMNS)


def _check_basis(
    vector: int, size: int, k: int, block_size: int, dimension: int, device: torch.device | str, copied: int = 0
) -> None:
    """Check that a device has room for vectors of ``vector`` bytes each: a basis, and what a restart copies of it."""
    check_room(
        (size + copied) * vector,
        f"a Lanczos basis of {size} vectors of {dimension:,} parameters"
        + (f" and the copy of {copied} that a restart makes" if copied else ""),
        f"memory= less than that (at least {_enough(vector * min(dimension, k + 3 * block_size + 1))}), a smaller k",
        device,
    )


def check_room(needed: int, what: str, cure: str, device: torch.device | str) -> None:
    """Check that a device has so many bytes.

    Raises:
        AnalysisError: it has not; what takes them is named, and the cure.
    """
    there = available_memory(device)
    if there is not None and needed > there:
        raise AnalysisError(
            f"{what} takes {needed / 1e9:.3g} GB, and {device} has {there / 1e9:.3g} GB left; give {cure}, or masks "
            "that leave fewer parameters"
        )


def _enough(needed: int) -> str:
    """A number of bytes in three digits that are not below it."""
    unit = 10 ** max(0, len(str(needed)) - 3)
    return f"{-(-needed // unit) * unit:.3g}"


def _kept(size: int, k: int) -> int:
    """Ritz vectors that a restart keeps."""
    return k + (size - k) // 2


class Basis:
    """Orthonormal vectors, the first ``filled`` rows; sums over few columns have their dtype, those of them float64."""

    def __init__(self, plan: Plan, dimension: int, device: torch.device | str = "cpu") -> None:
        self.filled = 0
        self._rows = torch.empty(plan.size, dimension, dtype=plan.dtype, device=device)
        self._parts = [slice(start, start + plan.columns) for start in range(0, dimension, plan.columns)]
        self._whole = len(self._parts) == 1 and plan.dtype == torch.float64

    def add(self, block: Tensor) -> None:
        """Put vectors behind the others."""
        self._rows[self.filled : self.filled + len(block)] = block
        self.filled += len(block)

    def overlaps(self, vectors: Tensor) -> Tensor:
        """Scalar products with vectors [b, dimension]: float64 [filled, b]."""
        first, *others = ((self._part(part) @ vectors[:, part].T).double() for part in self._parts)
        return sum(others, first)

    def orthogonalised(self, block: Tensor, overlaps: Tensor | None = None) -> Tensor:
        """Vectors, of the basis's dtype, without what lies in the basis, of which the overlaps may be known."""
        # Once is not enough where most of a vector cancels.
        if self._whole:
            for _ in range(2):
                rows = self._part(self._parts[0])
                block = block - (block @ rows.T) @ rows
            return block
        overlaps = self.overlaps(block) if overlaps is None else overlaps
        block, left = block.clone(), torch.zeros_like(overlaps)
        weights = overlaps.T.to(block.dtype)
        for part in self._parts:
            rows = self._part(part)
            block[:, part] -= weights @ rows
            left += rows @ block[:, part].T
        weights = left.T.to(block.dtype)
        for part in self._parts:
            block[:, part] -= weights @ self._part(part)
        return block

    def rotate(self, rotation: Tensor, first: int = 0) -> None:
        """Take the combinations [n, m] of the n vectors from ``first`` on in their place."""
        self._mix(first, rotation)

    def divide(self, wanted: Tensor, others: Tensor) -> None:
        """Take combinations of all vectors in their place: first those that are wanted, then others.

        The bits of the former are those of `released`, and do not depend on the latter.
        """
        self._mix(0, wanted, others)

    def _mix(self, first: int, *rotations: Tensor) -> None:
        weights = [rotation.T.to(self._rows.dtype) for rotation in rotations]
        for part in self._parts:
            rows = self._rows[first : self.filled, part]
            mixed = [each @ rows for each in weights]
            place = first
            for block in mixed:
                self._rows[place : place + len(block), part] = block
                place += len(block)
        self.filled = first + sum(map(len, weights))

    def row(self, number: int) -> Tensor:
        """One of the vectors: float64 [1, dimension]."""
        return self._rows[number : number + 1].double()

    def cut(self, first: int) -> Tensor:
        """The vectors from ``first`` on, which the basis is without afterwards."""
        rows = self._rows[first : self.filled].clone()
        self.filled = first
        return rows

    def released(self, rotation: Tensor | None = None) -> Tensor:
        """Combinations [filled, n] of the vectors, or they themselves, float64; the basis is empty afterwards."""
        if rotation is not None:
            if self._whole:
                return rotation.T @ self._part(self._parts[0])
            self.rotate(rotation)
        rows = self.cut(0)
        self._rows = rows.new_empty(0)
        return rows.double()

    def tensor(self) -> Tensor:
        """The vectors as they are held: a copy."""
        return self._rows[: self.filled].clone()

    def _part(self, columns: slice) -> Tensor:
        return self._rows[: self.filled, columns]


@dataclass
class _Search:
    """A search outside of the k vectors that have converged, the first of the basis, before a product."""

    values: Tensor  # of the k vectors, the largest first
    locked: int  # vectors of the basis that the search is orthogonal to
    scale: float  # the largest Ritz value in magnitude
    margin: float  # what counts as rounding
    projected: Tensor  # the operator in the vectors behind the locked ones, float64
    starts: Tensor  # the random vectors that it began with, in those vectors, float64 [size, b]
    block: Tensor  # the vectors to multiply next

    @property
    def threshold(self) -> float:
        """A copy below it would not change the k values."""
        return float(self.values[-1]) + self.margin

    def chance(self, filled: int, first: int, coupling: Tensor, dimension: int) -> float:
        """The probability, at most, that an eigenvalue which would change the k values is still to be seen.

        Let T be the operator in the vectors of the search, of which E are the newest, and C.T the coupling to what lies
        outside of them. The part y of a unit eigenvector in these vectors has (lambda - T) y = E C.T d, with d no
        longer than 1. So the starts S, in which it has S.T y, were nearly orthogonal to it if they have not shown it:
        as unlikely as S.T (lambda - T)^-1 E C.T is small. Where lambda is above all eigenvalues of T, it is the less
        likely the larger it is. A restart leaves out what it drops.
        """
        least = self.values[self.values > self.threshold].min()
        newest = self.projected.new_zeros(filled, coupling.shape[0])
        newest[first:] = coupling.T
        shifted = torch.eye(filled, dtype=torch.float64, device=newest.device) * least
        solved = torch.linalg.solve(shifted - self.projected[:filled, :filled], newest)
        largest = float(torch.linalg.matrix_norm(self.starts[:filled].T @ solved, ord=2))
        one = largest * math.sqrt(
            2 * (dimension - self.locked) / math.pi
        )  # of one start: a normal number's density at 0
        return min(1.0, one) ** self.starts.shape[1]


@dataclass
class _State:
    """Where the iteration stands before a product."""

    iteration: int  # the step under way; of a search, those that are done
    block: Tensor  # the vectors to multiply next, [b, dimension] in the basis's dtype
    projected: Tensor  # the operator in the basis, float64 [size, size]
    closed: bool = False  # has a Krylov space closed?
    settled: Tensor | None = None  # the k largest Ritz values when it last did
    products: int = 0  # vectors multiplied so far
    search: _Search | None = None  # for what the iteration, which has converged, may have overlooked


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
    plan: Plan | None = None,
    progress: Callable[[int, int], None] | None = None,
    resume: ResumeFile | None = None,
) -> tuple[Tensor, int, float, int]:
    """Ritz vectors of the k largest (algebraic) eigenvalues of a symmetric operator.

    Returns the vectors (float64 [k, dimension], orthonormal, largest eigenvalue first), the iterations taken,
    the largest Ritz value in magnitude, an estimate of the operator's norm, and the vectors that were multiplied.

    Block Lanczos (Golub and Underwood, "The block Lanczos method for computing eigenvalues", 1977) with full
    reorthogonalisation and thick restarts (Wu and Simon, "Thick-restart Lanczos method for large symmetric
    eigenvalue problems", 2000). It ends when the residual estimates of all k Ritz vectors are at most ``tol``
    times the largest of the k Ritz values in magnitude (or at the level of rounding), or after
    ``max_iterations`` blocks, once there are k vectors. Memory: what the plan says, and about 4 block_size vectors in
    float64.

    A block of b vectors finds b copies of a multiple eigenvalue. Where the Krylov space closes (in operators
    with few distinct eigenvalues, as a dead net's), new random blocks are tried until one of them leaves the k
    values unchanged. Where the k vectors converge before it closes, a search goes on outside of them, from a random
    block of its own: what was found and is not among the k is left out of it too, so that few steps show a copy. It
    ends once the probability that there is one which would change the k values is below 0.01, or the steps are used
    up; the vectors that have converged are left as they are, bit by bit. If it finds one, the iteration goes on from
    there, and so on. So eigenvalues of any multiplicity are listed as often as they occur.

    Args:
        product: [b, dimension] in the basis's dtype -> float64 [b, dimension], symmetric, of b <= block_size vectors.
        block_size: vectors of a block; more of them take fewer blocks, but more products.
        rounding: the product's relative error.
        plan: of the basis; None: that of `plan_basis` without a number.
        progress: called with (blocks done, blocks at most).
        resume: where the state is written when it is due and on SIGTERM; a call goes on from what it holds.
    """
    plan = plan or plan_basis(
        dimension,
        k,
        block_size,
        rounding=rounding,
        dtype=torch.float64,
        memory=None,
        most=block_size * max_iterations,
        device=device,
    )
    size, keep = plan.size, _kept(plan.size, k)
    basis = Basis(plan, dimension, device)

    def random_block(draws: torch.Generator) -> Tensor:
        count = min(block_size, dimension - basis.filled)
        block = torch.randn(count, dimension, generator=draws, dtype=torch.float64).to(device, plan.dtype)
        return torch.linalg.qr(basis.orthogonalised(block).T)[0].T

    def saved() -> dict[str, Any]:
        search = None if at.search is None else vars(at.search)
        return {**vars(at), "search": search, "basis": basis.tensor(), "draws": generator.get_state()}

    def multiplied(block: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Multiply a block and put it into the basis.

        Returns:
            The products in the basis, [filled, b]; of what of them lies outside of it, directions [b, dimension], the
            coupling to them, [b, b], and its strengths, the largest first.
        """
        try:
            images = product(block).to(plan.dtype)
        except Stopped:
            if resume is not None:
                resume.save(saved())
            raise
        basis.add(block)
        at.products += len(block)
        overlaps = basis.overlaps(images)
        directions, coupling = torch.linalg.qr(basis.orthogonalised(images, overlaps).T)
        del images
        coupling = coupling.double()
        left, strengths, _ = torch.linalg.svd(coupling)
        return overlaps, left.T.to(plan.dtype) @ directions.T, coupling, strengths

    def next_block(directions: Tensor) -> Tensor:
        if len(directions) == 1:
            return directions
        # The weak ones have lost orthogonality to the basis in relation to their own length.
        return torch.linalg.qr(basis.orthogonalised(directions).T)[0].T

    def save_if_due() -> None:
        if resume is not None and resume.due():
            resume.save(saved())

    def search_for(values: Tensor, rotation: Tensor, scale: float, margin: float) -> _Search:
        """Begin a search: the basis becomes the k vectors, and behind them what else stands out of the spectrum."""
        others = values[k:]
        room = max(3 * block_size + 1, size - _kept(size, k))
        # A spectrum that took restarts has nothing that stands out; room is what it takes.
        kept = 0 if at.products > size else max(0, min(len(others), size - k - room))
        outermost = (others - others.median()).abs().argsort(descending=True)
        basis.divide(rotation[:, :k], rotation[:, k:][:, outermost[:kept]])
        draws = torch.Generator().manual_seed(derive_seed(generator.initial_seed(), "search", at.iteration))
        projected = torch.zeros(size, size, dtype=torch.float64, device=device)
        block = random_block(draws)
        starts = torch.eye(size, len(block), dtype=torch.float64, device=device)
        return _Search(values[:k].clone(), basis.filled, scale, margin, projected, starts, block)

    def overlooked(search: _Search) -> Tensor | None:
        """Vectors to go on from, where a search finds that there are further copies; None: it finds none."""
        while at.iteration + 2 <= max_iterations:  # the last step is the iteration's, which tells what was found
            first = basis.filled - search.locked
            overlaps, directions, coupling, strengths = multiplied(search.block)
            at.iteration += 1
            filled = basis.filled - search.locked
            search.projected[:filled, first:filled] = overlaps[search.locked :]
            search.projected[first:filled, :filled] = overlaps[search.locked :].T
            values, rotation = torch.linalg.eigh(search.projected[:filled, :filled])
            values, rotation = values.flip(0), rotation.flip(1)
            if progress:
                progress(at.iteration, max_iterations)
            if count := min(block_size, int((values > search.threshold).sum())):
                basis.rotate(rotation[:, :count], first=search.locked)
                return basis.cut(search.locked)
            going_on = min(int((strengths > search.margin).sum()), dimension - basis.filled)
            settled = float((coupling @ rotation[first:, 0]).norm()) <= search.margin
            if not going_on or settled or search.chance(filled, first, coupling, dimension) <= _OVERLOOKED:
                return None
            if basis.filled + going_on > size:
                kept = (size - search.locked - block_size) // 2
                basis.rotate(rotation[:, :kept], first=search.locked)
                search.projected.zero_()
                search.projected[:kept, :kept] = values[:kept].diag()
                search.starts[:kept] = rotation[:, :kept].T @ search.starts[:filled]
                search.starts[kept:] = 0
            search.block = next_block(directions[:going_on])
            save_if_due()
        return None

    if resume is not None and (earlier := resume.load()) is not None:
        basis.add(earlier["basis"].to(device))
        generator.set_state(earlier["draws"])
        settled, search = earlier["settled"], earlier.get("search")
        at = _State(
            iteration=earlier["iteration"],
            block=earlier["block"].clone().to(device),  # a copy is aligned in memory, which BLAS's bits depend on
            projected=earlier["projected"].clone().to(device),
            closed=earlier["closed"],
            settled=None if settled is None else settled.to(device),
            products=earlier.get("products", 0),  # which older files are without, as without a search
            search=None if search is None else _Search(**mapped(search, lambda part: part.clone().to(device))),
        )
    else:
        at = _State(1, random_block(generator), torch.zeros(size, size, dtype=torch.float64, device=device))
    while True:
        if at.search is not None:
            found = overlooked(at.search)
            if found is None:
                basis.filled = k
                return basis.released(), at.iteration, at.search.scale, at.products
            basis.filled = k
            at.projected.zero_()
            at.projected[:k, :k] = at.search.values.diag()
            at.block, at.search = found, None
            at.iteration += 1
        first = basis.filled
        overlaps, directions, coupling, strengths = multiplied(at.block)
        projected, filled = at.projected, basis.filled
        projected[:filled, first:filled] = overlaps
        projected[first:filled, :filled] = overlaps.T
        # The remainder of H basis - basis projected is that of the newest block: coupling.T @ directions.
        values, rotation = torch.linalg.eigh(projected[:filled, :filled])
        values, rotation = values.flip(0), rotation.flip(1)
        top = values[:k]
        scale = values.abs().max()
        margin = torch.maximum(tol * top.abs().max(), rounding * scale)
        if progress:
            progress(at.iteration, max_iterations)
        # No Ritz vector's residual exceeds the remainder: at the margin, the space counts as invariant.
        going_on = min(int((strengths > margin).sum()), dimension - filled)
        if filled == dimension:
            break
        if filled >= k:
            if not going_on:
                if at.settled is not None and bool(((top - at.settled).abs() <= margin).all()):
                    break
                at.settled = top
            elif not at.closed and bool(((coupling @ rotation[first:, :k]).norm(dim=0) <= margin).all()):
                if bool(top[0] - top[-1] <= margin):  # another copy of one and the same value changes nothing
                    break
                at.block = directions[:0].clone()  # so that the directions are not held
                del directions
                at.search = search_for(values, rotation, float(scale), float(margin))
                continue
        if at.iteration >= max_iterations and filled >= k:  # a block may add fewer vectors than it has
            break
        if filled + (going_on or min(block_size, dimension - filled)) > size:
            # The remainder is orthogonal to all Ritz vectors, so Lanczos goes on from those that are kept.
            basis.rotate(rotation[:, :keep])
            projected.zero_()
            projected[:keep, :keep] = values[:keep].diag()
        if going_on:
            at.block = next_block(directions[:going_on])
        else:
            at.closed = True
            at.block = random_block(generator)
        del directions
        at.iteration += 1
        save_if_due()
    return basis.released(rotation[:, :k]), at.iteration, float(scale), at.products


def rayleigh(product: Callable[[Tensor], Tensor], vectors: Tensor, *, together: bool) -> tuple[Tensor, Tensor]:
    """Rayleigh quotients and residuals of unit vectors [k, dimension]: float64 [k] each.

    Args:
        together: all products at once; else one after another, in the memory of one.
    """
    values, residuals = [], []
    for part in vectors.split(len(vectors) if together else 1):
        products = product(part)
        values.append((part * products).sum(dim=1))
        residuals.append((products - values[-1][:, None] * part).norm(dim=1))
    return torch.cat(values), torch.cat(residuals)


def plan_quadrature(
    dimension: int, steps: int, count: int, *, rounding: float, memory: float | None, device: torch.device | str
) -> tuple[int, torch.dtype]:
    """How many starts of ``count`` go in step within ``memory`` bytes (None: `BUDGET`), and the basis's dtype.

    All of them in float64 where that fits; else as many as fit in float32 (if the products have no more digits), at
    least one where no number is given.

    Raises:
        AnalysisError: one start does not fit into ``memory``, or the device has less than is needed.
    """
    budget = BUDGET if memory is None else memory
    if 8 * dimension * count * (steps + 3) <= budget:
        return count, torch.float64
    dtype = torch.float32 if rounding >= torch.finfo(torch.float32).eps else torch.float64
    one = dimension * (steps * dtype.itemsize + 3 * 8)
    if memory is not None and one > budget:
        raise AnalysisError(
            f"{steps} steps over {dimension:,} parameters take {one / 1e9:.3g} GB, and memory is {memory / 1e9:.3g} "
            f"GB; give memory={_enough(one)} or more, fewer steps, or masks that leave fewer parameters"
        )
    check_room(one, f"the basis of {steps} steps over {dimension:,} parameters", "fewer steps", device)
    return max(1, min(count, int(budget // one))), dtype


def quadrature(
    product: Callable[[Tensor], Tensor],
    starts: Tensor,
    steps: int,
    *,
    rounding: float,
    dtype: torch.dtype = torch.float64,
    resume: ResumeFile | None = None,
) -> tuple[Tensor, Tensor, int]:
    """Gauss quadrature of each start's spectral measure: nodes and weights, float64 [b, min(steps, dimension)].

    And the steps taken, which are fewer where all Krylov spaces close.

    For a unit vector s, the sum of w f(node) is s.T f(H) s, exactly for polynomials f of degree below twice the
    steps (Golub and Meurant, "Matrices, moments and quadrature", 1994). Lanczos with full reorthogonalisation, all
    starts in step. Where a start's Krylov space closes early, the nodes that are left over have weight 0. The
    weights of a start sum to its squared length. Memory: b steps vectors in ``dtype``, and 3 b in float64.

    Args:
        product: float64 [b, dimension] -> float64 [b, dimension], symmetric.
        starts: float64 [b, dimension].
        rounding: the product's relative error.
        dtype: of the basis; sums are float64 whatever it is.
        resume: where the state is written on SIGTERM, and removed at the end; a call goes on from what it holds.
    """
    count, dimension = starts.shape
    steps = min(steps, dimension)
    basis = starts.new_zeros(count, steps, dimension, dtype=dtype)
    width = dimension if dtype == torch.float64 else COLUMNS
    parts = [slice(start, start + width) for start in range(0, dimension, width)]
    projected = starts.new_zeros(count, steps, steps)
    length = starts.norm(dim=1)
    vectors = starts / length[:, None]
    scale = torch.zeros_like(length)
    first_step = 0
    if resume is not None and (earlier := resume.load()) is not None:
        first_step = earlier["basis"].shape[1]
        basis[:, :first_step] = earlier["basis"].to(basis)
        # Copies are aligned in memory, which BLAS's bits depend on.
        projected, vectors, scale = (earlier[name].clone().to(starts) for name in ("projected", "vectors", "scale"))
    for step in range(first_step, steps):
        try:
            images = product(vectors)
        except Stopped:
            if resume is not None:
                state = {"projected": projected, "vectors": vectors, "scale": scale}
                resume.save({"basis": basis[:, :step], **state})
            raise
        basis[:, step] = vectors
        scale = torch.maximum(scale, images.norm(dim=1))
        projected[:, step, step] = (vectors * images).sum(dim=1)
        for _ in range(2):  # once is not enough where most of a vector cancels
            held = [basis[:, : step + 1, part] for part in parts]
            first, *others = (each.double() @ images[:, part, None] for each, part in zip(held, parts, strict=True))
            overlaps = sum(others, first)
            removed = [(overlaps.mT @ each.double())[:, 0] for each in held]
            images = images - (removed[0] if len(removed) == 1 else torch.cat(removed, dim=1))
        remaining = images.norm(dim=1)
        remaining = torch.where(remaining > rounding * scale, remaining, 0.0)
        if step + 1 == steps or not remaining.any():
            break
        projected[:, step, step + 1] = projected[:, step + 1, step] = remaining
        vectors = torch.where(remaining[:, None] > 0, images / remaining[:, None], 0.0)
    if resume is not None:
        resume.remove()
    nodes, rotation = torch.linalg.eigh(projected)
    return nodes, (length[:, None] * rotation[:, 0]).square(), step + 1
