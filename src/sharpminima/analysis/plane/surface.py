"""Loss surface and PSP-entropy in a plane through two minima.

Tartaglione et al., ICANN 2020, Fig. 2-4: between the gradually pruned net G and the one-shot net 1-S.
"""

import math
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from sharpminima.analysis._inputs import (
    FEW,
    agree,
    check_finite_weights,
    check_images,
    check_model,
    check_number,
    check_whole,
    count_labels,
    logits_of,
    surviving,
)
from sharpminima.analysis._loss import Criterion, LossFunction, MeanLoss, of_images
from sharpminima.analysis._reduced import Observed
from sharpminima.analysis._results import Result
from sharpminima.analysis._structure import floating_of
from sharpminima.analysis.hessian.eigenvalues import hessian_eigenvalues
from sharpminima.analysis.psp.entropy import PspEntropy, PspStatistics, check_order, check_samples, collect_statistics
from sharpminima.analysis.psp.preactivations import preactivations
from sharpminima.base.errors import AnalysisError
from sharpminima.base.stop import STOP
from sharpminima.nets.activations import Activations, check_activations
from sharpminima.nets.batchnorm import recalibrate
from sharpminima.nets.evaluation import evaluate
from sharpminima.nets.kinds import check_kind
from sharpminima.nets.masks import checked_masks
from sharpminima.nets.modes import copied, eval_mode, measuring
from sharpminima.nets.resume import ResumeFile, fingerprint_of, save_or_stop
from sharpminima.runtime.rng import generator

MEASURES: dict[str, tuple[int, str] | None] = {
    "loss": None,
    "error": None,
    "psp_norm": (1, "norm"),
    "psp_norm_with_output": (1, "norm_with_output"),
    "psp_entropy_1": (1, "mean"),
    "psp_entropy_1_live": (1, "mean_live"),
    "psp_entropy_2": (2, "mean"),
    "psp_entropy_2_live": (2, "mean_live"),
}
"""Measure -> (order, field of `PspEntropy`). ``loss``: mean cross-entropy, nats; ``error``: top-1, percent;
norms as in `PspEntropy`; entropies in bits."""
_USUAL = ("loss", "error", "psp_norm", "psp_entropy_1", "psp_entropy_2")
ENDS = (0.0, 0.0), (1.0, 0.0)
"""Where a plane holds its two minima."""
BATCH_NORMS = ("nearer", "interpolated", "recalibrated")
"""Where BatchNorm's running statistics come from at a point of a plane: from the end that is nearer along x; from both
in proportion to x (beyond the ends, the nearer's); or from a pass over the images at the point's weights."""
DIRECTIONS = ("random", "eigenvectors")
"""Axes of a surface around one net: random and filter-normalised, or the two first eigenvectors of the Hessian."""
Direction = Tensor | Mapping[str, Tensor]
"""A direction in weight space: [P], ordered as ``named_parameters``, or parameter name -> its part (0 where absent)."""


@dataclass(frozen=True, eq=False, repr=False)
class LossSurface(Result):
    """Measures on a grid in the plane of two minima, at (0, 0) and (1, 0), or in a plane through one net at (0, 0)."""

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


class Plane:
    """The plane through two minima of one net and a random direction.

    Coordinates (x, y) stand for the weights ``center + x (target - center) + y r``. The random direction r is
    drawn with normal entries from ``seed``, set to zero where ``masks`` removes (so that every point of the
    plane keeps removed weights at zero), made orthogonal to the first axis, and scaled to its length. At
    (0, 0) and (1, 0) the weights are the ends' own, to the bit; elsewhere they are computed in float64.

    Buffers (BatchNorm's running statistics) are by default those of the end that is nearer along x: the center's up to
    x = 0.5, the target's beyond, as in the study of the paper. ``batch_norm="interpolated"`` takes (1 - x) of the
    center's and x of the target's between the ends. They decide how high a barrier is. (Those that are "recalibrated"
    take images: `loss_surface`, `loss_barrier` and `hessian_along_line` make them.)

    Raises:
        AnalysisError: the models have different parameters, buffers or devices, the same weights, or NaN or infinity;
            a mask does not fit, or an end has a weight that is not zero where it removes; no direction is
            orthogonal to the first axis.
    """

    @measuring(gradients=False)
    def __init__(
        self,
        center: nn.Module,
        target: nn.Module,
        *,
        masks: Mapping[str, Tensor] | None = None,
        seed: int = 0,
        batch_norm: str = "nearer",
    ) -> None:
        check_whole(seed=seed)
        check_batch_norm(batch_norm)
        check_kind(center)
        check_kind(target)
        if _shapes(center) != _shapes(target):
            raise AnalysisError(
                "center and target have different parameters or buffers (names, shapes, dtypes, devices); "
                "give two of the same net"
            )
        for role, model in (("the center", center), ("the target", target)):
            check_finite_weights(model, role)
        self._ends = {
            end: {name: value.detach().clone() for name, value in _state(model).items()}
            for end, model in ((0.0, center), (1.0, target))
        }
        self.ends: tuple[tuple[float, float], ...] = ENDS
        self.batch_norm = batch_norm
        self._template = center
        self._names = [name for name, _ in center.named_parameters()]
        self._origin = self._flat(0.0)
        self._first = self._flat(1.0) - self._origin
        self.distance = float(self._first.norm())  # Euclidean, over all parameters
        if self.distance == 0.0:
            raise AnalysisError("center and target have the same weights; there is no axis between them")
        survivors = surviving(center, masks)
        for role, end in (("center", 0.0), ("target", 1.0)):
            if self._flat(end)[~survivors].any():
                raise AnalysisError(f"the {role} has weights other than zero where the masks remove them")
        self._second = self._random_direction(survivors, seed)

    @classmethod
    @measuring(gradients=False)
    def around(
        cls, center: nn.Module, first: Direction, second: Direction | None = None, *, batch_norm: str = "nearer"
    ) -> "Plane":
        """The plane ``center + x first + y second`` through one net (without a second direction, the line).

        Raises:
            AnalysisError: a direction does not fit the net, is zero or holds NaN or infinity; BatchNorm's statistics
                are to be interpolated, of one net.

        >>> net = nn.Linear(2, 1, bias=False)
        >>> plane = Plane.around(net, torch.tensor([1.0, 0.0]), {"weight": torch.tensor([[0.0, 2.0]])})
        >>> moved = plane.model_at(3.0, 1.0).weight - net.weight
        >>> moved.detach().round(decimals=4).tolist()
        [[3.0, 2.0]]
        """
        check_batch_norm(batch_norm)
        if batch_norm == "interpolated":
            raise AnalysisError("around one net there is nothing to interpolate; take 'nearer' or 'recalibrated'")
        check_kind(center)
        check_finite_weights(center, "the center")
        plane = cls.__new__(cls)
        plane._ends = {0.0: {name: value.detach().clone() for name, value in _state(center).items()}}
        plane.ends, plane.batch_norm, plane._template = ENDS[:1], batch_norm, center
        plane._names = [name for name, _ in center.named_parameters()]
        plane._origin = plane._flat(0.0)
        plane._first = _direction(center, first, "first")
        plane._second = torch.zeros_like(plane._origin) if second is None else _direction(center, second, "second")
        plane.distance = float(plane._first.norm())
        return plane

    @property
    def second_distance(self) -> float:
        """The length of the second direction."""
        return float(self._second.norm())

    def _flat(self, end: float) -> Tensor:
        if not self._names:
            raise AnalysisError("the model has no parameters; there is no plane to look at")
        return torch.cat([self._ends[end][name].double().flatten() for name in self._names])

    def _random_direction(self, survivors: Tensor, seed: int) -> Tensor:
        axis = self._first / self.distance
        draw = torch.randn(len(axis), generator=generator(seed, "surface"), dtype=torch.float64)
        draw = draw.to(axis.device) * survivors
        drawn = draw.norm()
        for _ in range(2):  # once is not enough where most of the draw cancels
            draw = draw - (axis @ draw) * axis
        if draw.norm() <= 1e-12 * drawn:
            raise AnalysisError("no direction is orthogonal to the first axis; two surviving parameters are needed")
        return draw * (self.distance / draw.norm())

    @measuring(gradients=False)
    def move(self, model: nn.Module, x: float, y: float) -> None:
        """Give ``model``, a net of the same parameters, the weights and buffers of the point (x, y)."""
        state = dict(self._ends[0.0 if x <= 0.5 or len(self._ends) == 1 else 1.0])
        if self.batch_norm == "interpolated" and 0 < x < 1:
            for name, buffer in _state(model).items():
                if name not in self._names and buffer.is_floating_point():
                    state[name] = (1 - x) * self._ends[0.0][name].double() + x * self._ends[1.0][name].double()
        if (x, y) not in self.ends:
            flat = self._origin + x * self._first + y * self._second
            parts = flat.split([state[name].numel() for name in self._names])
            state |= dict(zip(self._names, parts, strict=True))
        for name, tensor in _state(model).items():
            tensor.copy_(state[name].view_as(tensor))

    def tensors(self) -> list[Tensor]:
        """All that defines the plane: the ends' weights and buffers, and the axes that do not follow from them."""
        one_net = [self._first] if len(self._ends) == 1 else []
        return [*(value for end in self._ends.values() for value in end.values()), *one_net, self._second]

    def axes(self) -> tuple[Tensor, Tensor]:
        """Both directions: float64 [P]."""
        return self._first, self._second

    def model_at(self, x: float, y: float = 0.0) -> nn.Module:
        """A new model at the point (x, y), for instance for the Hessian along the line between the ends."""
        with measuring(gradients=False):
            model = copied(self._template)
        self.move(model, x, y)
        return model


def check_batch_norm(batch_norm: str) -> None:
    """Check where BatchNorm's statistics are to come from.

    Raises:
        AnalysisError: it is not of `BATCH_NORMS`.
    """
    if batch_norm not in BATCH_NORMS:
        raise AnalysisError(f"batch_norm is {batch_norm!r}; there are {', '.join(map(repr, BATCH_NORMS))}")


def _direction(model: nn.Module, direction: Direction, which: str) -> Tensor:
    """A direction as one vector, float64 [P].

    Raises:
        AnalysisError: it does not fit the model, is zero, or is not finite.
    """
    parameters = dict(model.named_parameters())
    total = sum(parameter.numel() for parameter in parameters.values())
    device = next(iter(parameters.values())).device
    if isinstance(direction, Mapping):
        if unknown := [name for name in direction if name not in parameters]:
            raise AnalysisError(f"the {which} direction has {', '.join(unknown)}, which the model does not have")
        parts = {name: direction.get(name, torch.zeros_like(value)) for name, value in parameters.items()}
        for name, part in parts.items():
            if part.shape != parameters[name].shape:
                raise AnalysisError(
                    f"{name} of the {which} direction has shape {list(part.shape)}, the parameter "
                    f"{list(parameters[name].shape)}"
                )
        flat = torch.cat([part.detach().to(device, torch.float64).flatten() for part in parts.values()])
    elif isinstance(direction, Tensor) and direction.shape == (total,):
        flat = direction.detach().to(device, torch.float64)
    else:
        given = list(direction.shape) if isinstance(direction, Tensor) else f"a {type(direction).__name__}"
        raise AnalysisError(
            f"the {which} direction is {given}; give a tensor [{total}] or parts of it by parameter name"
        )
    if not flat.isfinite().all() or not flat.any():
        raise AnalysisError(f"the {which} direction is zero, or holds NaN or infinity")
    return flat


def _state(model: nn.Module) -> dict[str, Tensor]:
    return dict(model.named_parameters()) | dict(model.named_buffers())


def _shapes(model: nn.Module) -> dict[str, tuple[torch.Size, torch.dtype, torch.device]]:
    return {name: (value.shape, value.dtype, value.device) for name, value in _state(model).items()}


def _axis(points: int, span: tuple[float, float]) -> Tensor:
    """Coordinates of one axis: evenly spaced over ``span``, 0 and 1 to the last bit; a single point is 0."""
    if points == 1:
        return torch.zeros(1, dtype=torch.float64)
    axis = torch.linspace(span[0], span[1], points, dtype=torch.float64)
    nearest = axis.round()
    return torch.where(((axis - nearest).abs() < 1e-9) & ((nearest == 0) | (nearest == 1)), nearest.abs(), axis)


class _Meter:
    """Measures the points of a plane, each in one pass over the data; the ends first, by the whole nets."""

    def __init__(
        self,
        plane: Plane,
        data: "_Data",
        definition: str,
        batch_size: int,
        masks: Mapping[str, Tensor] | None,
        activations: Activations,
        samples: int | None,
        seed: int,
    ) -> None:
        self._samples, self._seed = samples, seed
        self._plane, self._data, self._batch_size = plane, (data.images, data.labels), batch_size
        self._loss, self._classes, self._activations = data.loss, data.classes, activations
        self._measures, self._definition = data.measures, definition
        self._orders = {entry[0] for name in data.measures if (entry := MEASURES[name])}
        self._model = plane.model_at(0.0)
        survivors = {name: torch.ones_like(p, dtype=torch.bool) for name, p in self._model.named_parameters()}
        if 2 not in self._orders or definition == "joint":  # `_with_zero_neurons` cannot tell the agreement
            survivors |= checked_masks(masks or {}, survivors)
        self._observed = Observed(self._model, survivors, self._is_same())
        self._neurons: dict[str, int] = {}  # of the whole net, by layer
        self.ends = {point: self._whole(*point) for point in plane.ends}

    def _is_same(self) -> Callable[[nn.Module], bool]:
        """Whether a net has the outputs of the whole one on few images, and, if they count, ReLUs of the same names."""

        def seen(net: nn.Module) -> tuple[list[str], Tensor]:
            if self._loss is not None:
                with eval_mode(net):
                    outputs = floating_of(self._loss.checked_outputs(net, self._loss.few))
                    return [], torch.cat([output.flatten() for output in outputs])
            few = self._data[0][:FEW]
            if not self._orders:
                with eval_mode(net):
                    return [], logits_of(net, few)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # the first point warns
                ((layers, logits),) = preactivations(net, few, activations=self._activations)
            return list(layers), logits

        def is_same(net: nn.Module) -> bool:
            try:
                (names, logits), (expected_names, expected) = seen(net), seen(self._model)
            except AnalysisError:
                return False  # what is wrong with the whole net is said at the first point
            except RuntimeError:  # a layout that the net does not take
                return False
            return names == expected_names and agree(expected, logits)

        return is_same

    def _whole(self, x: float, y: float) -> dict[str, float]:
        self._plane.move(self._model, x, y)
        return self._located(self._model, x, y)

    def at(self, x: float, y: float) -> dict[str, float]:
        """The measures of the point (x, y), up to rounding: the units that the masks make zero are not computed."""
        recalibrated = self._plane.batch_norm == "recalibrated"
        if (x, y) in self.ends and not recalibrated:
            return self.ends[x, y]
        self._plane.move(self._model, x, y)
        if recalibrated:
            if self._loss is None:
                recalibrate(self._model, self._data[0], self._batch_size)
            else:
                self._loss.recalibrate(self._model, self._batch_size)
        self._observed.follow()
        return self._located(self._observed.net, x, y)

    def _located(self, model: nn.Module, x: float, y: float) -> dict[str, float]:
        try:
            return self._measure(model)
        except AnalysisError as error:
            raise AnalysisError(f"at the point ({x:g}, {y:g}) of the plane: {error}") from error

    def _measure(self, model: nn.Module) -> dict[str, float]:
        values = self._values(model)
        for name in self._measures:
            if not math.isfinite(values[name]):
                raise AnalysisError(f"the {name} is {values[name]}; take a smaller span or check the weights")
        return {name: values[name] for name in self._measures}

    def _values(self, model: nn.Module) -> dict[str, float]:
        if self._loss is not None:
            return {"loss": self._loss.mean(model, self._batch_size)}
        entropies: dict[tuple[int, str], float] = {}
        if self._orders:
            pairs = 2 in self._orders and self._definition == "joint"
            statistics = collect_statistics(
                model,
                *self._data,
                self._classes,
                pairs=pairs,
                batch_size=self._batch_size,
                activations=self._activations,
            )
            evaluation = statistics.evaluation
            entropies = self._entropies(statistics)
        else:
            evaluation = evaluate(model, *self._data, batch_size=self._batch_size)
        values = {"loss": evaluation.loss, "error": evaluation.error_percent}
        return values | {name: entropies[entry] for name in self._measures if (entry := MEASURES[name])}

    def _entropies(self, statistics: PspStatistics) -> dict[tuple[int, str], float]:
        """The PSP measures of the whole net; neurons that are missing are always off, with z = 0."""
        first = statistics.entropy()
        self._neurons = self._neurons or first.neurons  # the first point is measured by the whole net
        missing = {layer: count - first.neurons[layer] for layer, count in self._neurons.items()}
        by_order = {1: first}
        if 2 in self._orders and (max(first.neurons.values()) > 1 or max(self._neurons.values()) == 1):
            by_order[2] = statistics.entropy(2, self._definition, samples=self._samples, seed=self._seed)
        fields = {entry for entry in MEASURES.values() if entry}
        values = {(order, field): getattr(by_order[order], field) for order, field in fields if order in by_order}
        if any(missing.values()):
            values |= _with_zero_neurons(first, by_order.get(2), missing)
        return values


def _with_zero_neurons(
    first: PspEntropy, second: PspEntropy | None, missing: Mapping[str, int]
) -> dict[tuple[int, str], float]:
    """Measures that neurons with z = 0 on all images change, once ``missing`` of each layer are counted.

    Such a neuron has no entropy, and a pair with it has that of its partner; live neurons are as many as before.
    """
    neurons = {layer: count + missing[layer] for layer, count in first.neurons.items()}
    entropies = {layer: first.per_layer[layer] * count for layer, count in first.neurons.items()}
    norms = [first.norm_per_layer[layer] * count / neurons[layer] for layer, count in first.neurons.items()]
    layers = len(norms)
    output_norm = first.norm_with_output * (layers + 1) - first.norm * layers
    pairs = []
    for layer, count in first.neurons.items():
        if neurons[layer] > 1:
            within = second.per_layer.get(layer, 0.0) * math.comb(count, 2) if second else 0.0
            pairs.append((within + entropies[layer] * missing[layer]) / math.comb(neurons[layer], 2))
    values = {
        (1, "mean"): math.fsum(entropies.values()) / sum(neurons.values()),
        (1, "norm"): math.fsum(norms) / layers,
        (1, "norm_with_output"): math.fsum([*norms, output_norm]) / (layers + 1),
        (2, "mean"): math.fsum(pairs) / max(1, len(pairs)),
    }
    return values if second else {**values, (2, "mean_live"): 0.0}


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
        center, target: two nets of the same parameters; they are not modified.
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
            with the same arguments goes on from it, to the same bits; a file of other arguments is ignored.
        save_every_s: seconds between two writes of it.

    Raises:
        AnalysisError: as for `Plane` and `psp_statistics` (classes without images and nets without ReLU only where
            PSP measures are asked for); a measure or definition that is not offered; a grid below 1 or a span that
            does not rise; a measure that is not finite.
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
    if measures is None:
        measures = _USUAL if of_images(images, labels, criterion, loss_fn) else ("loss",)
    data = _checked(
        center,
        images,
        labels,
        criterion=criterion,
        loss_fn=loss_fn,
        grid=grid,
        span=span,
        seed=seed,
        definition=definition,
        measures=measures,
        batch_size=batch_size,
        activations=activations,
        samples=samples,
        save_every_s=save_every_s,
    )
    plane = Plane(center, target, masks=masks, seed=seed, batch_norm=batch_norm)
    if data.loss is None:
        check_model(target, data.images)
    else:
        data.loss.check(target)
    return _measured(
        plane,
        "target",
        data,
        grid=grid,
        span=span,
        masks=masks,
        seed=seed,
        definition=definition,
        batch_size=batch_size,
        activations=activations,
        samples=samples,
        progress=progress,
        resume=resume,
        save_every_s=save_every_s,
    )


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
        Stopped: as `loss_surface`.

    >>> net = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    >>> images, labels = torch.randn(6, 1, 2, 2), torch.tensor([0, 1, 0, 1, 0, 1])
    >>> surface = loss_surface_around(net, images, labels, grid=(5, 3))
    >>> surface.values["loss"].shape, float(surface.values["loss"][1, 2]) == surface.center_values["loss"]
    (torch.Size([3, 5]), True)
    """
    if measures is None:
        measures = ("loss", "error") if of_images(images, labels, criterion, loss_fn) else ("loss",)
    data = _checked(
        model,
        images,
        labels,
        criterion=criterion,
        loss_fn=loss_fn,
        grid=grid,
        span=span,
        seed=seed,
        definition=definition,
        measures=measures,
        batch_size=batch_size,
        activations=activations,
        samples=samples,
        save_every_s=save_every_s,
    )
    survivors = surviving(model, masks)
    if torch.cat([parameter.flatten() for parameter in model.parameters()])[~survivors].any():
        raise AnalysisError("the model has weights other than zero where the masks remove them")
    options = {"criterion": criterion, "loss_fn": loss_fn, "memory": memory}
    axes = _axes(model, (images, labels), options, directions, masks, seed, grid)
    plane = Plane.around(model, *axes, batch_norm=batch_norm)
    for axis, which in zip(plane.axes(), ("first", "second"), strict=True):
        if axis[~survivors].any():
            raise AnalysisError(f"the {which} direction moves weights that the masks remove; set it to 0 there")
    return _measured(
        plane,
        directions if isinstance(directions, str) else "given",
        data,
        grid=grid,
        span=span,
        masks=masks,
        seed=seed,
        definition=definition,
        batch_size=batch_size,
        activations=activations,
        samples=samples,
        progress=progress,
        resume=resume,
        save_every_s=save_every_s,
    )


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


@dataclass(frozen=True)
class _Data:
    """What is measured on, and what."""

    images: Any
    labels: Any
    loss: MeanLoss | None  # None: of images, by what counts their errors too
    classes: int  # of images
    measures: tuple[str, ...]


def _checked(
    model: nn.Module,
    images: Any,
    labels: Any,
    *,
    criterion: Criterion | None,
    loss_fn: LossFunction | None,
    grid: tuple[int, int],
    span: tuple[float, float],
    seed: int,
    definition: str,
    measures: Sequence[str],
    batch_size: int,
    activations: Activations,
    samples: int | None,
    save_every_s: float,
) -> _Data:
    """Data and measures as they are computed with.

    Raises:
        AnalysisError: as `loss_surface` says.
    """
    usual = of_images(images, labels, criterion, loss_fn)
    measures = (measures,) if isinstance(measures, str) else tuple(measures)
    unknown = [name for name in measures if name not in MEASURES]
    if unknown or not measures:
        raise AnalysisError(f"there is no measure {', '.join(unknown) or 'given'}; there are {', '.join(MEASURES)}")
    if not usual and set(measures) != {"loss"}:
        raise AnalysisError(
            f"{', '.join(name for name in measures if name != 'loss')} are measured of images [N, C, H, W] with labels "
            "[N] and cross-entropy; of other data and losses there is the loss: give measures=('loss',)"
        )
    check_order(2, definition)
    check_activations(activations)
    check_samples(samples, seed)
    check_number(save_every_s=save_every_s)
    for name, pair, check in (("grid", grid, check_whole), ("span", span, check_number)):
        if not isinstance(pair, Sequence) or len(pair) != 2:
            raise AnalysisError(f"{name} is {pair!r}; give two numbers")
        for part in pair:
            check(**{name: part})
    if min(grid) < 1:
        raise AnalysisError(f"the grid is {grid[0]} x {grid[1]}; give at least one point along each axis")
    if not (math.isfinite(span[0]) and math.isfinite(span[1]) and span[0] < span[1]):
        raise AnalysisError(f"the span is {span[0]} to {span[1]}; it must rise")
    if not usual:
        size = None if labels is None and not isinstance(images, Tensor) else batch_size
        loss = MeanLoss(model, images, labels, criterion=criterion, loss_fn=loss_fn, batch_size=size)
        return _Data(images, labels, loss, 0, measures)
    images, labels = check_images(images, labels, batch_size)
    classes = check_model(model, images)
    count_labels(labels, classes)
    return _Data(images, labels, None, classes, measures)


def _measured(
    plane: Plane,
    directions: str,
    data: _Data,
    *,
    grid: tuple[int, int],
    span: tuple[float, float],
    masks: Mapping[str, Tensor] | None,
    seed: int,
    definition: str,
    batch_size: int,
    activations: Activations,
    samples: int | None,
    progress: Callable[[int, int], None] | None,
    resume: str | os.PathLike[str] | None,
    save_every_s: float,
) -> LossSurface:
    """The measures of a plane at the points of a grid; the arguments are those of `loss_surface`."""
    measures = data.measures
    meter = _Meter(plane, data, definition, batch_size, masks, activations, samples, seed)
    file = None
    if resume is not None:
        settings = {
            "of": "loss_surface",
            "grid": list(grid),
            "span": list(span),
            "seed": seed,
            "definition": definition,
            "measures": list(measures),
            "batch_size": batch_size,
            "masks": sorted(masks or {}),
        }
        if plane.batch_norm != "nearer":
            settings["batch_norm"] = plane.batch_norm
        if samples is not None:
            settings["samples"] = samples
        if activations != "relu":
            settings["activations"] = getattr(activations, "__qualname__", str(activations))
        tensors = [*plane.tensors(), *(mask for _, mask in sorted((masks or {}).items()))]
        if data.loss is None:
            tensors += [data.images, data.labels]
        else:  # a loss of one's own is known by what it gives
            settings["ends"] = [values["loss"] for values in meter.ends.values()]
            tensors += data.loss.tensors()
        file = ResumeFile(resume, fingerprint=fingerprint_of(settings, tensors), every_s=save_every_s)

    xs, ys = _axis(grid[0], span), _axis(grid[1], span)
    points = [(x, y) for y in ys.tolist() for x in xs.tolist()]
    table = torch.empty(len(points), len(measures), dtype=torch.float64)
    done = 0
    if file is not None and (saved := file.load()) is not None:
        done, table = saved["done"], saved["table"]
    for number in range(done, len(points)):
        point = points[number]
        values = meter.at(*point)
        table[number] = torch.tensor([values[name] for name in measures], dtype=torch.float64)
        if progress:
            progress(number + 1, len(points))
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
        seed=seed,
        masked=masks is not None,
        batch_norm=plane.batch_norm,
        directions=directions,
        second_distance=None if directions == "target" else plane.second_distance,
        unit="nats" if data.loss is None else data.loss.unit,
    )
