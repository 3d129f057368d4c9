"""PSP-entropy and PSP norm of a net's hidden neurons.

Tartaglione, Bragagnolo, Grangetto, "Pruning artificial neural networks: a way to find well-generalizing,
high-entropy sharp minima", ICANN 2020, eq. 4-5. A neuron's state is 1 where its post-synaptic potential z
(the pre-activation that enters a ReLU) is above 0, else 0; 0 log 0 = 0 exactly.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn

from sharpminima.analysis._inputs import check_finite_weights, check_images, check_model, count_labels
from sharpminima.analysis._results import Result
from sharpminima.analysis.psp._collect import CHUNK, Collection, LayerStatistics
from sharpminima.base.errors import AnalysisError
from sharpminima.base.numbers import check_whole, optional
from sharpminima.nets.activations import Activations
from sharpminima.nets.evaluation import Evaluation
from sharpminima.nets.modes import measuring
from sharpminima.nets.preactivations import warn_caller
from sharpminima.runtime.rng import generator

DEFINITIONS = ("joint", "agreement")
"""The definitions of the orders above the first."""

MAX_STATES = 10**11
"""Joint states (2^k a tuple, over all classes) of a layer up to which order k > 1 is computed exactly."""

CLASSES = ("all", "present")
"""Which classes are measured: all of the model's, each of which must have images, or those that have some."""

_T = TypeVar("_T")

Progress = Callable[[int, int], None]
"""Called with (steps done, steps in all)."""


@dataclass(frozen=True, eq=False, repr=False)
class PspEntropy(Result):
    """PSP-entropy of one order, and the PSP norm, of one net on one set of images. Layers are the ReLUs.

    A tuple is a choice of ``order`` distinct neurons of a layer.
    """

    drawn_by = "sharpminima.figures.results:entropies"

    order: int  # k >= 1
    definition: str  # of the orders above 1: "joint" or "agreement"
    per_neuron: dict[str, Tensor] | None  # layer -> H(z_i|c), float64 [classes, neurons], bits; None above order 1
    per_class: dict[str, Tensor]  # layer -> mean over its neurons (tuples) of H(.|c), float64 [classes], bits
    per_layer: dict[str, float]  # layer -> mean over its neurons (tuples) of the entropy summed over classes, bits
    mean: float  # bits; order 1: over all hidden neurons; above: over layers
    mean_live: float  # bits; as `mean`, of live neurons only; 0 where there are none (no tuple of them)
    exact: bool  # False: some layer's tuples were sampled
    standard_errors: dict[str, float]  # layer -> of `per_layer`, bits; 0 where it is exact
    standard_error_mean: float  # of `mean`, bits
    standard_error_mean_live: float  # of `mean_live`, bits
    norm: float  # mean over samples and neurons of z^2 in each hidden layer, then mean over layers
    norm_with_output: float  # the same, with the logits as one more layer
    norm_per_layer: dict[str, float]  # layer -> mean over samples and neurons of z^2
    neurons: dict[str, int]  # layer -> hidden neurons
    live: dict[str, int]  # layer -> neurons whose state is not the same on all images
    always_on: dict[str, float]  # layer -> share of its neurons with z > 0 on all images
    always_off: dict[str, float]  # layer -> share of its neurons with z <= 0 on all images
    classes: Tensor  # int64 [classes]; the numbers of the classes that are measured

    def _lines(self) -> tuple[str, str, str]:
        error = "" if self.exact else f" +- {self.standard_error_mean:.2g} (sampled)"
        neurons, live = sum(self.neurons.values()), sum(self.live.values())
        what = "" if self.order == 1 else f", {self.definition}"
        return (
            f"PspEntropy: order {self.order}{what}, {len(self.per_layer)} layers, {len(self.classes)} classes",
            f"mean {self.mean:.4g}{error} bits; {self.mean_live:.4g} of live neurons",
            f"{live:,} of {neurons:,} neurons live; PSP norm {self.norm:.4g}",
        )

    def _columns(self) -> dict[str, Any]:
        layers = list(self.per_layer)  # those with a tuple
        return {
            "layer": layers,
            "neurons": [self.neurons[name] for name in layers],
            "live": [self.live[name] for name in layers],
            "entropy_bits": list(self.per_layer.values()),
            "standard_error_bits": [self.standard_errors[name] for name in layers],
            "norm": [self.norm_per_layer[name] for name in layers],
            "always_on": [self.always_on[name] for name in layers],
            "always_off": [self.always_off[name] for name in layers],
        }


@dataclass(frozen=True)
class _Mean:
    """Means over a layer's tuples of neurons, and over those of its live neurons, in bits."""

    per_class: Tensor  # float64 [classes]
    total: float  # summed over classes
    live: float | None  # summed over classes; None where there is no tuple of live neurons
    sampled: bool = False
    error: float = 0.0  # standard error of `total`
    error_live: float = 0.0  # of `live`


@dataclass(frozen=True)
class ClassPart:
    """What one class adds to a layer's mean over tuples of neurons."""

    varying: int  # neurons whose state is not the same on all images of the class
    means: dict[int, tuple[float, float]]  # varying neurons of a tuple -> mean joint entropy, standard error; bits


@dataclass(frozen=True, eq=False, repr=False)
class PspStatistics(Result):
    """All that entropies of every order, norms, loss and error are computed from; see `psp_statistics`."""

    drawn_by = "sharpminima.figures.results:states"

    layers: dict[str, LayerStatistics]  # in the order of the forward pass
    labels: Tensor  # int64 [N]
    class_sizes: Tensor  # int64 [classes]; images of each class
    logit_squares: float  # sum over images and outputs of the squared logits
    evaluation: Evaluation  # loss and errors on the same images
    classes: Tensor  # int64 [classes]; their numbers
    outputs: int  # of the model

    def __post_init__(self) -> None:
        # Files hold dictionaries.
        layers = {name: _made(LayerStatistics, layer) for name, layer in self.layers.items()}
        object.__setattr__(self, "layers", layers)
        object.__setattr__(self, "evaluation", _made(Evaluation, self.evaluation))

    def _lines(self) -> tuple[str, str, str]:
        columns = self._columns()
        kept = all(layer.states is not None for layer in self.layers.values())
        loss, error = self.evaluation.loss, self.evaluation.error_percent
        return (
            f"PspStatistics: {len(self.layers)} layers, {len(self.classes)} classes, {len(self.labels):,} images",
            f"{sum(columns['live']):,} of {sum(columns['neurons']):,} neurons live; states "
            + ("kept" if kept else "not kept: entropy of order 1, and by agreement"),
            f"loss {loss:.4g} nats, error {error:.4g} %",
        )

    def _columns(self) -> dict[str, Any]:
        neurons = [layer.active.shape[1] for layer in self.layers.values()]
        live = [int(self.live(layer).sum()) for layer in self.layers.values()]
        on = [int(self._always_on(layer).sum()) for layer in self.layers.values()]
        counts = list(zip(self.layers.values(), neurons, live, on, strict=True))
        return {
            "layer": list(self.layers),
            "neurons": neurons,
            "live": live,
            "always_on": [on / neurons for _, neurons, _, on in counts],
            "always_off": [(neurons - live - on) / neurons for _, neurons, live, on in counts],
            "norm": [layer.squares / (self.evaluation.samples * neurons) for layer, neurons, _, _ in counts],
        }

    def entropy(
        self,
        order: int = 1,
        definition: str = "joint",
        *,
        samples: int | None = None,
        seed: int = 0,
        progress: Progress | None = None,
    ) -> PspEntropy:
        """PSP-entropy of one order; see `psp_entropy`.

        Memory: at order 1, 8 bytes a class and hidden neuron. Of ``joint``, the states of one layer on one class's
        images, as bits twice (on CUDA, at order 2, as bytes once, and 40 bytes for each of 2^22 pairs), and 8 bytes a
        tuple and neuron of a sample. ``progress`` counts the classes of each layer, of ``joint`` above order 1.

        Raises:
            AnalysisError: the order, the definition or the number of samples is not offered; ``joint`` above
                order 1 without the states (collect with ``pairs=True``); no layer has as many neurons as a
                tuple; there are too many tuples to count them all, and no ``samples`` are asked for.
        """
        order = check_order(order, definition)
        samples, seed = check_samples(samples, seed)
        per_neuron = None
        if order == 1:
            per_neuron = {name: self._class_entropies(layer).cpu() for name, layer in self.layers.items()}
            sums = {name: (entropies.sum(dim=1), float(entropies.sum())) for name, entropies in per_neuron.items()}
            return self.first_order(sums, per_neuron, definition)
        if definition == "agreement":
            return self.higher_order(order, definition, self.agreement(order))
        return self.higher_order(order, definition, self._joint(order, samples, seed, progress))

    def first_order(
        self, sums: dict[str, tuple[Tensor, float]], per_neuron: dict[str, Tensor] | None, definition: str
    ) -> PspEntropy:
        """The result of order 1, from the sums of a layer's entropies in each class, and in all."""
        means = {}
        for name, (per_class, total) in sums.items():
            neurons, live = self.layers[name].active.shape[1], int(self.live(self.layers[name]).sum())
            # A neuron that is not live has no entropy in any class, so all means share one sum.
            means[name] = _Mean(per_class / neurons, total / neurons, total / live if live else None)
        live = sum(int(self.live(layer).sum()) for layer in self.layers.values())
        neurons = sum(layer.active.shape[1] for layer in self.layers.values())
        total = math.fsum(total for _, total in sums.values())
        return self._result(1, definition, per_neuron, means, total / neurons, total / live if live else 0.0)

    def higher_order(self, order: int, definition: str, means: dict[str, _Mean]) -> PspEntropy:
        """The result of an order above 1, from the layers' means."""
        lives = [of.live for of in means.values() if of.live is not None]
        mean = math.fsum(of.total for of in means.values()) / len(means)
        return self._result(order, definition, None, means, mean, math.fsum(lives) / len(lives) if lives else 0.0)

    def _result(
        self,
        order: int,
        definition: str,
        per_neuron: dict[str, Tensor] | None,
        means: dict[str, _Mean],
        mean: float,
        mean_live: float,
    ) -> PspEntropy:
        images = self.evaluation.samples
        neurons = {name: layer.active.shape[1] for name, layer in self.layers.items()}
        on = {name: int(self._always_on(layer).sum()) for name, layer in self.layers.items()}
        live = {name: int(self.live(layer).sum()) for name, layer in self.layers.items()}
        norms = {name: layer.squares / (images * neurons[name]) for name, layer in self.layers.items()}
        output_norm = self.logit_squares / (images * self.outputs)
        errors_live = [of.error_live for of in means.values() if of.live is not None]
        return PspEntropy(
            order=order,
            definition=definition,
            per_neuron=per_neuron,
            per_class={name: of.per_class for name, of in means.items()},
            per_layer={name: of.total for name, of in means.items()},
            mean=mean,
            mean_live=mean_live,
            exact=not any(of.sampled for of in means.values()),
            standard_errors={name: of.error for name, of in means.items()},
            standard_error_mean=math.hypot(*(of.error for of in means.values())) / len(means),
            standard_error_mean_live=math.hypot(*errors_live) / max(1, len(errors_live)),
            norm=math.fsum(norms.values()) / len(norms),
            norm_with_output=math.fsum([*norms.values(), output_norm]) / (len(norms) + 1),
            norm_per_layer=norms,
            neurons=neurons,
            live=live,
            always_on={name: on[name] / neurons[name] for name in neurons},
            always_off={name: (neurons[name] - live[name] - on[name]) / neurons[name] for name in neurons},
            classes=self.classes,
        )

    def _always_on(self, layer: LayerStatistics) -> Tensor:
        return layer.active.sum(dim=0) == self.evaluation.samples

    def live(self, layer: LayerStatistics) -> Tensor:
        """Which neurons' states are not the same on all images: bool [neurons]."""
        return (layer.active.sum(dim=0) > 0) & ~self._always_on(layer)

    def varying(self, layer: LayerStatistics) -> Tensor:
        """Which states are not the same on all images of a class: bool [classes, neurons]."""
        return (layer.active > 0) & (layer.active < self.class_sizes[:, None])

    def _class_entropies(self, layer: LayerStatistics) -> Tensor:
        """H(z_i|c), bits: float64 [classes, neurons] (eq. 4)."""
        sizes = self.class_sizes[:, None]
        bits = torch.empty_like(layer.active, dtype=torch.float64)
        columns = max(1, CHUNK // (4 * len(sizes)))
        for active, entropies in zip(layer.active.split(columns, dim=1), bits.split(columns, dim=1), strict=True):
            on, off = active.double() / sizes, (sizes - active).double() / sizes
            entropies.copy_(-(torch.special.xlogy(on, on) + torch.special.xlogy(off, off)) / math.log(2))
        return bits

    def with_tuples(self, order: int) -> dict[str, LayerStatistics]:
        """The layers that have as many neurons as a tuple.

        Raises:
            AnalysisError: none has.
        """
        layers = {name: layer for name, layer in self.layers.items() if layer.active.shape[1] >= order}
        if not layers:
            raise AnalysisError(f"no hidden layer has {order} neurons, so there are no tuples; choose a lower order")
        return layers

    def _joint(self, order: int, samples: int | None, seed: int, progress: Progress | None) -> dict[str, _Mean]:
        layers = self.with_tuples(order)
        sampled = {}
        for name, layer in layers.items():
            if layer.states is None:
                raise AnalysisError("the states of the neurons were not kept; collect with pairs=True above order 1")
            varying = self.varying(layer).sum(dim=1).tolist()
            sampled[name] = too_many(name, varying, layer.active.shape[1], order, MAX_STATES, samples)
        done, in_all = 0, len(layers) * len(self.class_sizes)
        means = {}
        for name, layer in layers.items():
            parts = []
            for row in range(len(self.class_sizes)):
                parts.append(self.class_part(name, row, order, sampled[name], samples or 0, seed))
                done += 1
                if progress:
                    progress(done, in_all)
            neurons, live = layer.active.shape[1], int(self.live(layer).sum())
            means[name] = joint_mean(parts, neurons, live, order, sampled[name])
        return means

    def class_part(self, name: str, row: int, order: int, sampled: set[int], samples: int, seed: int) -> ClassPart:
        """What the class in a row adds to the mean over a layer's tuples; those of ``sampled`` sizes are sampled."""
        from sharpminima.analysis.psp._joint import JointStates  # it compiles, which the first order does not need

        layer, number = self.layers[name], int(self.classes[row])
        assert layer.states is not None  # `entropy` has asked for them
        neurons = layer.active.shape[1]
        chosen = self.varying(layer)[row]
        states = JointStates(layer.states[self.labels == number], chosen)
        means = {}
        for size in range(1, min(order, states.neurons) + 1):
            if not _share(neurons, states.neurons, order, size):
                continue
            error = 0.0
            if size == 1:
                mean = float(self.row_entropies(layer, row).sum()) / states.neurons
            elif size not in sampled:
                mean = states.entropy_sum(size) / math.comb(states.neurons, size)
            else:
                draws = generator(seed, "psp-entropy", name, number, size)
                drawn = states.sample_entropies(size, samples, draws)
                mean, error = float(drawn.mean()), float(drawn.std()) / math.sqrt(samples)
            means[size] = mean, error
        return ClassPart(states.neurons, means)

    def row_entropies(self, layer: LayerStatistics, row: int) -> Tensor:
        """H(z_i|c) of one class, bits: float64 [neurons]."""
        on = layer.active[row].double() / self.class_sizes[row]
        off = (self.class_sizes[row] - layer.active[row]).double() / self.class_sizes[row]
        return -(torch.special.xlogy(on, on) + torch.special.xlogy(off, off)) / math.log(2)

    def agreement(self, order: int) -> dict[str, _Mean]:
        """The means of the layers by agreement."""
        means = {}
        for name, layer in self.with_tuples(order).items():
            neurons, live = layer.active.shape[1], int(self.live(layer).sum())
            on = int(self._always_on(layer).sum())
            per_class = self._disagreement_entropies(layer.active_neurons, neurons, order)
            of_live = self._disagreement_entropies(layer.active_neurons - on, live, order) if live >= order else None
            means[name] = _Mean(per_class, float(per_class.sum()), None if of_live is None else float(of_live.sum()))
        return means

    def _disagreement_entropies(self, active: Tensor, neurons: int, order: int) -> Tensor:
        """-(1 - f) log2 (1 - f) of each class, float64 [classes], where ``active`` [N] of ``neurons`` have state 1.

        On one image, comb(active, order) tuples agree on 1 and comb(neurons - active, order) on 0: no tuple need
        be formed, and all is counted in integers.
        """
        shares = []
        for number, size in zip(self.classes.tolist(), self.class_sizes.tolist(), strict=True):
            tuples = math.comb(neurons, order)
            values, images = torch.unique(active[self.labels == number], return_counts=True)
            differing = sum(
                count * (tuples - math.comb(value, order) - math.comb(neurons - value, order))
                for value, count in zip(values.tolist(), images.tolist(), strict=True)
            )
            shares.append(differing / (size * tuples))
        share = torch.tensor(shares, dtype=torch.float64)
        return -torch.special.xlogy(share, share) / math.log(2)


def _share(neurons: int, varying: int, order: int, size: int) -> float:
    """The share of the tuples of ``order`` neurons of which just ``size`` are among the ``varying`` ones."""
    tuples = math.comb(neurons, order)
    return math.comb(varying, size) * math.comb(neurons - varying, order - size) / tuples if tuples else 0.0


def too_many(name: str, varying: list[int], neurons: int, order: int, limit: float, samples: int | None) -> set[int]:
    """Which tuples up to ``order`` neurons of a layer are too many to enumerate: how many of their neurons vary.

    Args:
        varying: in each of the classes, the neurons whose state is not the same on all images of the class.
        neurons: of the layer.
        limit: joint states in all those classes up to which all tuples are counted.
        samples: tuples to draw instead; None: that is an error.

    Raises:
        AnalysisError: there are too many, and none are to be drawn.
    """
    sizes = set()
    for size in range(2, order + 1):
        states = sum(math.comb(count, size) << size for count in varying if neurons - count >= order - size)
        if states <= limit:
            continue
        if samples is None:
            raise AnalysisError(
                f"the tuples of {size} neurons of layer {name} have {float(states):.1e} joint states, too many to "
                f"count them all (at most {limit:.0e}); sample tuples with samples=, for instance 100000"
            )
        sizes.add(size)
    return sizes


def joint_mean(parts: list[ClassPart], neurons: int, live: int, order: int, sampled: set[int]) -> _Mean:
    """The mean over a layer's tuples, from what each class adds.

    A neuron that is constant within the class adds nothing to a joint entropy. So the mean over tuples is that over the
    neurons of a tuple that vary, by how many tuples have so many.
    """
    per_class, of_live, errors, errors_live = [], [], [0.0], [0.0]
    for part in parts:
        its_parts = [0.0]
        for size, (mean, error) in part.means.items():
            share, share_live = (_share(count, part.varying, order, size) for count in (neurons, live))
            its_parts.append(share * mean)
            of_live.append(share_live * mean)
            errors.append(share * error)
            errors_live.append(share_live * error)
        per_class.append(math.fsum(its_parts))
    return _Mean(
        per_class=torch.tensor(per_class, dtype=torch.float64),
        total=math.fsum(per_class),
        live=math.fsum(of_live) if live >= order else None,
        sampled=bool(sampled),
        error=math.hypot(*errors),
        error_live=math.hypot(*errors_live),
    )


def check_order(order: Any, definition: str) -> int:
    """Check an order and a definition of PSP-entropy; the order.

    Raises:
        AnalysisError: the order is not a whole number from 1 on, or there is no such definition.
    """
    order = check_whole("order", order, least=1)
    if definition not in DEFINITIONS:
        raise AnalysisError(f"there is no definition {definition!r}; there are {', '.join(DEFINITIONS)}")
    return order


def check_samples(samples: Any, seed: Any) -> tuple[int | None, int]:
    """Check a number of tuples to draw, and a seed; both.

    Raises:
        AnalysisError: they are no whole numbers, or fewer than 2 tuples are asked for.
    """
    samples, seed = optional(check_whole, "samples", samples), check_whole("seed", seed)
    if samples is not None and samples < 2:
        raise AnalysisError(f"samples is {samples}; give at least 2 tuples, as one has no standard error")
    return samples, seed


@measuring(gradients=False)
def psp_statistics(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    pairs: bool = False,
    batch_size: int = 250,
    activations: Activations = "relu",
    classes: str = "all",
    progress: Progress | None = None,
) -> PspStatistics:
    """Collect, in one pass over the data, what PSP-entropies, PSP norms, loss and error need.

    Args:
        model: a net with ReLUs, as `capture_preactivations` finds them, and logits [N, classes]; it runs in eval
            mode and its own precision, without autocast, and each module's mode is restored.
        images: normalised float images [N, C, H, W] on the model's device.
        labels: int64 class numbers [N] on the same device; every class must occur, unless ``classes`` says otherwise.
        pairs: keep the states too, which ``joint`` needs above order 1.
        batch_size: images a forward pass. On a CPU, hundreds are faster than thousands.
        activations: whose inputs count: "relu", "all" or a predicate of modules, as for `capture_preactivations`.
        classes: "all" of the model's, or the "present" ones: those that have images. The others are left out of all
            entropies, as if the model did not have them.
        progress: called with (batches done, batches in all).

    Warns:
        UserWarning: activations are left out, as `capture_preactivations` says.

    Memory: beyond the forward pass itself, 2^21 pre-activations (or one image's) in float64 and as bool, 16 bytes an
    image and layer, and 12 bytes a class and hidden neuron, of which 8 are kept; with ``pairs`` one bit an image and
    hidden neuron more (LeNet-5 on 60,000 images: 114 MB), and twice that while the layers' bits are put together.

    Raises:
        AnalysisError: no ReLU runs, or some ReLU does not run on every image; images, labels or logits of a wrong
            shape, type or device; labels out of range; a class without images; NaN or infinity among weights,
            pre-activations or logits; a model that draws random numbers or mixes the images of a batch in eval mode,
            that is compiled, quantised or wrapped, or fails.

    >>> net = nn.Sequential(nn.Flatten(), nn.Linear(1, 2, bias=False), nn.ReLU(), nn.Linear(2, 2))
    >>> net[1].weight.data = torch.tensor([[1.0], [-1.0]])
    >>> images, labels = torch.tensor([-1.0, 1.0, 1.0, 1.0]).view(4, 1, 1, 1), torch.tensor([0, 0, 1, 1])
    >>> statistics = psp_statistics(net, images, labels, pairs=True)
    >>> statistics.layers["2"].active.tolist(), statistics.entropy(2).mean  # images with z > 0 [classes, neurons]; bits
    ([[1, 1], [2, 0]], 1.0)
    """
    batch_size = check_whole("batch_size", batch_size, least=1)
    images, labels = check_images(images, labels)
    outputs = check_model(model, images, activations)
    return collect_statistics(
        model,
        images,
        labels,
        outputs,
        pairs=pairs,
        batch_size=batch_size,
        activations=activations,
        classes=classes,
        progress=progress,
    )


def _made(kind: type[_T], value: _T | Mapping[str, Any]) -> _T:
    """A part of a result as it is, or of the dictionary that a file holds."""
    return value if isinstance(value, kind) else kind(**cast(Mapping[str, Any], value))


def collect_statistics(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    outputs: int,
    *,
    pairs: bool,
    batch_size: int,
    activations: Activations = "relu",
    classes: str = "all",
    progress: Progress | None = None,
) -> PspStatistics:
    """`psp_statistics` of a model and images that are known to fit, without gradients being recorded."""
    check_finite_weights(model)
    measured = measured_classes(labels, outputs, classes)
    collection = Collection(model, measured, pairs=pairs, activations=activations)
    with collection.running():
        for start in range(0, len(images), batch_size):
            collection.add(images[start : start + batch_size], labels[start : start + batch_size])
            if progress:
                progress(start // batch_size + 1, -(-len(images) // batch_size))
    warn_caller(collection.left_out)
    return statistics_of(collection, measured)


def measured_classes(labels: Tensor, outputs: int, classes: str) -> Tensor:
    """The numbers of the classes that are measured, int64, rising.

    Raises:
        AnalysisError: a label is out of range, a class has no images but should have, or there is no such choice.
    """
    check_choice(classes)
    sizes = count_labels(labels, outputs)
    empty = (sizes == 0).nonzero().flatten().tolist()
    if empty and classes == "all":
        some = ", ".join(map(str, empty[:5])) + (f", ... ({len(empty)} in all)" if len(empty) > 5 else "")
        raise AnalysisError(
            f"class {some} has no images; give images of all {outputs} classes, or classes='present' to leave out "
            "those without"
        )
    return sizes.nonzero().flatten()


def check_choice(classes: str) -> None:
    """Check a choice of classes.

    Raises:
        AnalysisError: it is not offered.
    """
    if classes not in CLASSES:
        raise AnalysisError(f"classes are {classes!r}; there are {' and '.join(map(repr, CLASSES))}")


def statistics_of(collection: Collection, classes: Tensor) -> PspStatistics:
    """The statistics of what was collected, of these classes.

    Raises:
        AnalysisError: a layer has no neurons, or as `Collection.statistics`.
    """
    labels, layers = collection.labels(), collection.statistics(classes)
    for name, layer in layers.items():
        if layer.active.shape[1] == 0:
            raise AnalysisError(f"layer {name} has no neurons, and so no entropy; take it out of the model")
    return PspStatistics(
        layers=layers,
        labels=labels,
        class_sizes=torch.bincount(labels, minlength=collection.outputs)[classes],
        logit_squares=collection.logit_squares(),
        evaluation=collection.evaluation(),
        classes=classes,
        outputs=collection.outputs,
    )
