"""PSP-entropy and PSP norm of a net's hidden neurons.

Tartaglione, Bragagnolo, Grangetto, "Pruning artificial neural networks: a way to find well-generalizing,
high-entropy sharp minima", ICANN 2020, eq. 4-5. A neuron's state is 1 where its post-synaptic potential z
(the pre-activation that enters a ReLU) is above 0, else 0; 0 log 0 = 0 exactly.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sharpminima.analysis._inputs import (
    check_finite_weights,
    check_images,
    check_model,
    check_whole,
    count_labels,
    given,
    logits_of,
)
from sharpminima.analysis.psp._activations import Activations
from sharpminima.analysis.psp._states import pack
from sharpminima.analysis.psp.preactivations import capture_preactivations
from sharpminima.base.errors import AnalysisError
from sharpminima.nets.evaluation import Evaluation, at_least_float32
from sharpminima.nets.modes import eval_mode, measuring
from sharpminima.runtime.rng import generator

DEFINITIONS = ("joint", "agreement")
"""The definitions of the orders above the first."""

MAX_STATES = 10**11
"""Joint states (2^k a tuple, over all classes) of a layer up to which order k > 2 is computed exactly."""

_CHUNK = 1 << 21  # pre-activations that are turned into states at once; more does not stay in a CPU's cache


@dataclass(frozen=True, eq=False)
class PspEntropy:
    """PSP-entropy of one order, and the PSP norm, of one net on one set of images. Layers are the ReLUs.

    A tuple is a choice of ``order`` distinct neurons of a layer.
    """

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


@dataclass(frozen=True, eq=False)
class LayerStatistics:
    """What one pass over the data keeps of one layer."""

    active: Tensor  # int64 [classes, neurons]; images of a class on which the neuron's state is 1
    active_neurons: Tensor  # int64 [N]; neurons whose state is 1 on an image
    squares: float  # sum of z^2 over images and neurons
    states: Tensor | None  # uint8 [N, ceil(neurons / 8)]; the states as bits, where pairs were asked for


@dataclass(frozen=True)
class _Mean:
    """Means over a layer's tuples of neurons, and over those of its live neurons, in bits."""

    per_class: Tensor  # float64 [classes]
    total: float  # summed over classes
    live: float | None  # summed over classes; None where there is no tuple of live neurons
    sampled: bool = False
    error: float = 0.0  # standard error of `total`
    error_live: float = 0.0  # of `live`


@dataclass(frozen=True, eq=False)
class PspStatistics:
    """All that entropies of every order, norms, loss and error are computed from; see `psp_statistics`."""

    layers: dict[str, LayerStatistics]  # in the order of the forward pass
    labels: Tensor  # int64 [N]
    class_sizes: Tensor  # int64 [classes]; images of each class
    logit_squares: float  # sum over images and classes of the squared logits
    evaluation: Evaluation  # loss and errors on the same images

    def entropy(
        self, order: int = 1, definition: str = "joint", *, samples: int | None = None, seed: int = 0
    ) -> PspEntropy:
        """PSP-entropy of one order; see `psp_entropy`.

        Memory: of ``joint``, the states of one layer on one class's images, as bits twice (on CUDA, at order 2,
        as bytes once, and 40 bytes for each of 2^22 pairs), and 8 bytes a tuple and neuron of a sample.

        Raises:
            AnalysisError: the order, the definition or the number of samples is not offered; ``joint`` above
                order 1 without the states (collect with ``pairs=True``); no layer has as many neurons as a
                tuple; there are too many tuples to count them all, and no ``samples`` are asked for.
        """
        check_order(order, definition)
        check_whole(seed=seed, **given(samples=samples))
        if samples is not None and samples < 2:
            raise AnalysisError(f"samples is {samples}; give at least 2 tuples, as one has no standard error")
        per_neuron = None
        if order == 1:
            per_neuron = {name: self._class_entropies(layer).cpu() for name, layer in self.layers.items()}
            means, mean, mean_live = self._first_order(per_neuron)
        else:
            means = self._joint(order, samples, seed) if definition == "joint" else self._agreement(order)
            lives = [of.live for of in means.values() if of.live is not None]
            mean = math.fsum(of.total for of in means.values()) / len(means)
            mean_live = math.fsum(lives) / len(lives) if lives else 0.0
        images = self.evaluation.samples
        neurons = {name: layer.active.shape[1] for name, layer in self.layers.items()}
        on = {name: int(self._always_on(layer).sum()) for name, layer in self.layers.items()}
        live = {name: int(self._live(layer).sum()) for name, layer in self.layers.items()}
        norms = {name: layer.squares / (images * neurons[name]) for name, layer in self.layers.items()}
        output_norm = self.logit_squares / (images * len(self.class_sizes))
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
        )

    def _always_on(self, layer: LayerStatistics) -> Tensor:
        return layer.active.sum(dim=0) == self.evaluation.samples

    def _live(self, layer: LayerStatistics) -> Tensor:
        return (layer.active.sum(dim=0) > 0) & ~self._always_on(layer)

    def _varying(self, layer: LayerStatistics) -> Tensor:
        """Which states are not the same on all images of a class: bool [classes, neurons]."""
        return (layer.active > 0) & (layer.active < self.class_sizes[:, None])

    def _class_entropies(self, layer: LayerStatistics) -> Tensor:
        """H(z_i|c), bits: float64 [classes, neurons] (eq. 4)."""
        sizes = self.class_sizes[:, None]
        on, off = layer.active.double() / sizes, (sizes - layer.active).double() / sizes
        return -(torch.special.xlogy(on, on) + torch.special.xlogy(off, off)) / math.log(2)

    def _first_order(self, per_neuron: dict[str, Tensor]) -> tuple[dict[str, _Mean], float, float]:
        means, totals = {}, []
        for name, entropies in per_neuron.items():
            totals.append(float(entropies.sum()))
            neurons, live = entropies.shape[1], int(self._live(self.layers[name]).sum())
            # A neuron that is not live has no entropy in any class, so all means share one sum.
            mean_live = totals[-1] / live if live else None
            means[name] = _Mean(entropies.sum(dim=1) / neurons, totals[-1] / neurons, mean_live)
        live = sum(int(self._live(layer).sum()) for layer in self.layers.values())
        neurons = sum(entropies.shape[1] for entropies in per_neuron.values())
        total = math.fsum(totals)
        return means, total / neurons, total / live if live else 0.0

    def _with_tuples(self, order: int) -> dict[str, LayerStatistics]:
        layers = {name: layer for name, layer in self.layers.items() if layer.active.shape[1] >= order}
        if not layers:
            raise AnalysisError(f"no hidden layer has {order} neurons, so there are no tuples; choose a lower order")
        return layers

    def _joint(self, order: int, samples: int | None, seed: int) -> dict[str, _Mean]:
        layers = self._with_tuples(order)
        sampled = {name: self._too_many(layer, order) for name, layer in layers.items()}
        for name, layer in layers.items():
            if layer.states is None:
                raise AnalysisError("the states of the neurons were not kept; collect with pairs=True above order 1")
            for size, states in sampled[name].items():
                if samples is None:
                    raise AnalysisError(
                        f"the tuples of {size} neurons of layer {name} have {states:.1e} joint states, too many to "
                        f"count them all (at most {MAX_STATES:.0e}); sample tuples with samples=, for instance 100000"
                    )
        return {name: self._joint_mean(name, order, set(sampled[name]), samples or 0, seed) for name in layers}

    def _too_many(self, layer: LayerStatistics, order: int) -> dict[int, int]:
        """Tuples up to ``order`` that are too many to enumerate: their size -> joint states in all classes."""
        neurons = layer.active.shape[1]
        varying = self._varying(layer).sum(dim=1).tolist()
        states = {
            size: sum(math.comb(count, size) << size for count in varying if neurons - count >= order - size)
            for size in range(3, order + 1)
        }
        return {size: number for size, number in states.items() if number > MAX_STATES}

    def _joint_mean(self, name: str, order: int, sampled: set[int], samples: int, seed: int) -> _Mean:
        from sharpminima.analysis.psp._joint import JointStates  # it compiles, which the first order does not need

        layer = self.layers[name]
        packed = layer.states
        assert packed is not None  # `entropy` has asked for them
        neurons, live = layer.active.shape[1], int(self._live(layer).sum())
        varying, own = self._varying(layer), self._class_entropies(layer)
        per_class, of_live, errors, errors_live = [], [], [0.0], [0.0]
        for label in range(len(self.class_sizes)):
            states = JointStates(packed[self.labels == label], varying[label])
            parts = [0.0]
            # A neuron that is constant within the class adds nothing to a joint entropy. So the mean over tuples
            # is that over the `size` neurons of a tuple that vary, by how many tuples have so many.
            for size in range(1, min(order, states.neurons) + 1):
                share = _share(neurons, states.neurons, order, size)
                share_live = _share(live, states.neurons, order, size)
                if not share and not share_live:
                    continue
                if size == 1:
                    mean = float(own[label].sum()) / states.neurons
                elif size not in sampled:
                    mean = states.entropy_sum(size) / math.comb(states.neurons, size)
                else:
                    draws = generator(seed, "psp-entropy", name, label, size)
                    found = states.sample_entropies(size, samples, draws)
                    mean, error = float(found.mean()), float(found.std()) / math.sqrt(samples)
                    errors.append(share * error)
                    errors_live.append(share_live * error)
                parts.append(share * mean)
                of_live.append(share_live * mean)
            per_class.append(math.fsum(parts))
        return _Mean(
            per_class=torch.tensor(per_class, dtype=torch.float64),
            total=math.fsum(per_class),
            live=math.fsum(of_live) if live >= order else None,
            sampled=bool(sampled),
            error=math.hypot(*errors),
            error_live=math.hypot(*errors_live),
        )

    def _agreement(self, order: int) -> dict[str, _Mean]:
        means = {}
        for name, layer in self._with_tuples(order).items():
            neurons, live = layer.active.shape[1], int(self._live(layer).sum())
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
        for label, size in enumerate(self.class_sizes.tolist()):
            tuples = math.comb(neurons, order)
            values, images = torch.unique(active[self.labels == label], return_counts=True)
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


class _LayerCollector:
    """Adds up one layer's statistics, batch after batch."""

    def __init__(self, name: str, pairs: bool) -> None:
        self.name, self.pairs = name, pairs
        self.active: Tensor | None = None
        self.squares = torch.zeros((), dtype=torch.float64)
        self.active_neurons: list[Tensor] = []
        self.states: list[Tensor] = []

    def add(self, z: Tensor, members: Tensor) -> None:
        """Add ``z`` [B, neurons] of images whose classes ``members`` [classes, B] marks with ones."""
        if self.active is None:
            self.active = torch.zeros(len(members), z.shape[1], dtype=torch.float64, device=z.device)
        if z.shape != (members.shape[1], self.active.shape[1]):
            raise AnalysisError(
                f"the ReLU {self.name} ran on {list(z.shape)} values in a batch of {members.shape[1]} images; "
                f"[images, neurons] are needed, always with the same neurons"
            )
        rows = max(1, _CHUNK // max(1, z.shape[1]))
        for part, its_members in zip(z.split(rows), members.split(rows, dim=1), strict=True):
            state = part > 0
            ones = state.float()
            # A batch's counts are exact in float32; their sum is taken in float64.
            self.active += its_members @ ones
            self.active_neurons.append(ones.sum(dim=1).long())
            self.squares = self.squares + _squares(part).sum()
            if self.pairs:
                self.states.append(pack(state))

    def result(self, images: int) -> LayerStatistics:
        """All that was added, of ``images`` images."""
        assert self.active is not None  # a collector is made for its first batch
        active_neurons = torch.cat(self.active_neurons)
        if len(active_neurons) != images:
            raise AnalysisError(
                f"the ReLU {self.name} ran on {len(active_neurons)} of {images} images; every batch must take the same "
                "way through the model"
            )
        return LayerStatistics(
            active=self.active.long(),
            active_neurons=active_neurons,
            squares=_finite(self.squares, f"the pre-activations of {self.name}"),
            states=torch.cat(self.states) if self.pairs else None,
        )


def _squares(values: Tensor) -> Tensor:
    """Sum of squares of each row, float64; without a float64 copy where that is slow."""
    return torch.linalg.vector_norm(values, dim=1, dtype=torch.float64).square()


def _finite(squares: Tensor, what: str) -> float:
    if not squares.isfinite():
        raise AnalysisError(f"{what} hold NaN or infinity; check the weights and the images")
    return float(squares)


def check_order(order: int, definition: str) -> None:
    """Check an order and a definition of PSP-entropy.

    Raises:
        AnalysisError: the order is not a whole number from 1 on, or there is no such definition.
    """
    if not isinstance(order, int) or isinstance(order, bool) or order < 1:
        raise AnalysisError(f"PSP-entropy of order {order} is not offered; choose 1, 2, 3, ...")
    if definition not in DEFINITIONS:
        raise AnalysisError(f"there is no definition {definition!r}; there are {', '.join(DEFINITIONS)}")


@measuring(gradients=False)
def psp_statistics(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    pairs: bool = False,
    batch_size: int = 250,
    activations: Activations = "relu",
) -> PspStatistics:
    """Collect, in one pass over the data, what PSP-entropies, PSP norms, loss and error need.

    Args:
        model: a net with ReLUs, as `capture_preactivations` finds them, and logits [N, classes]; it runs in eval
            mode and its own precision, without autocast, and each module's mode is restored.
        images: normalised float images [N, C, H, W] on the model's device.
        labels: int64 class numbers [N] on the same device; every class must occur.
        pairs: keep the states too, which ``joint`` needs above order 1.
        batch_size: images a forward pass. On a CPU, hundreds are faster than thousands.
        activations: whose inputs count: "relu", "all" or a predicate of modules, as for `capture_preactivations`.

    Warns:
        UserWarning: activations are left out, as `capture_preactivations` says.

    Memory: beyond the forward pass itself, 2^21 pre-activations (or one image's) in float64 and as bool, 8 bytes
    an image and layer, and 8 bytes a class and hidden neuron; with ``pairs`` one bit an image and hidden neuron
    more (LeNet-5 on 60,000 images: 114 MB).

    Raises:
        AnalysisError: no ReLU runs, or some ReLU does not run on every image; images, labels or logits of a wrong
            shape, type or device; labels out of range; a class without images; NaN or infinity among weights,
            pre-activations or logits; a model that draws random numbers or mixes the images of a batch in eval mode,
            that is compiled, quantised or wrapped, or fails.

    >>> net = nn.Sequential(nn.Flatten(), nn.Linear(1, 2, bias=False), nn.ReLU(), nn.Linear(2, 2))
    >>> net[1].weight.data = torch.tensor([[1.0], [-1.0]])
    >>> images, labels = torch.tensor([-1.0, 1.0, 1.0, 1.0]).view(4, 1, 1, 1), torch.tensor([0, 0, 1, 1])
    >>> found = psp_statistics(net, images, labels, pairs=True)
    >>> found.layers["2"].active.tolist(), found.entropy(2).mean  # images with z > 0 [classes, neurons]; bits
    ([[1, 1], [2, 0]], 1.0)
    """
    images, labels = check_images(images, labels, batch_size)
    classes = check_model(model, images)
    return collect_statistics(
        model, images, labels, classes, pairs=pairs, batch_size=batch_size, activations=activations
    )


def collect_statistics(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    classes: int,
    *,
    pairs: bool,
    batch_size: int,
    activations: Activations = "relu",
) -> PspStatistics:
    """`psp_statistics` of a model and images that are known to fit, without gradients being recorded."""
    check_finite_weights(model)
    class_sizes = count_labels(labels, classes)
    if not class_sizes.all():
        empty = ", ".join(str(label) for label in (class_sizes == 0).nonzero().flatten().tolist())
        raise AnalysisError(f"class {empty} has no images; give images of all {len(class_sizes)} classes")

    collectors: dict[str, _LayerCollector] = {}
    members = torch.empty(0)

    def collect(name: str, z: Tensor) -> None:
        collectors.setdefault(name, _LayerCollector(name, pairs)).add(z, members)

    loss, logit_squares = torch.zeros(2, dtype=torch.float64, device=images.device)
    wrong = torch.zeros((), dtype=torch.int64, device=images.device)
    with eval_mode(model), capture_preactivations(model, collect, activations):
        for batch, target in zip(images.split(batch_size), labels.split(batch_size), strict=True):
            members = F.one_hot(target, len(class_sizes)).T.float()
            logits = at_least_float32(logits_of(model, batch))
            loss += F.cross_entropy(logits, target, reduction="sum").double()
            wrong += (logits.argmax(dim=1) != target).sum()
            logit_squares += _squares(logits).sum()
    return PspStatistics(
        layers={name: collector.result(len(labels)) for name, collector in collectors.items()},
        labels=labels,
        class_sizes=class_sizes,
        logit_squares=_finite(logit_squares, "the logits"),
        evaluation=Evaluation(loss=loss.item() / len(labels), wrong=int(wrong), samples=len(labels)),
    )


def psp_entropy(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    order: int = 1,
    definition: str = "joint",
    samples: int | None = None,
    seed: int = 0,
    batch_size: int = 250,
    activations: Activations = "relu",
) -> PspEntropy:
    """PSP-entropy of ``model`` on ``images``, in bits.

    Order 1 (eq. 4-5): H(z_i) = sum over classes c of H(z_i|c), at most the number of classes; ``mean`` over
    all hidden neurons. Order k > 1, over the tuples of k distinct neurons of a layer, by ``definition``:

    - ``joint``: H(z_i, z_j, ...|c) over the 2^k joint states, summed over classes, averaged over the tuples
      (at most k times the number of classes), then over layers;
    - ``agreement``: -(1 - f) log2 (1 - f), summed over classes, averaged over layers, where f is the share of
      a layer's tuples and a class's images on which all k states are the same. The paper's authors computed
      this single term of pairs in their first public code, there with each neuron paired with itself too.

    All are exact but ``joint`` of k > 2 where a layer's tuples have more than `MAX_STATES` joint states, counted
    over the neurons that vary within a class (with 10 classes more than about 1,950 of them at k = 3, 350 at
    k = 4). There, and only where ``samples`` asks for it, the mean is estimated without bias and with a standard
    error from tuples that are drawn uniformly. Neurons that are constant within a class take no part in either:
    the joint entropy of a tuple is that of its neurons that vary.

    ``mean_live`` takes the neurons whose state is not the same on all the images, or the tuples of them, and
    leaves out layers without such a tuple. With none at all it is 0, as ``mean`` then is: constant states
    carry no information. A layer of fewer than k neurons has no tuples and is left out.

    Args:
        model, images, labels, batch_size, activations: as for `psp_statistics`, which gives all orders from one pass.
        order: k, from 1 on.
        definition: "joint" or "agreement"; both are the same at order 1.
        samples: tuples to draw in each class of a layer that has too many, once for every number of neurons
            above two that vary; None: an error there.
        seed: of the drawn tuples; equal seeds give equal results.

    Raises:
        AnalysisError: as for `psp_statistics` and `PspStatistics.entropy`.

    >>> net = nn.Sequential(nn.Flatten(), nn.Linear(1, 2, bias=False), nn.ReLU(), nn.Linear(2, 2))
    >>> net[1].weight.data = torch.tensor([[1.0], [-1.0]])
    >>> images, labels = torch.tensor([-1.0, 1.0, 1.0, 1.0]).view(4, 1, 1, 1), torch.tensor([0, 0, 1, 1])
    >>> psp_entropy(net, images, labels).mean  # both neurons: 1 bit on the first class, 0 on the second
    1.0
    """
    check_order(order, definition)
    pairs = order > 1 and definition == "joint"
    statistics = psp_statistics(model, images, labels, pairs=pairs, batch_size=batch_size, activations=activations)
    return statistics.entropy(order, definition, samples=samples, seed=seed)
