"""Eigenvalues of the Hessian of a net's mean loss, and of other matrices of curvature.

The paper (Tartaglione et al., ICANN 2020) reports the top-5 eigenvalues, from 20 steps of power iteration
with deflation, which are too few to converge; here Lanczos runs until measured residuals are small.
"""

import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from sharpminima.analysis._loss import Criterion, LossFunction
from sharpminima.analysis._results import Result, numbers
from sharpminima.analysis.hessian._lanczos import Plan, largest_eigenpairs, plan_basis, rayleigh
from sharpminima.analysis.hessian.operators import CurvatureProduct, by_parameter, operator_of
from sharpminima.base.errors import AnalysisError
from sharpminima.base.numbers import check_number, check_whole, optional
from sharpminima.base.stop import Stopped
from sharpminima.nets.modes import measuring
from sharpminima.nets.resume import ResumeFile, check_path, save_or_stop
from sharpminima.runtime.rng import generator

WHICH = ("LA", "SA", "LM", "BE")
"""Eigenvalues to look for, as scipy names them: the largest and the smallest (algebraic), the largest in magnitude,
half of them from both ends."""
_KINDS = {"LA": "largest", "SA": "smallest", "LM": "largest in magnitude", "BE": "from both ends"}

_BLOCK = {"cpu": 1, "cuda": 4}  # vectors of a Lanczos block; on a CPU fewer products count for more


@dataclass(frozen=True, eq=False, repr=False)
class HessianEigenvalues(Result):
    """Eigenvalues of a matrix of curvature, the k of `WHICH`; P parameters, ordered as ``named_parameters``."""

    drawn_by = "sharpminima.figures.results:eigenvalues"

    # float64 [k], largest first ("SA": smallest first; "LM": by magnitude); Rayleigh quotients of the eigenvectors; in
    # units of the loss, nats of cross-entropy.
    eigenvalues: Tensor
    eigenvectors: Tensor  # float64 [k, P], unit norm, largest entry positive; 0 where a mask removes
    residuals: Tensor  # float64 [k]; ||H v - lambda v||, from a product of its own for each vector
    converged: Tensor  # bool [k]; residual <= tol * largest |eigenvalue| of the k (or at rounding level)
    iterations: int  # Lanczos steps, each of a block of vectors
    hvps: int  # Hessian-vector products, those of the residuals included
    space: str  # "all" parameters, the "surviving" ones, or layers that were "chosen"
    dimension: int  # parameters in that space
    scaling: str | None  # the coordinates, of `SCALINGS`
    block_size: int  # vectors of a Lanczos block
    matrix: str = "hessian"  # of `MATRICES`
    which: str = "LA"  # of `WHICH`
    unit: str = "nats"  # of the loss, where it is cross-entropy
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)  # of the P parameters, by name

    def __post_init__(self) -> None:
        # Files hold lists.
        object.__setattr__(self, "shapes", {name: tuple(shape) for name, shape in self.shapes.items()})

    def by_parameter(self) -> dict[str, Tensor]:
        """The eigenvectors by parameter: name -> float64, [k] and its shape."""
        return by_parameter(self.eigenvectors, self.shapes)

    def _lines(self) -> tuple[str, str, str]:
        failed = int((~self.converged).sum())
        kind = _KINDS[self.which] + ("" if self.matrix == "hessian" else f" of {self.matrix}")
        return (
            f"HessianEigenvalues: {len(self.eigenvalues)} {kind}, over {self.dimension:,} parameters ({self.space})",
            f"eigenvalues {numbers(self.eigenvalues)} {self.unit}",
            f"residuals up to {float(self.residuals.max()):.1e}, "
            + (f"{failed} not converged" if failed else "all converged")
            + f"; {self.hvps} products",
        )

    def _columns(self) -> dict[str, Any]:
        ranks = list(range(1, len(self.eigenvalues) + 1))
        return {
            "rank": ranks,
            "eigenvalue": self.eigenvalues,
            "residual": self.residuals,
            "converged": self.converged,
        }


@dataclass(frozen=True)
class _Found:
    """What a search for eigenvectors found."""

    vectors: Tensor  # float64 [n, dimension], of length 1
    iterations: int  # steps taken
    norm: float  # of the operator, estimated
    products: int  # that it took


@measuring(gradients=True)
def hessian_eigenvalues(
    model: nn.Module,
    images: Any,
    labels: Any = None,
    *,
    k: int = 5,
    which: str = "LA",
    matrix: str = "hessian",
    criterion: Criterion | None = None,
    loss_fn: LossFunction | None = None,
    masks: Mapping[str, Tensor] | None = None,
    parameters: str | Iterable[str] | None = None,
    tol: float = 1e-4,
    seed: int = 0,
    scaling: str | None = None,
    dtype: torch.dtype | None = None,
    batch_size: int | None = None,
    block_size: int | None = None,
    max_iterations: int = 500,
    basis: torch.dtype | None = None,
    memory: float | None = None,
    graphs: float | None = None,
    progress: Callable[[int, int], None] | None = None,
    resume: str | os.PathLike[str] | None = None,
) -> HessianEigenvalues:
    """The ``k`` largest (algebraic) eigenvalues of the Hessian of the mean loss on ``images``: cross-entropy, or yours.

    Eval mode, no penalties. Block Lanczos with full reorthogonalisation and thick restarts from a random start; every
    residual is then recomputed with a product of its own. Not converging is no error: read ``converged``.

    An eigenvalue that occurs several times is listed as often: the vectors that have converged do not show it, so a
    search outside of them follows, until one that would change the list is still to be seen with a probability below
    0.01, or the steps are used up. It takes about a fifth more products of trained LeNets, a third to a half more where
    a spectrum has no gaps, as mostly at its lower end, and leaves the numbers as they are where it finds nothing.

    Args:
        model: a net; it is not modified. Without ``criterion`` and ``loss_fn`` its output is logits [N, classes, ...].
        images: inputs on the model's device: a tensor [N, ...] of any shape, as normalised float images
            [N, C, H, W]; a tuple of tensors for ``model(*inputs)``; a dictionary for ``model(**inputs)``. Or, without
            labels, batches: a DataLoader, a list, whatever can be read again and again (each product reads it once),
            of pairs (inputs, labels). They are streamed: one batch is in memory, on the model's device, and weighted by
            its samples. Every pass draws what the first one drew from torch's generator; two passes that differ
            are refused, for which the data are read twice at first.
        labels: int64 class numbers [N] on the same device, [N, ...] for outputs [N, classes, ...] (segmentation), or
            whatever the criterion takes: tensors with N rows.
        k: eigenvalues wanted.
        which: of `WHICH`: "LA" the largest, "SA" the smallest (most negative), "LM" the largest in magnitude,
            "BE" half from both ends, one more from the upper. The last two take two runs of Lanczos.
        matrix: of `MATRICES`: "hessian", "gauss_newton" (`GaussNewtonVectorProduct`), "fisher" (`FisherVectorProduct`).
        criterion: (outputs, labels) of a batch -> the mean loss of its samples, one number; outputs are what the model
            gives: a tensor, a tuple, a dictionary, a dataclass. None: mean cross-entropy, in nats.
        loss_fn: (model, batch) -> the mean loss of the batch, in place of a criterion; the batch is what the loader
            gives, or (inputs, labels), or the inputs alone.
        masks: parameter name -> tensor of 0 and 1, of any dtype; then the Hessian over the surviving parameters only
            (mask on both sides). A parameter without a mask survives whole. None: all parameters.
        parameters: the block of the matrix over these parameters: a name, or names, of parameters or of layers, which
            stand for all that is in them. None: all.
        tol: largest residual of a converged vector, relative to the largest |eigenvalue| of the k.
        seed: the start; the same seed gives the same numbers.
        scaling: "parameter" for D H D with D = diag(|w|), whose eigenvalues do not depend on the scale of ReLU layers
            (see `HessianVectorProduct`); the eigenvectors are those of D H D. None for H.
        dtype: of the products, float32 or float64; None: the model's own, and float32 of a coarser one.
        batch_size: images a pass, which serves up to 4 vectors; memory grows with it (LeNet-5: 0.3 MB an image
            and vector). None: 125 on a CPU, 250 where masks leave a net so few weights that its layers compute with
            those alone, 1000 on CUDA. Batches have sizes of their own.
        block_size: vectors of a Lanczos block. None: 1 on a CPU (fewest products), 4 on CUDA (fewest passes).
        max_iterations: Lanczos steps at most, each of a block, those of the search for copies among them; more only
            until there are k vectors.
        basis: dtype of the Lanczos basis and of what is computed with it; None: that of the products. torch.float64
            with products in float32 takes twice the memory (and half as much again at a restart) and, of few images,
            a seventh more time, for digits that the products do not have. The package's own studies have it.
        memory: bytes of the Lanczos basis. Where they do not hold all vectors it restarts, and fewer vectors take more
            products. None: 1 GiB, or as much as max(20, 2 k + 10, k + 4 block_size) float32 vectors take.
        graphs: bytes for graphs of the gradient that are kept from product to product, of the first batches, as many as
            fit, for products of one vector of the Hessian: a quarter less time for those batches on a CPU, for 0.17 MB
            an image on LeNet-5 and 4.5 MB on a ResNet-18 at 32 x 32. Digits beyond the products' own change with it.
            None: none is kept. A net whose kept graph does not agree with double backward keeps none either.
        progress: called with (Lanczos steps done, steps at most); the second of two runs counts on from the most that
            the first may take.
        resume: a file for the state of the iteration, written every minute and on SIGTERM, and removed at the end. A
            call with the same arguments goes on from it, to the same bits; a file of other arguments, or of another net
            with the same weights, is ignored: net and loss are recognised by what they give, one product more at the
            start.

    Memory: of the basis, max(40, 2 k + 20, k + 8 block_size) vectors of the space's dimension (LeNet-5, float32:
    69 MB), or as many as it comes to within ``memory``; in float64 half as many more at a restart, and where those do
    not fit and products are float32, float32 instead. Beyond it, about 5 vectors of the basis's dtype, the k of the
    result in float64 up to three times, once the basis is gone, a batch's graph, and the ``graphs`` that are kept.

    Raises:
        AnalysisError: k is not within 1 ... dimension or above block_size * max_iterations; tol is not positive;
            block_size is below 1; the least basis does not fit into ``memory``, or the device has no room for it or for
            the ``graphs``, which are kept of the Hessian alone; a scaling, a matrix, a dtype, a basis or eigenvalues
            (which) that are not offered; weights or products are NaN or infinite; images, labels or masks of a wrong
            shape, type, range or device; batches that can be read once only or differ from pass to pass; a loss that is
            not one number or sums over samples; masks that remove everything; a model that draws random numbers or
            mixes the images of a batch in eval mode, that has no second derivatives, or such as are not symmetric, or
            depends on no parameter, that is compiled, quantised or wrapped, or fails.
        CheckpointError: ``resume`` is a file of others, a folder, ...
        Stopped: SIGTERM came (where `sharpminima.base.stop` catches it).

    >>> net = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    >>> _ = [nn.init.zeros_(parameter) for parameter in net.parameters()]
    >>> spectrum = hessian_eigenvalues(net, torch.ones(2, 1, 2, 2), torch.tensor([0, 1]), k=1)
    >>> round(float(spectrum.eigenvalues[0]), 6)  # p (1 - p) of two classes, twice, times the five inputs of each
    2.5
    >>> batches = [(torch.ones(1, 4), torch.ones(1, 2)), (torch.ones(3, 4), torch.zeros(3, 2))]
    >>> spectrum = hessian_eigenvalues(net, batches, criterion=nn.MSELoss(), k=1, parameters="1.bias")
    >>> round(float(spectrum.eigenvalues[0]), 6)  # the mean over two outputs of 2
    1.0
    """
    k, seed = check_whole("k", k), check_whole("seed", seed)
    max_iterations = check_whole("max_iterations", max_iterations)
    block_size = optional(check_whole, "block_size", block_size, least=1)
    tol, memory = check_number("tol", tol), optional(check_number, "memory", memory, least=0)
    graphs = optional(check_number, "graphs", graphs, least=0)
    batch_size = optional(check_whole, "batch_size", batch_size, least=1)
    if resume is not None:
        check_path(resume)
    if which not in WHICH:
        raise AnalysisError(f"there are no eigenvalues {which!r}; there are {', '.join(WHICH)}")
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
        graphs=graphs,
    )
    if not 1 <= k <= product.dimension:
        raise AnalysisError(f"k is {k}, but the Hessian has {product.dimension} eigenvalues; choose k among them")
    if not tol > 0:
        raise AnalysisError(f"tol is {tol}; give a positive one")
    block_size = block_size if block_size is not None else _BLOCK.get(product.device.type, 1)
    if max_iterations < (steps := math.ceil(k / block_size)):
        raise AnalysisError(f"max_iterations is {max_iterations}; {k} eigenvalues take at least {steps} steps")
    if basis not in (None, torch.float32, torch.float64):
        raise AnalysisError(f"the basis is {basis!r}; give torch.float32 or torch.float64")
    rounding = 16 * product.rounding
    ends = _ends(which, k, product.dimension)
    plans = {
        end: plan_basis(
            product.dimension,
            count,
            block_size,
            rounding=rounding,
            dtype=basis,
            memory=memory,
            most=block_size * max_iterations,
            device=product.device,
        )
        for end, count in ends
    }
    file = None
    if resume is not None:
        facts = {"of": "hessian_eigenvalues", "k": k, "which": which, "tol": tol, "seed": seed, "dtype": str(dtype)}
        sizes = {"batch_size": batch_size, "block_size": block_size, "max": max_iterations, "graphs": graphs}
        planned = {"bases": [f"{plan.size} {plan.dtype}" for plan in plans.values()]}
        file = ResumeFile(resume, fingerprint=product.fingerprint(model, masks, {**facts, **sizes, **planned}))
    found = _found(file, product.device) or _search(
        product,
        ends,
        plans,
        file,
        progress,
        block_size=block_size,
        tol=tol / 2,  # of the estimate, so that the residual measured afterwards holds despite rounding
        max_iterations=max_iterations,
        rounding=rounding,
        seed=seed,
    )
    vectors, scale = found.vectors, found.norm
    together = all(plan.dtype == torch.float64 for plan in plans.values())
    try:
        eigenvalues, residuals = rayleigh(product, vectors, together=together)
    except Stopped:
        if file is not None:
            file.save({"found": vars(found)})
        raise
    if file is not None:
        file.remove()
    order = _order(eigenvalues, which)[:k]
    bound = max(tol * float(eigenvalues[order].abs().max()), rounding * scale)
    eigenvectors = torch.empty(k, sum(math.prod(shape) for shape in product.shapes.values()), dtype=torch.float64)
    for row, number in zip(eigenvectors, order.tolist(), strict=True):  # one by one: all at once are twice in memory
        row.copy_(product.expand(vectors[number]))
    return HessianEigenvalues(
        eigenvalues=eigenvalues[order].cpu(),
        eigenvectors=eigenvectors,
        residuals=residuals[order].cpu(),
        converged=(residuals[order] <= bound).cpu(),
        iterations=found.iterations,
        hvps=found.products + len(vectors),
        space=product.space,
        dimension=product.dimension,
        scaling=scaling,
        block_size=block_size,
        matrix=matrix,
        which=which,
        unit=product.unit,
        shapes=product.shapes,
    )


def _found(file: ResumeFile | None, device: torch.device) -> _Found | None:
    """What an earlier call's search found, where only the products of the residuals were left."""
    kept = None if file is None else file.load()
    if not isinstance(kept, dict) or "found" not in kept:
        return None
    # A copy is aligned in memory as the run's own are, which BLAS's bits depend on.
    return _Found(**{**kept["found"], "vectors": kept["found"]["vectors"].clone().to(device)})


def _search(
    product: CurvatureProduct,
    ends: Sequence[tuple[str, int]],
    plans: Mapping[str, Plan],
    file: ResumeFile | None,
    progress: Callable[[int, int], None] | None,
    *,
    seed: int,
    max_iterations: int,
    **options: Any,
) -> _Found:
    """The vectors of both ends."""
    # Where both ends are looked at, the file holds those that are finished, and one beside it the state of the other.
    finished: list[dict[str, Any]] = (file.load() or []) if file is not None and len(ends) > 1 else []
    vectors = torch.zeros(0, product.dimension, dtype=torch.float64, device=product.device)
    iterations, scale, products = 0, 0.0, 0
    for number, (end, count) in enumerate(ends):
        part = file if file is None or len(ends) == 1 else file.beside(end)
        if number < len(finished):
            others, steps, norm = (finished[number][name] for name in ("vectors", "steps", "norm"))
            made = finished[number].get("products", 0)  # which older files are without
            # A copy is aligned in memory as the run's own are, which BLAS's bits depend on.
            others = others.clone().to(product.device)
        else:
            others, steps, norm, made = largest_eigenpairs(
                product if end == "upper" else _negated(product, vectors, 2 * scale or 1.0),  # 0: of a zero matrix
                product.dimension,
                count,
                max_iterations=max_iterations,
                generator=generator(seed, "hessian" if end == "upper" else "hessian-lower"),
                device=product.device,
                plan=plans[end],
                progress=_further(progress, number * max_iterations, len(ends) * max_iterations),
                resume=part,
                **options,
            )
            if number + 1 < len(ends):
                finished.append({"vectors": others.cpu(), "steps": steps, "norm": norm, "products": made})
                save_or_stop(file, lambda: finished)
            if part is not None and part is not file:
                part.remove()
        vectors = torch.cat([vectors, others]) if len(vectors) else others
        iterations, scale, products = iterations + steps, max(scale, norm), products + made
    del others
    vectors /= vectors.norm(dim=1, keepdim=True)
    for vector in vectors:
        vector *= vector[vector.abs().argmax()].sign()
    return _Found(vectors, iterations, scale, products)


def _ends(which: str, k: int, dimension: int) -> list[tuple[str, int]]:
    """The ends of the spectrum to look at, and how many eigenvalues at each."""
    counts = {"LA": (k, 0), "SA": (0, k), "LM": (k, min(k, dimension - k)), "BE": (k - k // 2, k // 2)}[which]
    return [(end, count) for end, count in zip(("upper", "lower"), counts, strict=True) if count]


def _negated(product: CurvatureProduct, known: Tensor, shift: float) -> Callable[[Tensor], Tensor]:
    """-H, with what is found already, [n, dimension], moved to its lower end, so that it is not found again."""

    def negated(vectors: Tensor) -> Tensor:
        if not len(known):
            return -product(vectors)
        vectors = vectors.double()
        parts = vectors @ known.T
        images = product(vectors - parts @ known)
        return -(images - (images @ known.T) @ known) - shift * parts @ known

    return negated


def _further(progress: Callable[[int, int], None] | None, first: int, most: int) -> Callable[[int, int], None] | None:
    """What is called with the steps of one run of several, the first of which is ``first``."""
    return None if progress is None else lambda done, _: progress(first + done, most)


def _order(eigenvalues: Tensor, which: str) -> Tensor:
    """The order in which eigenvalues are listed."""
    keys = {"SA": -eigenvalues, "LM": eigenvalues.abs()}.get(which, eigenvalues)
    return keys.argsort(descending=True, stable=True)
