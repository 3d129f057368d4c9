"""The diagonal of the Hessian and other matrices of curvature, exact or by random probes, with errors."""

import math
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from sharpminima.analysis._loss import Criterion, LossFunction
from sharpminima.analysis._results import Result
from sharpminima.analysis.hessian._steps import Steps
from sharpminima.analysis.hessian.operators import TOGETHER, by_parameter, operator_of, signs_for
from sharpminima.base.errors import AnalysisError
from sharpminima.base.numbers import check_whole, optional
from sharpminima.nets.modes import measuring
from sharpminima.nets.resume import ResumeFile, check_path
from sharpminima.runtime.rng import generator

METHODS = ("exact", "hutchinson")
"""Ways to a diagonal: with every derivative that it takes, or from products with random signs."""


@dataclass(frozen=True, eq=False, repr=False)
class HessianDiagonal(Result):
    """The diagonal of a matrix of curvature; P parameters, ordered as ``named_parameters``."""

    drawn_by = "sharpminima.figures.results:diagonal"

    diagonal: Tensor  # float64 [P]; 0 where the matrix has no row; in units of the loss, nats of cross-entropy
    standard_error: Tensor  # float64 [P]; of each entry, from the spread of the probes; 0 of an exact diagonal
    method: str  # "exact" or "hutchinson"
    probes: int  # random vectors; 0 of an exact diagonal
    hvps: int  # products with vectors
    space: str  # "all" parameters, the "surviving" ones, or layers that were "chosen"
    dimension: int  # parameters in that space
    scaling: str | None  # the coordinates, as of `hessian_eigenvalues`
    matrix: str = "hessian"  # of `MATRICES`
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)  # of the P parameters, by name
    unit: str = "nats"  # of the loss, where it is cross-entropy

    def __post_init__(self) -> None:
        # Files hold lists.
        object.__setattr__(self, "shapes", {name: tuple(shape) for name, shape in self.shapes.items()})

    def by_parameter(self) -> dict[str, Tensor]:
        """The diagonal by parameter: name -> float64, of its shape."""
        return by_parameter(self.diagonal, self.shapes)

    def _lines(self) -> tuple[str, str, str]:
        kind = self.method + ("" if self.matrix == "hessian" else f", of {self.matrix}")
        lowest, highest = float(self.diagonal.min()), float(self.diagonal.max())
        sure = "no error" if self.method == "exact" else f"standard errors up to {float(self.standard_error.max()):.1e}"
        return (
            f"HessianDiagonal: {kind}, over {self.dimension:,} parameters ({self.space})",
            f"entries from {lowest:.4g} to {highest:.4g}, sum {float(self.diagonal.sum()):.4g} {self.unit}",
            f"{sure}; {self.hvps} products",
        )

    def _columns(self) -> dict[str, Any]:
        sizes = {name: math.prod(shape) for name, shape in self.shapes.items()}
        return {
            "parameter": [name for name, size in sizes.items() for _ in range(size)],
            "index": [index for size in sizes.values() for index in range(size)],
            "diagonal": self.diagonal,
            "standard_error": self.standard_error,
        }


@measuring(gradients=True)
def hessian_diagonal(
    model: nn.Module,
    images: Any,
    labels: Any = None,
    *,
    matrix: str = "hessian",
    method: str | None = None,
    probes: int = 60,
    criterion: Criterion | None = None,
    loss_fn: LossFunction | None = None,
    masks: Mapping[str, Tensor] | None = None,
    parameters: str | Iterable[str] | None = None,
    seed: int = 0,
    scaling: str | None = None,
    dtype: torch.dtype | None = None,
    batch_size: int | None = None,
    progress: Callable[[int, int], None] | None = None,
    resume: str | os.PathLike[str] | None = None,
) -> HessianDiagonal:
    """The diagonal of the Hessian of the mean loss on ``images``, or of another matrix of curvature.

    Exact for the Gauss-Newton and the empirical Fisher matrix: a backward pass for each sample and output, or each
    sample. For the Hessian the mean over random signs s of s times H s, entry by entry, which is unbiased (Bekas,
    Kokiopoulou, Saad, "An estimator for the diagonal of a matrix", 2007, after Hutchinson, 1990); exactly it takes a
    product for each parameter.

    Args:
        model, images, labels, matrix, criterion, loss_fn, masks, parameters, scaling, dtype, batch_size: as for
            `hessian_eigenvalues`.
        method: "exact" or "hutchinson"; None: hutchinson for the Hessian, exact for the others.
        probes: random vectors of hutchinson, at least 2.
        seed: of the probes.
        progress: called with (done, in all): probes, or for an exact diagonal samples, of the Hessian parameters.
        resume: a file for the sums so far, written every minute and on SIGTERM, and removed at the end. A call with the
            same arguments goes on from it, to the same bits; a file of other arguments is ignored.

    Memory: three vectors of the space's dimension in float64 and four of a pass, and a batch's graph; an exact
    Gauss-Newton or Fisher diagonal 16 million derivatives more, or those of one sample's output.

    Raises:
        AnalysisError: a method that is not offered; fewer than 2 probes; an exact diagonal of a loss that is not the
            mean of its samples', or of more than 4,096 outputs a sample; else as `hessian_eigenvalues`.
        CheckpointError: ``resume`` is a file of others, a folder, ...
        Stopped: SIGTERM came (where `sharpminima.base.stop` catches it).

    >>> net = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    >>> _ = [nn.init.zeros_(parameter) for parameter in net.parameters()]
    >>> curvature = hessian_diagonal(net, torch.ones(2, 1, 2, 2), torch.tensor([0, 1]), matrix="gauss_newton")
    >>> curvature.by_parameter()["1.bias"]  # p (1 - p) of two classes
    tensor([0.2500, 0.2500], dtype=torch.float64)
    """
    probes, seed = check_whole("probes", probes, least=2), check_whole("seed", seed)
    batch_size = optional(check_whole, "batch_size", batch_size, least=1)
    if resume is not None:
        check_path(resume)
    if method is not None and method not in METHODS:
        raise AnalysisError(f"there is no method {method!r}; there are {', '.join(METHODS)}")
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
    if method is None:
        method = "hutchinson" if matrix == "hessian" else "exact"
    file = None
    if resume is not None:
        facts = {"of": "hessian_diagonal", "method": method, "probes": probes, "seed": seed, "dtype": str(dtype)}
        file = ResumeFile(resume, fingerprint=product.fingerprint(model, masks, {**facts, "batch_size": batch_size}))
    steps = Steps(progress, file)
    if method == "exact":
        diagonal, error, probes = product.diagonal(steps), torch.zeros(product.dimension, dtype=torch.float64), 0
    else:
        # Mean and squares about it (Welford), so that no probe has to be kept.
        draws = generator(seed, "hessian-diagonal")
        zeros = torch.zeros(2, product.dimension, dtype=torch.float64, device=product.device)
        moments, done = steps.begin(zeros)
        product.calls += done
        diagonal, spread = moments
        for first in range(0, probes, TOGETHER):
            count = min(TOGETHER, probes - first)
            signs = signs_for(count, product, draws)
            if first < done:
                continue
            with steps.kept(moments, first):
                images = product(signs)
            for number, entries in enumerate(signs * images, first + 1):
                change = entries - diagonal
                diagonal += change / number
                spread += change * (entries - diagonal)
            steps.after(moments, first + count, probes)
        error = (spread / (probes - 1)).sqrt() / math.sqrt(probes)
    steps.end()
    return HessianDiagonal(
        diagonal=product.expand(diagonal).cpu(),
        standard_error=product.expand(error.to(product.device)).cpu(),
        method=method,
        probes=probes,
        hvps=product.calls,
        space=product.space,
        dimension=product.dimension,
        scaling=scaling,
        matrix=matrix,
        shapes=product.shapes,
        unit=product.unit,
    )
