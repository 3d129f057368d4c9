"""Loss surface and PSP-entropy in a plane through two minima, or around one.

Tartaglione et al., ICANN 2020, Fig. 2-4: between the gradually pruned net G and the one-shot net 1-S.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from sharpminima.analysis._inputs import check_model, surviving
from sharpminima.analysis._loss import Criterion, LossFunction
from sharpminima.analysis.hessian.eigenvalues import hessian_eigenvalues
from sharpminima.analysis.plane._grid import LossSurface, measured
from sharpminima.analysis.plane._meter import Data, Settings
from sharpminima.analysis.plane._plane import Direction, Plane, check_same_code
from sharpminima.base.errors import AnalysisError
from sharpminima.nets.activations import Activations
from sharpminima.nets.masks import checked_masks
from sharpminima.nets.modes import measuring
from sharpminima.runtime.rng import generator

DIRECTIONS = ("random", "eigenvectors")
"""Axes of a surface around one net: random and filter-normalised, or the two first eigenvectors of the Hessian."""
_USUAL = ("loss", "error", "psp_norm", "psp_entropy_1", "psp_entropy_2")


@measuring(gradients=False)
def loss_surface(
    center: nn.Module,
    target: nn.Module,
    images: Any,
    labels: Any = None,
    *,
    criterion: Criterion | None = None,
    loss_fn: LossFunction | None = None,
    grid: tuple[int, int] = (51, 51),
    span: tuple[float, float] = (-0.5, 1.5),
    masks: Mapping[str, Tensor] | None = None,
    seed: int = 0,
    definition: str = "joint",
    measures: Sequence[str] | None = None,
    batch_size: int = 250,
    activations: Activations = "relu",
    samples: int | None = None,
    batch_norm: str = "nearer",
    progress: Callable[[int, int], None] | None = None,
    resume: str | os.PathLike[str] | None = None,
    save_every_s: float = 60.0,
) -> LossSurface:
    """Loss, error, PSP norm and PSP-entropies on a grid in the plane through two minima.

    The origin is ``center`` (G), the first axis ends in ``target`` (1-S), the second is random; see `Plane`,
    also for BatchNorm's running statistics, which by default come from the nearer end along the first axis. Every
    point takes one pass over the data, the points one by one: on a CPU, several at once (vmap) take twice as long.
    In a masked plane, units without any surviving weight or bias are not computed: their pre-activations are 0
    everywhere, and they enter the measures in closed form. The ends are measured by the whole nets.

    Not every grid holds the two ends (51 points over -0.5 ... 1.5 do not, 41 do): their own values are always in
    ``center_values`` and ``target_values``.

    Args:
        center, target: two nets of the same code and parameters; they are not modified.
        images, labels, batch_size, activations: as for `psp_statistics`; for the loss alone, whatever
            `hessian_eigenvalues` takes, batches among them.
        criterion, loss_fn: a loss of yours, as for `hessian_eigenvalues`.
        grid: points along x and along y. One point along an axis is the coordinate 0: (51, 1) is the line.
        span: first and last coordinate, of both axes.
        masks: parameter name -> tensor of 0 and 1; then all points keep removed weights at zero. None: the
            random direction moves every parameter.
        seed: of the random direction.
        definition: of order 2, "joint" or "agreement".
        measures: names from `MEASURES`. None: loss, error, PSP norm and PSP-entropies of orders 1 and 2 of images
            [N, C, H, W] with labels [N]; the loss, which is all that there is, of other data and losses.
        samples: pairs to draw where a layer has too many of them, as for `psp_entropy`.
        batch_norm: of `BATCH_NORMS`. What is "recalibrated" is so at every point of the grid, the ends too: the mean of
            the statistics of batches (near ``batch_size``) of the given images, as in training; ``center_values`` and
            ``target_values`` keep the ends' own.
        progress: called with (points done, points in all) after each point of the grid.
        resume: a file for the finished points, written now and then and on SIGTERM, and removed at the end. A call
            with the same arguments goes on from it, to the same bits; a file of other arguments is ignored, and written
            over, one that is no resume file is refused.
        save_every_s: seconds between two writes of it.

    Raises:
        AnalysisError: as for `Plane` and `psp_statistics` (classes without images and nets without ReLU only where
            PSP measures are asked for); a target whose outputs are others in the center's code; a measure or definition
            that is not offered; a grid below 1 or a span that does not rise; a measure that is not finite.
        CheckpointError: ``resume`` is a file of others, a folder, ...
        Stopped: SIGTERM came (where `sharpminima.base.stop` catches it).

    >>> g, s = (nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)) for _ in range(2))
    >>> images, labels = torch.randn(6, 1, 2, 2), torch.tensor([0, 1, 0, 1, 0, 1])
    >>> surface = loss_surface(g, s, images, labels, grid=(5, 3), measures=("loss",))
    >>> surface.values["loss"].shape, surface.x.tolist()
    (torch.Size([3, 5]), [-0.5, 0.0, 0.5, 1.0, 1.5])
    >>> batches = [(images, torch.zeros(6, 2))]
    >>> surface = loss_surface(g, s, batches, criterion=nn.MSELoss(), grid=(5, 1))
    >>> list(surface.values), bool((surface.values["loss"] > 0).all())
    (['loss'], True)
    """
    how = Settings(
        grid, span, masks, seed, definition, batch_size, activations, samples, progress, resume, save_every_s
    )
    data = Data.of(
        center,
        images,
        labels,
        criterion=criterion,
        loss_fn=loss_fn,
        measures=measures,
        usual=_USUAL,
        batch_size=how.batch_size,
    )
    plane = Plane(center, target, masks=masks, seed=how.seed, batch_norm=batch_norm)
    if data.loss is None:
        check_model(target, data.images)
    else:
        data.loss.check(target)
    check_same_code(plane, target, data.few_outputs)
    return measured(plane, "target", data, how)


@measuring(gradients=False)
def loss_surface_around(
    model: nn.Module,
    images: Any,
    labels: Any = None,
    *,
    criterion: Criterion | None = None,
    loss_fn: LossFunction | None = None,
    directions: str | Sequence[Direction] = "random",
    grid: tuple[int, int] = (51, 51),
    span: tuple[float, float] = (-1.0, 1.0),
    masks: Mapping[str, Tensor] | None = None,
    seed: int = 0,
    definition: str = "joint",
    measures: Sequence[str] | None = None,
    batch_size: int = 250,
    activations: Activations = "relu",
    samples: int | None = None,
    batch_norm: str = "nearer",
    memory: float | None = None,
    progress: Callable[[int, int], None] | None = None,
    resume: str | os.PathLike[str] | None = None,
    save_every_s: float = 60.0,
) -> LossSurface:
    """The measures of `loss_surface` in a plane through one net, which lies at (0, 0).

    Args:
        model: the net; it is not modified.
        directions: what x and y go along, in units of the directions as they are.

            - "random": normal entries, each filter (a row of a weight) scaled to the length of the net's own, biases
              and BatchNorm's parameters left as they are: Li, Xu, Taylor, Studer, Goldstein, "Visualizing the loss
              landscape of neural nets", NeurIPS 2018.
            - "eigenvectors": the first two of `hessian_eigenvalues` of the same loss, on the same data, of length 1.
            - two tensors [P] or dicts by parameter name, as given; one is enough for a grid of (points, 1).
        images, labels, criterion, loss_fn, grid, definition, batch_size, activations, samples: as for `loss_surface`.
        measures: names from `MEASURES`. None: loss and error, or the loss where that is all that there is.
        span: first and last coordinate, of both axes.
        masks: parameter name -> tensor of 0 and 1; random directions and eigenvectors keep removed weights at zero.
        seed: of random directions, and of the eigenvectors' start.
        batch_norm: "nearer" (the net's own statistics) or "recalibrated", as for `loss_surface`.
        memory: bytes of the Lanczos basis that eigenvectors take, as for `hessian_eigenvalues`.
        progress, resume, save_every_s: as for `loss_surface`.

    Raises:
        AnalysisError: as `loss_surface` and `Plane.around`; directions that are not offered; given ones that move
            weights that the masks remove.
        CheckpointError, Stopped: as `loss_surface`.

    >>> net = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    >>> images, labels = torch.randn(6, 1, 2, 2), torch.tensor([0, 1, 0, 1, 0, 1])
    >>> surface = loss_surface_around(net, images, labels, grid=(5, 3))
    >>> surface.values["loss"].shape, float(surface.values["loss"][1, 2]) == surface.center_values["loss"]
    (torch.Size([3, 5]), True)
    """
    how = Settings(
        grid, span, masks, seed, definition, batch_size, activations, samples, progress, resume, save_every_s
    )
    data = Data.of(
        model,
        images,
        labels,
        criterion=criterion,
        loss_fn=loss_fn,
        measures=measures,
        usual=("loss", "error"),
        batch_size=how.batch_size,
    )
    survivors = surviving(model, masks)
    if torch.cat([parameter.flatten() for parameter in model.parameters()])[~survivors].any():
        raise AnalysisError("the model has weights other than zero where the masks remove them")
    options = {"criterion": criterion, "loss_fn": loss_fn, "memory": memory}
    axes = _axes(model, (images, labels), options, directions, masks, how.seed, how.grid)
    plane = Plane.around(model, *axes, batch_norm=batch_norm)
    for axis, which in zip(plane.axes(), ("first", "second"), strict=True):
        if axis[~survivors].any():
            raise AnalysisError(f"the {which} direction moves weights that the masks remove; set it to 0 there")
    return measured(plane, directions if isinstance(directions, str) else "given", data, how)


def _axes(
    model: nn.Module,
    data: tuple[Any, Any],
    options: dict[str, Any],
    directions: str | Sequence[Direction],
    masks: Mapping[str, Tensor] | None,
    seed: int,
    grid: tuple[int, int],
) -> Sequence[Direction]:
    """The directions of `loss_surface_around`."""
    if directions == "random":
        return [_filter_normalised(model, masks, seed, axis) for axis in range(2)]
    if directions == "eigenvectors":
        spectrum = hessian_eigenvalues(model, *data, **options, k=2, masks=masks, seed=seed)
        if not spectrum.converged.all():
            raise AnalysisError("the first two eigenvectors did not converge; find them yourself and give them")
        return list(spectrum.eigenvectors)
    given = None if isinstance(directions, str) else directions
    if not isinstance(given, Sequence) or len(given) not in (1, 2):
        offered = ", ".join(map(repr, DIRECTIONS))
        raise AnalysisError(f"directions are {directions!r}; there are {offered}, or give two tensors or dicts")
    if len(given) == 1 and grid[1] > 1:
        raise AnalysisError(f"a grid of {grid[0]} x {grid[1]} points takes two directions; one was given")
    return given


def _filter_normalised(model: nn.Module, masks: Mapping[str, Tensor] | None, seed: int, axis: int) -> Direction:
    """A random direction whose filters have the lengths of the model's; 0 for what has one dimension."""
    draws = generator(seed, "surface around", axis)
    kept = checked_masks(masks or {}, dict(model.named_parameters()))
    direction = {}
    for name, parameter in model.named_parameters():
        if parameter.dim() < 2:
            continue
        part = torch.randn(parameter.shape, generator=draws, dtype=torch.float64).to(parameter.device)
        part = (part * kept[name] if name in kept else part).flatten(1)
        lengths, wanted = part.norm(dim=1), parameter.double().flatten(1).norm(dim=1)
        scale = torch.where(lengths > 0, wanted / lengths, 0.0)
        direction[name] = (part * scale[:, None]).view(parameter.shape)
    return direction
