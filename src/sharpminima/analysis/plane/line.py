"""The straight line between two minima: the loss barrier on it, and the Hessian's eigenvalues along it."""

import contextlib
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from sharpminima.analysis._inputs import check_images, given
from sharpminima.analysis._loss import Criterion, LossFunction, MeanLoss, of_images
from sharpminima.analysis._results import Result
from sharpminima.analysis.hessian.eigenvalues import hessian_eigenvalues
from sharpminima.analysis.hessian.operators import HessianVectorProduct, check_scaling
from sharpminima.analysis.plane._grid import SAME
from sharpminima.analysis.plane._plane import Plane, check_same_code
from sharpminima.analysis.plane.surface import loss_surface
from sharpminima.base.errors import AnalysisError
from sharpminima.base.numbers import check_number, check_whole, optional
from sharpminima.nets.batchnorm import recalibrate
from sharpminima.nets.modes import measuring
from sharpminima.nets.resume import ResumeFile, check_path, fingerprint_of, save_or_stop
from sharpminima.runtime.rng import generator

_KEPT = ("eigenvalues", "residuals", "converged", "hvps", "space", "dimension", "unit", "told")  # of a position
_BATCH = 250  # images a batch of those that BatchNorm's statistics, and the ends' losses, are taken from


@dataclass(frozen=True, eq=False, repr=False)
class LossBarrier(Result):
    """Loss and error along the line from one net (x = 0) to another (x = 1), on one set of images.

    The errors are NaN of other data than images with labels, and of losses of one's own.
    """

    drawn_by = "sharpminima.figures.results:barrier"

    x: Tensor  # float64 [points]
    loss: Tensor  # float64 [points]; mean cross-entropy, nats
    error: Tensor  # float64 [points]; top-1, percent
    loss_excess: Tensor  # float64 [points]; loss above the straight line between the ends' losses, nats
    error_excess: Tensor  # float64 [points]; error above that between the ends' errors, percent points
    barrier: float  # largest loss excess, nats; 0 where the loss lies nowhere above the straight line
    barrier_at: float  # the x of it
    error_barrier: float  # largest error excess, percent points
    error_barrier_at: float  # the x of it
    instability: float  # largest error less the mean of the ends', percent points (Frankle et al.)
    distance: float  # between the nets, Euclidean, over all parameters
    batch_norm: str = "nearer"  # of `BATCH_NORMS`: where BatchNorm's statistics came from
    unit: str = "nats"  # of the loss, where it is cross-entropy

    def _lines(self) -> tuple[str, str, str]:
        return (
            f"LossBarrier: {len(self.x)} points between nets {self.distance:.3g} apart (BatchNorm: {self.batch_norm})",
            f"barrier {self.barrier:.4g} {self.unit} at x = {self.barrier_at:.3g}",
            "no errors, which are those of images with labels"
            if math.isnan(self.error_barrier)
            else f"error {self.error_barrier:.3g} percent points at x = {self.error_barrier_at:.3g}; "
            f"instability {self.instability:.3g}",
        )

    def _columns(self) -> dict[str, Any]:
        names = ("x", "loss", "error", "loss_excess", "error_excess")
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True, eq=False, repr=False)
class LineEigenvalues(Result):
    """The k largest eigenvalues of the Hessian along the line from one net (x = 0) to another (x = 1)."""

    drawn_by = "sharpminima.figures.results:line"

    x: Tensor  # float64 [points]
    eigenvalues: Tensor  # float64 [points, k], largest first; nats
    residuals: Tensor  # float64 [points, k], as of `HessianEigenvalues`
    converged: Tensor  # bool [points, k]
    hvps: int  # Hessian-vector products in all
    space: str  # "all" parameters or the "surviving" ones
    dimension: int  # parameters in that space
    scaling: str | None  # the coordinates, as of `hessian_eigenvalues`
    distance: float  # between the nets, Euclidean, over all parameters
    batch_norm: str = "nearer"  # of `BATCH_NORMS`: where BatchNorm's statistics came from
    unit: str = "nats"  # of the loss, where it is cross-entropy

    def _lines(self) -> tuple[str, str, str]:
        failed = int((~self.converged).sum())
        return (
            f"LineEigenvalues: the {self.eigenvalues.shape[1]} largest at {len(self.x)} points between nets "
            f"{self.distance:.3g} apart",
            f"largest from {float(self.eigenvalues[:, 0].min()):.4g} to {float(self.eigenvalues[:, 0].max()):.4g} "
            f"{self.unit}",
            f"{failed or 'none'} not converged; {self.hvps} products over {self.dimension:,} parameters ({self.space})",
        )

    def _columns(self) -> dict[str, Any]:
        points, ranks = self.eigenvalues.shape
        return {
            "x": self.x.repeat_interleave(ranks),
            "rank": list(range(1, ranks + 1)) * points,
            "eigenvalue": self.eigenvalues.flatten(),
            "residual": self.residuals.flatten(),
            "converged": self.converged.flatten(),
        }


def loss_barrier(
    center: nn.Module,
    target: nn.Module,
    images: Any,
    labels: Any = None,
    *,
    criterion: Criterion | None = None,
    loss_fn: LossFunction | None = None,
    points: int = 41,
    masks: Mapping[str, Tensor] | None = None,
    batch_size: int = 250,
    batch_norm: str = "nearer",
    progress: Callable[[int, int], None] | None = None,
    resume: str | os.PathLike[str] | None = None,
) -> LossBarrier:
    """The loss barrier between two nets, and the error of their linear mode connectivity.

    At each of ``points`` even positions on the straight line: the loss less what the line between the ends' losses
    has there; the barrier is the largest such excess, and likewise for the error (Frankle, Dziugaite, Roy, Carbin,
    "Linear mode connectivity and the lottery ticket hypothesis", ICML 2020; they subtract the mean of the ends'
    errors, which is ``instability``). BatchNorm's running statistics are by default those of the nearer end (`Plane`),
    as in the study of the paper; they decide the barrier of a net with BatchNorm.

    Args:
        center, target: two nets of the same code and parameters; they are not modified.
        images, labels, criterion, loss_fn: of the training set, the test set, ..., as for `loss_surface`.
        points: positions, both ends among them; at least 3.
        masks: of both nets; the loss is then computed without the units that they leave without weights.
        batch_size, batch_norm, progress, resume: as for `loss_surface`.

    Raises:
        AnalysisError: fewer than 3 points; else as `loss_surface`.
        CheckpointError, Stopped: as `loss_surface`.

    >>> g, s = (nn.Sequential(nn.Flatten(), nn.Linear(4, 2)) for _ in range(2))
    >>> barrier = loss_barrier(g, s, torch.randn(6, 1, 2, 2), torch.tensor([0, 1, 0, 1, 0, 1]), points=5)
    >>> round(barrier.barrier, 6)  # the loss of a linear net is convex
    0.0
    """
    points = check_whole("points", points)
    if points < 3:
        raise AnalysisError(f"points is {points}; a barrier lies between the ends, so give at least 3")
    line = loss_surface(
        center,
        target,
        images,
        labels,
        criterion=criterion,
        loss_fn=loss_fn,
        grid=(points, 1),
        span=(0.0, 1.0),
        masks=masks,
        measures=("loss", "error") if of_images(images, labels, criterion, loss_fn) else ("loss",),
        batch_size=batch_size,
        batch_norm=batch_norm,
        progress=progress,
        resume=resume,
    )
    loss = line.values["loss"][0]
    error = line.values["error"][0] if "error" in line.values else torch.full_like(loss, math.nan)
    excess = [values - ((1 - line.x) * values[0] + line.x * values[-1]) for values in (loss, error)]
    highest = [int(values.argmax()) for values in excess]
    return LossBarrier(
        x=line.x,
        loss=loss,
        error=error,
        loss_excess=excess[0],
        error_excess=excess[1],
        barrier=float(excess[0][highest[0]]),
        barrier_at=float(line.x[highest[0]]),
        error_barrier=float(excess[1][highest[1]]),
        error_barrier_at=float(line.x[highest[1]]) if "error" in line.values else math.nan,
        instability=float(error.max() - (error[0] + error[-1]) / 2),
        distance=line.distance,
        batch_norm=batch_norm,
        unit=line.unit,
    )


@measuring(gradients=True)
def hessian_along_line(
    center: nn.Module,
    target: nn.Module,
    images: Any,
    labels: Any = None,
    *,
    criterion: Criterion | None = None,
    loss_fn: LossFunction | None = None,
    points: int = 11,
    k: int = 5,
    masks: Mapping[str, Tensor] | None = None,
    tol: float = 1e-4,
    seed: int = 0,
    scaling: str | None = None,
    dtype: torch.dtype | None = None,
    batch_size: int | None = None,
    block_size: int | None = None,
    max_iterations: int = 500,
    basis: torch.dtype | None = None,
    memory: float | None = None,
    batch_norm: str = "nearer",
    progress: Callable[[int, int], None] | None = None,
    resume: str | os.PathLike[str] | None = None,
) -> LineEigenvalues:
    """The ``k`` largest eigenvalues of the Hessian at even positions on the line from ``center`` to ``target``.

    The first and the last are those of the nets themselves, unless ``batch_norm`` is "recalibrated". BatchNorm's
    running statistics are by default those of the nearer end (`Plane`).

    Args:
        center, target: two nets of the same code and parameters; they are not modified.
        points: positions, both ends among them; at least 2.
        masks: of both nets; then the Hessian over the surviving parameters only.
        images, labels, criterion, loss_fn, k, tol, seed, scaling: as for `hessian_eigenvalues`.
        dtype, batch_size, block_size, max_iterations, basis, memory: as there.
        batch_norm: as for `loss_surface`.
        progress: called with (positions done, positions in all).
        resume: a file for the finished positions, written after each, and removed at the end. A call with the same
            arguments goes on from it, to the same bits; a file of other arguments is ignored, and written over, one
            that is no resume file is refused.

    Raises:
        AnalysisError: fewer than 2 points; a target whose outputs are others in the center's code; else as `Plane` and
            `hessian_eigenvalues`.
        CheckpointError: as `loss_surface`.
        Stopped: SIGTERM came (where `sharpminima.base.stop` catches it).

    >>> g, s = (nn.Sequential(nn.Flatten(), nn.Linear(4, 2)) for _ in range(2))
    >>> line = hessian_along_line(g, s, torch.ones(2, 1, 2, 2), torch.tensor([0, 1]), points=3, k=2)
    >>> line.eigenvalues.shape, bool((line.eigenvalues[:, 0] <= 2.5).all())  # 2.5 where both classes are as likely
    (torch.Size([3, 2]), True)
    """
    points = check_whole("points", points)
    if points < 2:
        raise AnalysisError(f"points is {points}; the ends are two, so give at least 2")
    check_scaling(scaling)
    if resume is not None:
        check_path(resume)
    settings: dict[str, Any] = {"k": check_whole("k", k), "tol": check_number("tol", tol), "scaling": scaling}
    settings |= {"seed": check_whole("seed", seed), "max_iterations": check_whole("max_iterations", max_iterations)}
    sizes: dict[str, Any] = {"block_size": optional(check_whole, "block_size", block_size)}
    sizes["batch_size"] = batch_size = optional(check_whole, "batch_size", batch_size, least=1)
    memory = optional(check_number, "memory", memory)
    has_images = of_images(images, labels, criterion, loss_fn)
    if has_images:
        images, labels = check_images(images, labels)
    plane = Plane(center, target, masks=masks, batch_norm=batch_norm)
    loss = MeanLoss(center, images, labels, criterion=criterion, loss_fn=loss_fn, batch_size=batch_size)
    loss.check(target)
    check_same_code(plane, target, loss.few_outputs)
    file = None
    if resume is not None:
        facts: dict[str, Any] = {
            "of": "hessian_along_line",
            "kept": _KEPT,
            "points": points,
            "masks": sorted(masks or {}),
            "dtype": str(dtype),
        }
        if batch_norm != "nearer":
            facts["batch_norm"] = batch_norm
        facts |= given(memory=memory, basis=None if basis is None else str(basis))
        tensors = [*plane.tensors(), *(mask for _, mask in sorted((masks or {}).items()))]
        # The code of the nets, and a loss of one's own, are known by what they give: here, and at the positions.
        facts["ends"] = [loss.mean(model, batch_size or _BATCH) for model in (center, target)]
        tensors += (output for model in (center, target) for output in loss.few_outputs(model))
        tensors += loss.tensors()
        file = ResumeFile(resume, fingerprint=fingerprint_of({**settings, **sizes, **facts}, tensors))
    xs = torch.linspace(0, 1, points, dtype=torch.float64)
    of: dict[str, Any] = {"criterion": criterion, "loss_fn": loss_fn, "masks": masks, "dtype": dtype}

    def model_at(number: int) -> nn.Module:
        model = plane.model_at(float(xs[number]))
        if batch_norm == "recalibrated":
            if has_images:
                recalibrate(model, images, batch_size or _BATCH)
            else:
                loss.recalibrate(model, batch_size or _BATCH)
        return model

    def told_by(model: nn.Module) -> list[float]:
        return _told_by(HessianVectorProduct(model, images, labels, batch_size=batch_size, **of))

    done: list[dict[str, Any]] = [] if file is None else file.load() or []
    for number, point in enumerate(done):
        with _named(float(xs[number])):
            if not _are_same(point["told"], told_by(model_at(number))):
                done = []
                break
    for number in range(len(done), points):
        with _named(float(xs[number])):
            model = model_at(number)
            spectrum = hessian_eigenvalues(model, images, labels, basis=basis, memory=memory, **of, **settings, **sizes)
            told = [] if file is None else told_by(model)
        done.append({"told": told, **{name: getattr(spectrum, name) for name in _KEPT if name != "told"}})
        if progress:
            progress(number + 1, points)
        save_or_stop(file, lambda: done)
    if file is not None:
        file.remove()
    return LineEigenvalues(
        x=xs,
        eigenvalues=torch.stack([point["eigenvalues"] for point in done]),
        residuals=torch.stack([point["residuals"] for point in done]),
        converged=torch.stack([point["converged"] for point in done]),
        hvps=sum(point["hvps"] for point in done),
        space=done[0]["space"],
        dimension=done[0]["dimension"],
        scaling=scaling,
        distance=plane.distance,
        batch_norm=batch_norm,
        unit=done[0]["unit"],
    )


@contextlib.contextmanager
def _named(x: float) -> Iterator[None]:
    """Say in an error where on the line it was.

    Raises:
        AnalysisError: as the body's.
    """
    try:
        yield
    except AnalysisError as error:
        raise AnalysisError(f"at x = {x:g} of the line: {error}") from error


def _told_by(product: HessianVectorProduct) -> list[float]:
    """What tells one Hessian from another, without its eigenvalues: two numbers of its product with a random vector.

    Two losses may be one at the ends, and two between them.
    """
    draws = generator(0, "what tells a Hessian")
    vector = torch.randn(product.dimension, generator=draws, dtype=torch.float64).to(product.device)
    image = product(vector)
    return [float(vector @ image), float(image.norm())]


def _are_same(told: Sequence[float], again: Sequence[float]) -> bool:
    """Whether two Hessians are one but for rounding, by what `_told_by` gives of each."""
    scale = max(told[1], again[1])  # of v.Hv too, which may cancel
    return all(abs(one - other) <= SAME * scale for one, other in zip(told, again, strict=True))
