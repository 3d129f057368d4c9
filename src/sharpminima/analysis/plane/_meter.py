"""What is measured at the points of a plane."""

import math
import os
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from sharpminima.analysis._inputs import FEW, agree, check_images, check_model, check_rows, count_labels, logits_of
from sharpminima.analysis._loss import Criterion, LossFunction, MeanLoss, of_images
from sharpminima.analysis._reduced import Observed
from sharpminima.analysis.plane._plane import Plane
from sharpminima.analysis.psp.entropy import PspEntropy, PspStatistics, check_order, check_samples, collect_statistics
from sharpminima.analysis.psp.preactivations import preactivations
from sharpminima.base.errors import AnalysisError
from sharpminima.base.numbers import check_number, check_whole
from sharpminima.nets.activations import Activations, check_activations, identified
from sharpminima.nets.batchnorm import recalibrate
from sharpminima.nets.evaluation import evaluate
from sharpminima.nets.masks import checked_masks
from sharpminima.nets.modes import eval_mode, measuring
from sharpminima.nets.resume import check_path

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

_SMALLER = "take a smaller span or check the weights"


@dataclass(frozen=True)
class Settings:
    """How a plane is measured: the arguments that `loss_surface` and `loss_surface_around` share, checked.

    Raises:
        AnalysisError: as `loss_surface` says.
    """

    grid: tuple[int, int]
    span: tuple[float, float]
    masks: Mapping[str, Tensor] | None
    seed: int
    definition: str
    batch_size: int
    activations: Activations
    samples: int | None
    progress: Callable[[int, int], None] | None
    resume: str | os.PathLike[str] | None
    save_every_s: float

    def __post_init__(self) -> None:
        check_order(2, self.definition)
        check_activations(self.activations)
        samples, seed = check_samples(self.samples, self.seed)
        if self.resume is not None:
            check_path(self.resume)
        for name, pair in (("grid", self.grid), ("span", self.span)):
            if not isinstance(pair, Sequence) or len(pair) != 2:
                raise AnalysisError(f"{name} is {pair!r}; give two numbers")
        grid = check_whole("grid", self.grid[0]), check_whole("grid", self.grid[1])
        span = check_number("span", self.span[0]), check_number("span", self.span[1])
        plain: dict[str, Any] = {"grid": grid, "span": span, "samples": samples, "seed": seed}
        plain["batch_size"] = check_whole("batch_size", self.batch_size, least=1)
        plain["save_every_s"] = check_number("save_every_s", self.save_every_s)
        for name, value in plain.items():
            object.__setattr__(self, name, value)
        if min(grid) < 1:
            raise AnalysisError(f"the grid is {grid[0]} x {grid[1]}; give at least one point along each axis")
        if not span[0] < span[1]:
            raise AnalysisError(f"the span is {span[0]} to {span[1]}; it must rise")


@dataclass(frozen=True)
class Data:
    """What is measured on, and what."""

    images: Any
    labels: Any
    loss: MeanLoss | None  # None: of images, by what counts their errors too
    classes: int  # of images
    measures: tuple[str, ...]

    @classmethod
    def of(
        cls,
        model: nn.Module,
        images: Any,
        labels: Any,
        *,
        criterion: Criterion | None,
        loss_fn: LossFunction | None,
        measures: Sequence[str] | None,
        usual: tuple[str, ...],
        batch_size: int,
    ) -> "Data":
        """Data and measures as they are computed with; ``usual``: those of images where none are asked for.

        Raises:
            AnalysisError: as `loss_surface` says.
        """
        with_errors = of_images(images, labels, criterion, loss_fn)
        if measures is None:
            measures = usual if with_errors else ("loss",)
        if not isinstance(measures, Iterable):
            raise AnalysisError(f"measures are {measures!r}; give names, of {', '.join(MEASURES)}")
        measures = (measures,) if isinstance(measures, str) else tuple(measures)
        unknown = [str(name) for name in measures if not isinstance(name, str) or name not in MEASURES]
        if unknown or not measures:
            raise AnalysisError(f"there is no measure {', '.join(unknown) or 'given'}; there are {', '.join(MEASURES)}")
        if with_errors:
            images, labels = check_images(images, labels)
            classes = check_model(model, images)
            count_labels(labels, classes)
            return cls(images, labels, None, classes, measures)
        if set(measures) != {"loss"}:
            raise AnalysisError(
                f"{', '.join(name for name in measures if name != 'loss')} are measured of images [N, C, H, W] with "
                "labels [N] and cross-entropy; of other data and losses there is the loss: give measures=('loss',)"
            )
        size = None if labels is None and not isinstance(images, Tensor) else batch_size
        loss = MeanLoss(model, images, labels, criterion=criterion, loss_fn=loss_fn, batch_size=size)
        return cls(images, labels, loss, 0, measures)

    @measuring(gradients=False)
    def few_outputs(self, net: nn.Module) -> tuple[Tensor, ...]:
        """What a net gives for a few samples.

        Raises:
            AnalysisError: it cannot take them.
        """
        if self.loss is not None:
            return self.loss.few_outputs(net)
        with eval_mode(net):
            return (logits_of(net, self.images[:FEW]),)


class Meter:
    """Measures the points of a plane, each in one pass over the data; the ends first, by the whole nets."""

    def __init__(self, plane: Plane, data: Data, how: Settings) -> None:
        self._plane, self._data, self._how = plane, data, how
        self._orders = {entry[0] for name in data.measures if (entry := MEASURES[name])}
        self._model = plane.model_at(0.0)
        if self._orders:
            check_rows(self._model, data.images, how.activations)
        survivors = {name: torch.ones_like(p, dtype=torch.bool) for name, p in self._model.named_parameters()}
        if 2 not in self._orders or how.definition == "joint":  # `_with_zero_neurons` cannot tell the agreement
            survivors |= checked_masks(how.masks or {}, survivors)
        self._observed = Observed(self._model, survivors, self._is_same())
        self._neurons: dict[str, int] = {}  # of the whole net, by layer
        self.ends = {point: self._whole(*point) for point in plane.ends}

    @property
    def activations(self) -> str | list[str]:
        """What identifies the activations whose inputs count."""
        return identified(self._how.activations, self._model)

    def _is_same(self) -> Callable[[nn.Module], bool]:
        """Whether a net has the outputs of the whole one on few images, and, if they count, ReLUs of the same names."""

        def seen(net: nn.Module) -> tuple[list[str], Tensor]:
            if not self._orders:
                return [], torch.cat([output.flatten() for output in self._data.few_outputs(net)])
            few = self._data.images[:FEW]
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # the first point warns
                ((layers, logits),) = preactivations(net, few, activations=self._how.activations)
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
            if self._data.loss is None:
                recalibrate(self._model, self._data.images, self._how.batch_size)
            else:
                self._data.loss.recalibrate(self._model, self._how.batch_size)
        self._observed.follow()
        return self._located(self._observed.net, x, y)

    def _located(self, model: nn.Module, x: float, y: float) -> dict[str, float]:
        try:
            return self._measure(model, "check the weights and the data" if (x, y) in self._plane.ends else _SMALLER)
        except AnalysisError as error:
            raise AnalysisError(f"at the point ({x:g}, {y:g}) of the plane: {error}") from error

    def _measure(self, model: nn.Module, cure: str) -> dict[str, float]:
        values = self._values(model)
        for name in self._data.measures:
            if not math.isfinite(values[name]):
                raise AnalysisError(f"the {name} is {values[name]}; {cure}")
        return {name: values[name] for name in self._data.measures}

    def _values(self, model: nn.Module) -> dict[str, float]:
        images, labels, loss = self._data.images, self._data.labels, self._data.loss
        if loss is not None:
            return {"loss": loss.mean(model, self._how.batch_size)}
        entropies: dict[tuple[int, str], float] = {}
        if self._orders:
            pairs = 2 in self._orders and self._how.definition == "joint"
            statistics = collect_statistics(
                model,
                images,
                labels,
                self._data.classes,
                pairs=pairs,
                batch_size=self._how.batch_size,
                activations=self._how.activations,
            )
            evaluation = statistics.evaluation
            entropies = self._entropies(statistics)
        else:
            evaluation = evaluate(model, images, labels, batch_size=self._how.batch_size)
        values = {"loss": evaluation.loss, "error": evaluation.error_percent}
        return values | {name: entropies[entry] for name in self._data.measures if (entry := MEASURES[name])}

    def _entropies(self, statistics: PspStatistics) -> dict[tuple[int, str], float]:
        """The PSP measures of the whole net; neurons that are missing are always off, with z = 0."""
        first = statistics.entropy()
        self._neurons = self._neurons or first.neurons  # the first point is measured by the whole net
        missing = {layer: count - first.neurons[layer] for layer, count in self._neurons.items()}
        by_order = {1: first}
        if 2 in self._orders and (max(first.neurons.values()) > 1 or max(self._neurons.values()) == 1):
            by_order[2] = statistics.entropy(2, self._how.definition, samples=self._how.samples, seed=self._how.seed)
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
