"""The straight line between two minima: the loss barrier on it, and the Hessian's eigenvalues along it."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from sharpminima.analysis._inputs import check_whole
from sharpminima.analysis.hessian.eigenvalues import hessian_eigenvalues
from sharpminima.analysis.plane.surface import Plane, loss_surface
from sharpminima.base.errors import AnalysisError
from sharpminima.nets.modes import measuring
from sharpminima.nets.resume import ResumeFile, fingerprint_of, save_or_stop


@dataclass(frozen=True, eq=False)
class LossBarrier:
    """Loss and error along the line from one net (x = 0) to another (x = 1), on one set of images."""

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


@dataclass(frozen=True, eq=False)
class LineEigenvalues:
    """The k largest eigenvalues of the Hessian along the line from one net (x = 0) to another (x = 1)."""

    x: Tensor  # float64 [points]
    eigenvalues: Tensor  # float64 [points, k], largest first; nats
    residuals: Tensor  # float64 [points, k], as of `HessianEigenvalues`
    converged: Tensor  # bool [points, k]
    hvps: int  # Hessian-vector products in all
    space: str  # "all" parameters or the "surviving" ones
    dimension: int  # parameters in that space
    scaling: str | None  # the coordinates, as of `hessian_eigenvalues`
    distance: float  # between the nets, Euclidean, over all parameters


def loss_barrier(
    center: nn.Module,
    target: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    points: int = 41,
    masks: Mapping[str, Tensor] | None = None,
    batch_size: int = 250,
    progress: Callable[[int, int], None] | None = None,
    resume: str | os.PathLike[str] | None = None,
) -> LossBarrier:
    """The loss barrier between two nets, and the error of their linear mode connectivity.

    At each of ``points`` even positions on the straight line: the loss less what the line between the ends' losses
    has there; the barrier is the largest such excess, and likewise for the error (Frankle, Dziugaite, Roy, Carbin,
    "Linear mode connectivity and the lottery ticket hypothesis", ICML 2020; they subtract the mean of the ends'
    errors, which is ``instability``). BatchNorm's running statistics are those of the nearer end (`Plane`).

    Args:
        center, target: two nets of the same parameters; they are not modified.
        images, labels: of the training set, the test set, ..., as for `loss_surface`.
        points: positions, both ends among them; at least 3.
        masks: of both nets; the loss is then computed without the units that they leave without weights.
        batch_size, progress, resume: as for `loss_surface`.

    Raises:
        AnalysisError: fewer than 3 points; else as `loss_surface`.
        Stopped: as `loss_surface`.

    >>> g, s = (nn.Sequential(nn.Flatten(), nn.Linear(4, 2)) for _ in range(2))
    >>> found = loss_barrier(g, s, torch.randn(6, 1, 2, 2), torch.tensor([0, 1, 0, 1, 0, 1]), points=5)
    >>> round(found.barrier, 6)  # the loss of a linear net is convex
    0.0
    """
    check_whole(points=points)
    if points < 3:
        raise AnalysisError(f"points is {points}; a barrier lies between the ends, so give at least 3")
    found = loss_surface(
        center,
        target,
        images,
        labels,
        grid=(points, 1),
        span=(0.0, 1.0),
        masks=masks,
        measures=("loss", "error"),
        batch_size=batch_size,
        progress=progress,
        resume=resume,
    )
    loss, error = found.values["loss"][0], found.values["error"][0]
    excess = [values - ((1 - found.x) * values[0] + found.x * values[-1]) for values in (loss, error)]
    highest = [int(values.argmax()) for values in excess]
    return LossBarrier(
        x=found.x,
        loss=loss,
        error=error,
        loss_excess=excess[0],
        error_excess=excess[1],
        barrier=float(excess[0][highest[0]]),
        barrier_at=float(found.x[highest[0]]),
        error_barrier=float(excess[1][highest[1]]),
        error_barrier_at=float(found.x[highest[1]]),
        instability=float(error.max() - (error[0] + error[-1]) / 2),
        distance=found.distance,
    )


@measuring(gradients=True)
def hessian_along_line(
    center: nn.Module,
    target: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
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
    progress: Callable[[int, int], None] | None = None,
    resume: str | os.PathLike[str] | None = None,
) -> LineEigenvalues:
    """The ``k`` largest eigenvalues of the Hessian at even positions on the line from ``center`` to ``target``.

    The first and the last are those of the nets themselves. BatchNorm's running statistics are those of the nearer
    end (`Plane`).

    Args:
        center, target: two nets of the same parameters; they are not modified.
        points: positions, both ends among them; at least 2.
        masks: of both nets; then the Hessian over the surviving parameters only.
        images, labels, k, tol, seed, scaling, dtype, batch_size, block_size, max_iterations: as for
            `hessian_eigenvalues`.
        progress: called with (positions done, positions in all).
        resume: a file for the finished positions, written after each, and removed at the end. A call with the same
            arguments goes on from it, to the same bits; a file of other arguments is ignored.

    Raises:
        AnalysisError: fewer than 2 points; else as `Plane` and `hessian_eigenvalues`.
        Stopped: SIGTERM came (where `sharpminima.base.stop` catches it).

    >>> g, s = (nn.Sequential(nn.Flatten(), nn.Linear(4, 2)) for _ in range(2))
    >>> found = hessian_along_line(g, s, torch.ones(2, 1, 2, 2), torch.tensor([0, 1]), points=3, k=2)
    >>> found.eigenvalues.shape, bool((found.eigenvalues[:, 0] <= 2.5).all())  # 2.5 where both classes are as likely
    (torch.Size([3, 2]), True)
    """
    check_whole(points=points)
    if points < 2:
        raise AnalysisError(f"points is {points}; the ends are two, so give at least 2")
    plane = Plane(center, target, masks=masks)
    settings: dict[str, Any] = {"k": k, "tol": tol, "seed": seed, "scaling": scaling, "max_iterations": max_iterations}
    sizes: dict[str, Any] = {"batch_size": batch_size, "block_size": block_size}
    file = None
    if resume is not None:
        facts = {"of": "hessian_along_line", "points": points, "masks": sorted(masks or {}), "dtype": str(dtype)}
        tensors = [*plane.tensors(), *(mask for _, mask in sorted((masks or {}).items())), images, labels]
        file = ResumeFile(resume, fingerprint=fingerprint_of({**settings, **sizes, **facts}, tensors))
    xs = torch.linspace(0, 1, points, dtype=torch.float64)
    done: list[dict[str, Any]] = [] if file is None else file.load() or []
    for number in range(len(done), points):
        model = plane.model_at(float(xs[number]))
        try:
            found = hessian_eigenvalues(model, images, labels, masks=masks, dtype=dtype, **settings, **sizes)
        except AnalysisError as error:
            raise AnalysisError(f"at x = {float(xs[number]):g} of the line: {error}") from error
        kept = ("eigenvalues", "residuals", "converged", "hvps", "space", "dimension")
        done.append({name: getattr(found, name) for name in kept})
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
    )
