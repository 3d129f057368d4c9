"""The points of a plane, measured one by one, and what comes of them."""

from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from sharpminima.analysis._results import Result
from sharpminima.analysis.plane._meter import Data, Meter, Settings
from sharpminima.analysis.plane._plane import ENDS, Plane
from sharpminima.base.stop import STOP
from sharpminima.nets.resume import ResumeFile, fingerprint_of, save_or_stop

SAME = 1e-5  # relative difference of a measure that is taken twice: rounding, on GPUs


@dataclass(frozen=True, eq=False, repr=False)
class LossSurface(Result):
    """Measures on a grid in the plane of two minima, at (0, 0) and (1, 0), or in a plane through one net at (0, 0).

    >>> from sharpminima.analysis import loss_surface_around
    >>> net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 2))
    >>> images, labels = torch.randn(6, 1, 2, 2), torch.tensor([0, 1] * 3)
    >>> surface: LossSurface = loss_surface_around(net, images, labels, grid=(5, 3))
    >>> surface.values["error"].shape, surface.x.tolist()
    (torch.Size([3, 5]), [-1.0, -0.5, 0.0, 0.5, 1.0])
    """

    drawn_by = "sharpminima.figures.results:surface"

    x: Tensor  # float64 [gx]; along target - center, or the first direction, in units of its length
    y: Tensor  # float64 [gy]; along the random direction of that length, or in units of the second direction's
    values: dict[str, Tensor]  # measure -> float64 [gy, gx], in the units of `MEASURES`
    center_values: dict[str, float]  # measure -> its value with the center's own weights and buffers
    target_values: dict[str, float]  # measure -> its value with the target's own; empty around one net
    distance: float  # length of target - center, or of the first direction; Euclidean, over all parameters
    seed: int  # of the random direction
    masked: bool  # do the directions keep removed weights at zero?
    batch_norm: str = "nearer"  # of `BATCH_NORMS`: where BatchNorm's statistics came from on the grid
    directions: str = "target"  # "target" and a random one; of `DIRECTIONS`; or "given"
    second_distance: float | None = None  # length of the second direction; None: that of the first
    unit: str = "nats"  # of the loss, where it is cross-entropy

    def _lines(self) -> tuple[str, str, str]:
        where = "between two nets" if self.directions == "target" else f"around one net ({self.directions} directions)"
        spread = "; ".join(f"{name} {float(v.min()):.4g} to {float(v.max()):.4g}" for name, v in self.values.items())
        own = "; ".join(
            f"{end}: " + ", ".join(f"{name} {value:.4g}" for name, value in values.items())
            for end, values in (("center", self.center_values), ("target", self.target_values))
            if values
        )
        return f"LossSurface: {len(self.x)} x {len(self.y)} points {where} (BatchNorm: {self.batch_norm})", spread, own

    def _columns(self) -> dict[str, Any]:
        return {
            "x": self.x.repeat(len(self.y)),
            "y": self.y.repeat_interleave(len(self.x)),
            **{name: values.flatten() for name, values in self.values.items()},
        }


def coordinates(points: int, span: tuple[float, float]) -> Tensor:
    """Coordinates of one axis: evenly spaced over ``span``, 0 and 1 to the last bit; a single point is 0."""
    if points == 1:
        return torch.zeros(1, dtype=torch.float64)
    axis = torch.linspace(span[0], span[1], points, dtype=torch.float64)
    nearest = axis.round()
    # A part of the span, so that a tiny one keeps its points, but no less than numbers of this size are rounded by.
    rounding = max(1e-9 * min(1.0, span[1] - span[0]), 16 * torch.finfo(axis.dtype).eps * float(axis.abs().max()))
    return torch.where(((axis - nearest).abs() < rounding) & ((nearest == 0) | (nearest == 1)), nearest.abs(), axis)


def _telling(table: Tensor) -> list[int]:
    """Points that are measured again before others are added to them: the first and the last, and of each measure those
    of the least, the largest, and the values a quarter, half and three quarters of the way between them in order.

    A loss of one's own may be another one that gives the same at the ends, or wherever it is small, or large.
    """
    if not len(table):
        return []
    ranks = [round(part * (len(table) - 1) / 4) for part in range(5)]
    return sorted({0, len(table) - 1, *table.argsort(dim=0, stable=True)[ranks].flatten().tolist()})


def measured(plane: Plane, directions: str, data: Data, how: Settings) -> LossSurface:
    """The measures of a plane at the points of a grid.

    Raises:
        AnalysisError: a measure that is not finite; what `psp_statistics` refuses.
        Stopped: SIGTERM came (where `sharpminima.base.stop` catches it).
    """
    measures, masks = data.measures, how.masks or {}
    meter = Meter(plane, data, how)
    file = None
    if how.resume is not None:
        settings = {
            "of": "loss_surface",
            "grid": list(how.grid),
            "span": list(how.span),
            "seed": how.seed,
            "definition": how.definition,
            "measures": list(measures),
            "batch_size": how.batch_size,
            "masks": sorted(masks),
        }
        if plane.batch_norm != "nearer":
            settings["batch_norm"] = plane.batch_norm
        if how.samples is not None:
            settings["samples"] = how.samples
        if how.activations != "relu":
            settings["activations"] = meter.activations
        tensors = [*plane.tensors(), *(masks[name] for name in sorted(masks))]
        # The code of the nets, and a loss of one's own, are known by what they give.
        settings["ends"] = [list(values.values()) for values in meter.ends.values()]
        tensors += (output for point in meter.ends for output in data.few_outputs(plane.model_at(*point)))
        tensors += [data.images, data.labels] if data.loss is None else data.loss.tensors()
        file = ResumeFile(how.resume, fingerprint=fingerprint_of(settings, tensors), every_s=how.save_every_s)

    xs, ys = (coordinates(points, how.span) for points in how.grid)
    points = [(x, y) for y in ys.tolist() for x in xs.tolist()]
    table = torch.empty(len(points), len(measures), dtype=torch.float64)
    done = 0
    if file is not None and (saved := file.load()) is not None:
        again = _telling(saved["table"][: saved["done"]])
        found = [meter.at(*points[number]) for number in again]
        same = torch.tensor([[each[name] for name in measures] for each in found], dtype=torch.float64)
        if torch.allclose(saved["table"][again], same, rtol=SAME, atol=0):
            done, table = saved["done"], saved["table"]
    for number in range(done, len(points)):
        point = points[number]
        values = meter.at(*point)
        table[number] = torch.tensor([values[name] for name in measures], dtype=torch.float64)
        if how.progress:
            how.progress(number + 1, len(points))
        if STOP.raised or (file is not None and file.due()):
            save_or_stop(file, partial(dict, done=number + 1, table=table))
    if file is not None:
        file.remove()
    return LossSurface(
        x=xs,
        y=ys,
        values={name: table[:, column].view(len(ys), len(xs)).clone() for column, name in enumerate(measures)},
        center_values=meter.ends[ENDS[0]],
        target_values=meter.ends.get(ENDS[1], {}),
        distance=plane.distance,
        seed=how.seed,
        masked=how.masks is not None,
        batch_norm=plane.batch_norm,
        directions=directions,
        second_distance=None if directions == "target" else plane.second_distance,
        unit="nats" if data.loss is None else data.loss.unit,
    )
