"""Loss surface and PSP-entropy in a plane through two minima.

Tartaglione et al., ICANN 2020, Fig. 2-4: between the gradually pruned net G and the one-shot net 1-S.
"""

import math
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from sharpminima.analysis._inputs import (
    FEW,
    agree,
    check_finite_weights,
    check_images,
    check_kind,
    check_model,
    check_number,
    check_whole,
    count_labels,
    logits_of,
    surviving,
)
from sharpminima.analysis._reduced import Observed
from sharpminima.analysis.psp._activations import Activations, check_activations
from sharpminima.analysis.psp.entropy import PspEntropy, PspStatistics, check_order, collect_statistics
from sharpminima.analysis.psp.preactivations import preactivations
from sharpminima.base.errors import AnalysisError
from sharpminima.base.stop import STOP
from sharpminima.nets.evaluation import evaluate
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
ENDS = (0.0, 0.0), (1.0, 0.0)
"""Where a plane holds its two minima."""


@dataclass(frozen=True, eq=False)
class LossSurface:
    """Measures on a grid in the plane of two minima, at (0, 0) and (1, 0)."""

    x: Tensor  # float64 [gx]; along target - center, in units of its length
    y: Tensor  # float64 [gy]; along the random direction, in the same units
    values: dict[str, Tensor]  # measure -> float64 [gy, gx], in the units of `MEASURES`
    center_values: dict[str, float]  # measure -> its value with the center's own weights and buffers
    target_values: dict[str, float]  # measure -> its value with the target's own
    distance: float  # length of target - center, Euclidean, over all parameters
    seed: int  # of the random direction
    masked: bool  # does the random direction keep removed weights at zero?


class Plane:
    """The plane through two minima of one net and a random direction.

    Coordinates (x, y) stand for the weights ``center + x (target - center) + y r``. The random direction r is
    drawn with normal entries from ``seed``, set to zero where ``masks`` removes (so that every point of the
    plane keeps removed weights at zero), made orthogonal to the first axis, and scaled to its length. At
    (0, 0) and (1, 0) the weights are the ends' own, to the bit; elsewhere they are computed in float64.

    Buffers (BatchNorm's running statistics) are those of the end that is nearer along x: the center's up to
    x = 0.5, the target's beyond.

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
    ) -> None:
        check_whole(seed=seed)
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

    def _flat(self, end: float) -> Tensor:
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
        state = dict(self._ends[0.0 if x <= 0.5 else 1.0])
        if (x, y) not in ENDS:
            flat = self._origin + x * self._first + y * self._second
            parts = flat.split([state[name].numel() for name in self._names])
            state |= dict(zip(self._names, parts, strict=True))
        for name, tensor in _state(model).items():
            tensor.copy_(state[name].view_as(tensor))

    def tensors(self) -> list[Tensor]:
        """All that defines the plane: the ends' weights and buffers, and the second axis."""
        return [*(value for end in self._ends.values() for value in end.values()), self._second]

    def model_at(self, x: float, y: float = 0.0) -> nn.Module:
        """A new model at the point (x, y), for instance for the Hessian along the line between the ends."""
        with measuring(gradients=False):
            model = copied(self._template)
        self.move(model, x, y)
        return model


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
        images: Tensor,
        labels: Tensor,
        measures: Sequence[str],
        definition: str,
        batch_size: int,
        masks: Mapping[str, Tensor] | None,
        classes: int,
        activations: Activations,
    ) -> None:
        self._plane, self._data, self._batch_size = plane, (images, labels), batch_size
        self._classes, self._activations = classes, activations
        self._measures, self._definition = measures, definition
        self._orders = {entry[0] for name in measures if (entry := MEASURES[name])}
        self._model = plane.model_at(0.0)
        survivors = {name: torch.ones_like(p, dtype=torch.bool) for name, p in self._model.named_parameters()}
        if 2 not in self._orders or definition == "joint":  # `_with_zero_neurons` cannot tell the agreement
            survivors |= checked_masks(masks or {}, survivors)
        self._observed = Observed(self._model, survivors, self._is_same())
        self._neurons: dict[str, int] = {}  # of the whole net, by layer
        self.ends = {point: self._whole(*point) for point in ENDS}

    def _is_same(self) -> Callable[[nn.Module], bool]:
        """Whether a net has the outputs of the whole one on few images, and, if they count, ReLUs of the same names."""

        def seen(net: nn.Module) -> tuple[list[str], Tensor]:
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
        if (x, y) in self.ends:
            return self.ends[x, y]
        self._plane.move(self._model, x, y)
        self._observed.follow()
        return self._located(self._observed.net, x, y)

    def _located(self, model: nn.Module, x: float, y: float) -> dict[str, float]:
        try:
            return self._measure(model)
        except AnalysisError as error:
            raise AnalysisError(f"at the point ({x:g}, {y:g}) of the plane: {error}") from error

    def _measure(self, model: nn.Module) -> dict[str, float]:
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
        for name in self._measures:
            if entry := MEASURES[name]:
                values[name] = entropies[entry]
            if not math.isfinite(values[name]):
                raise AnalysisError(f"the {name} is {values[name]}; take a smaller span or check the weights")
        return {name: values[name] for name in self._measures}

    def _entropies(self, statistics: PspStatistics) -> dict[tuple[int, str], float]:
        """The PSP measures of the whole net; neurons that are missing are always off, with z = 0."""
        first = statistics.entropy()
        self._neurons = self._neurons or first.neurons  # the first point is measured by the whole net
        missing = {layer: count - first.neurons[layer] for layer, count in self._neurons.items()}
        by_order = {1: first}
        if 2 in self._orders and (max(first.neurons.values()) > 1 or max(self._neurons.values()) == 1):
            by_order[2] = statistics.entropy(2, self._definition)
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
    images: Tensor,
    labels: Tensor,
    *,
    grid: tuple[int, int] = (51, 51),
    span: tuple[float, float] = (-0.5, 1.5),
    masks: Mapping[str, Tensor] | None = None,
    seed: int = 0,
    definition: str = "joint",
    measures: Sequence[str] = ("loss", "error", "psp_norm", "psp_entropy_1", "psp_entropy_2"),
    batch_size: int = 250,
    activations: Activations = "relu",
    progress: Callable[[int, int], None] | None = None,
    resume: str | os.PathLike[str] | None = None,
    save_every_s: float = 60.0,
) -> LossSurface:
    """Loss, error, PSP norm and PSP-entropies on a grid in the plane through two minima.

    The origin is ``center`` (G), the first axis ends in ``target`` (1-S), the second is random; see `Plane`,
    also for BatchNorm's running statistics, which come from the nearer end along the first axis. Every
    point takes one pass over the data, the points one by one: on a CPU, several at once (vmap) take twice as long.
    In a masked plane, units without any surviving weight or bias are not computed: their pre-activations are 0
    everywhere, and they enter the measures in closed form. The ends are measured by the whole nets.

    Not every grid holds the two ends (51 points over -0.5 ... 1.5 do not, 41 do): their own values are always in
    ``center_values`` and ``target_values``.

    Args:
        center, target: two nets of the same parameters; they are not modified.
        images, labels, batch_size, activations: as for `psp_statistics`.
        grid: points along x and along y. One point along an axis is the coordinate 0: (51, 1) is the line.
        span: first and last coordinate, of both axes.
        masks: parameter name -> tensor of 0 and 1; then all points keep removed weights at zero. None: the
            random direction moves every parameter.
        seed: of the random direction.
        definition: of order 2, "joint" or "agreement".
        measures: names from `MEASURES`.
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
    >>> found = loss_surface(g, s, images, labels, grid=(5, 3), measures=("loss",))
    >>> found.values["loss"].shape, found.x.tolist()
    (torch.Size([3, 5]), [-0.5, 0.0, 0.5, 1.0, 1.5])
    """
    measures = (measures,) if isinstance(measures, str) else tuple(measures)
    unknown = [name for name in measures if name not in MEASURES]
    if unknown or not measures:
        raise AnalysisError(f"there is no measure {', '.join(unknown) or 'given'}; there are {', '.join(MEASURES)}")
    check_order(2, definition)
    check_activations(activations)
    check_whole(seed=seed)
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
    images, labels = check_images(images, labels, batch_size)
    classes = check_model(center, images)
    count_labels(labels, classes)
    plane = Plane(center, target, masks=masks, seed=seed)
    check_model(target, images)
    meter = _Meter(plane, images, labels, measures, definition, batch_size, masks, classes, activations)
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
        if activations != "relu":
            settings["activations"] = getattr(activations, "__qualname__", str(activations))
        tensors = [*plane.tensors(), *(mask for _, mask in sorted((masks or {}).items())), images, labels]
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
        target_values=meter.ends[ENDS[1]],
        distance=plane.distance,
        seed=seed,
        masked=masks is not None,
    )
