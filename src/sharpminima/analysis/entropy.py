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

from sharpminima.analysis._inputs import check_images, count_labels, count_outputs, eval_mode
from sharpminima.analysis._pairs import joint_entropy_sum, pack, unpack
from sharpminima.analysis.preactivations import capture_preactivations
from sharpminima.errors import AnalysisError
from sharpminima.evaluation import Evaluation

DEFINITIONS = ("joint", "agreement")
"""The definitions of the second order."""


@dataclass(frozen=True, eq=False)
class PspEntropy:
    """PSP-entropy of one order, and the PSP norm, of one net on one set of images. Layers are the ReLUs."""

    order: int  # 1 or 2
    definition: str  # of order 2: "joint" or "agreement"
    per_neuron: dict[str, Tensor] | None  # layer -> H(z_i|c), float64 [classes, neurons], bits; None at order 2
    per_layer: dict[str, float]  # layer -> mean over its neurons (pairs) of the entropy summed over classes, bits
    mean: float  # bits; order 1: over all hidden neurons; order 2: over layers
    mean_live: float  # bits; as `mean`, of live neurons only; 0 where there are none (no pair of them)
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


@dataclass(frozen=True, eq=False)
class PspStatistics:
    """All that entropies of both orders, norms, loss and error are computed from; see `psp_statistics`."""

    layers: dict[str, LayerStatistics]  # in the order of the forward pass
    labels: Tensor  # int64 [N]
    class_sizes: Tensor  # int64 [classes]; images of each class
    logit_squares: float  # sum over images and classes of the squared logits
    evaluation: Evaluation  # loss and errors on the same images

    def entropy(self, order: int = 1, definition: str = "joint") -> PspEntropy:
        """PSP-entropy of one order; see `psp_entropy`.

        Raises:
            AnalysisError: the order or the definition is unknown; order 2 ``joint`` without the states
                (collect with ``pairs=True``); order 2 where no layer has two neurons.
        """
        check_order(order, definition)
        if order == 1:
            per_neuron, per_layer, mean, mean_live = self._first_order()
        else:
            per_neuron = None
            per_layer, mean, mean_live = self._second_order(definition)
        samples = self.evaluation.samples
        neurons = {name: layer.active.shape[1] for name, layer in self.layers.items()}
        on = {name: int(self._always_on(layer).sum()) for name, layer in self.layers.items()}
        live = {name: int(self._live(layer).sum()) for name, layer in self.layers.items()}
        norms = {name: layer.squares / (samples * neurons[name]) for name, layer in self.layers.items()}
        output_norm = self.logit_squares / (samples * len(self.class_sizes))
        return PspEntropy(
            order=order,
            definition=definition,
            per_neuron=per_neuron,
            per_layer=per_layer,
            mean=mean,
            mean_live=mean_live,
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

    def _class_entropies(self, layer: LayerStatistics) -> Tensor:
        """H(z_i|c), bits: float64 [classes, neurons] (eq. 4)."""
        sizes = self.class_sizes[:, None]
        on, off = layer.active.double() / sizes, (sizes - layer.active).double() / sizes
        return -(torch.special.xlogy(on, on) + torch.special.xlogy(off, off)) / math.log(2)

    def _first_order(self) -> tuple[dict[str, Tensor], dict[str, float], float, float]:
        per_neuron = {name: self._class_entropies(layer) for name, layer in self.layers.items()}
        totals = {name: float(entropies.sum()) for name, entropies in per_neuron.items()}
        neurons = {name: entropies.shape[1] for name, entropies in per_neuron.items()}
        live = sum(int(self._live(layer).sum()) for layer in self.layers.values())
        total = math.fsum(totals.values())
        # A neuron that is not live has no entropy in any class, so both means share one sum.
        return (
            {name: entropies.cpu() for name, entropies in per_neuron.items()},
            {name: totals[name] / neurons[name] for name in totals},
            total / sum(neurons.values()),
            total / live if live else 0.0,
        )

    def _second_order(self, definition: str) -> tuple[dict[str, float], float, float]:
        per_layer, of_live = {}, []
        for name, layer in self.layers.items():
            neurons, live = layer.active.shape[1], int(self._live(layer).sum())
            if neurons < 2:
                continue
            compute = self._joint if definition == "joint" else self._agreement
            per_layer[name], value_live = compute(layer, neurons, live)
            if live >= 2:
                of_live.append(value_live)
        if not per_layer:
            raise AnalysisError("no hidden layer has two neurons, so there are no pairs; use order=1")
        mean_live = math.fsum(of_live) / len(of_live) if of_live else 0.0
        return per_layer, math.fsum(per_layer.values()) / len(per_layer), mean_live

    def _joint(self, layer: LayerStatistics, neurons: int, live: int) -> tuple[float, float]:
        if layer.states is None:
            raise AnalysisError("the states of the neurons were not kept; collect with pairs=True for order 2")
        entropies = self._class_entropies(layer)
        sums, sums_live = [], []
        for label, size in enumerate(self.class_sizes.tolist()):
            varying = (layer.active[label] > 0) & (layer.active[label] < size)
            states = unpack(layer.states[self.labels == label], neurons)[:, varying]
            within = joint_entropy_sum(states)
            # H(z_i, const) = H(z_i): a varying neuron adds its own entropy once for each constant partner.
            # One that varies within a class is live: live pairs lack partners that are constant, no others.
            own, count = float(entropies[label].sum()), states.shape[1]
            sums.append(within + own * (neurons - count))
            sums_live.append(within + own * (live - count))
        return math.fsum(sums) / math.comb(neurons, 2), math.fsum(sums_live) / max(1, math.comb(live, 2))

    def _agreement(self, layer: LayerStatistics, neurons: int, live: int) -> tuple[float, float]:
        on = int(self._always_on(layer).sum())
        return (
            self._disagreement_entropy(layer.active_neurons, neurons),
            self._disagreement_entropy(layer.active_neurons - on, live),
        )

    def _disagreement_entropy(self, active: Tensor, neurons: int) -> float:
        """-(1 - f) log2 (1 - f), summed over classes, where ``active`` [N] of ``neurons`` have state 1.

        On one image, active * (neurons - active) pairs disagree: no pair need be formed.
        """
        pairs = torch.zeros_like(self.class_sizes).index_add_(0, self.labels, active * (neurons - active))
        share = pairs.double() / (self.class_sizes * max(1, math.comb(neurons, 2)))
        return float(-torch.special.xlogy(share, share).sum()) / math.log(2)


class _LayerCollector:
    """Adds up one layer's statistics, batch after batch."""

    def __init__(self, pairs: bool) -> None:
        self.pairs = pairs
        self.active: Tensor | float = 0.0
        self.squares: Tensor | float = 0.0
        self.active_neurons: list[Tensor] = []
        self.states: list[Tensor] = []

    def add(self, z: Tensor, members: Tensor) -> None:
        """Add ``z`` [B, neurons] of images whose classes ``members`` [classes, B] marks with ones."""
        state = z > 0
        # A batch's counts are exact in float32; their sum is taken in float64.
        self.active = self.active + (members @ state.float()).double()
        self.squares = self.squares + _sum_of_squares(z)
        self.active_neurons.append(state.sum(dim=1))
        if self.pairs:
            self.states.append(pack(state))

    def result(self, name: str) -> LayerStatistics:
        return LayerStatistics(
            active=self.active.long(),
            active_neurons=torch.cat(self.active_neurons),
            squares=_finite(self.squares, f"the pre-activations of {name}"),
            states=torch.cat(self.states) if self.pairs else None,
        )


def _sum_of_squares(z: Tensor) -> Tensor:
    return torch.linalg.vector_norm(z, dtype=torch.float64).square()


def _finite(squares: Tensor, what: str) -> float:
    if not squares.isfinite():
        raise AnalysisError(f"{what} hold NaN or infinity; check the weights and the images")
    return float(squares)


def check_order(order: int, definition: str) -> None:
    """Check an order and a definition of PSP-entropy.

    Raises:
        AnalysisError: the order is not 1 or 2, or there is no such definition.
    """
    if order not in (1, 2):
        raise AnalysisError(f"PSP-entropy of order {order} is not offered; choose 1 or 2")
    if definition not in DEFINITIONS:
        raise AnalysisError(f"there is no definition {definition!r}; there are {', '.join(DEFINITIONS)}")


@torch.no_grad()
def psp_statistics(
    model: nn.Module, images: Tensor, labels: Tensor, *, pairs: bool = False, batch_size: int = 1000
) -> PspStatistics:
    """Collect, in one pass over the data, what PSP-entropies, PSP norms, loss and error need.

    Args:
        model: a net whose hidden layers end in ``nn.ReLU`` modules and whose logits are [N, classes]; it runs
            in eval mode, and each module's mode is restored.
        images: normalised float images [N, C, H, W] on the model's device.
        labels: int64 class numbers [N] on the same device; every class must occur.
        pairs: keep the states too, which order 2 ``joint`` needs.
        batch_size: images a forward pass.

    Memory: one layer's batch in float32 and as bool beyond the forward pass itself, and 8 bytes an image and
    layer; with ``pairs`` one bit an image and hidden neuron more (LeNet-5 on 60,000 images: 114 MB).

    Raises:
        AnalysisError: no ReLU or one used twice; images, labels or logits of a wrong shape or type; labels
            out of range; a class without images; NaN or infinity among pre-activations or logits.
    """
    check_images(images, labels, batch_size)
    class_sizes = count_labels(labels, count_outputs(model, images))
    if not class_sizes.all():
        empty = ", ".join(str(label) for label in (class_sizes == 0).nonzero().flatten().tolist())
        raise AnalysisError(f"class {empty} has no images; give images of all {len(class_sizes)} classes")

    collectors: dict[str, _LayerCollector] = {}
    members = torch.empty(0)

    def collect(name: str, z: Tensor) -> None:
        collectors.setdefault(name, _LayerCollector(pairs)).add(z, members)

    loss, logit_squares = torch.zeros(2, dtype=torch.float64, device=images.device)
    wrong = torch.zeros((), dtype=torch.int64, device=images.device)
    with eval_mode(model), capture_preactivations(model, collect):
        for batch, target in zip(images.split(batch_size), labels.split(batch_size), strict=True):
            members = F.one_hot(target, len(class_sizes)).T.float()
            logits = model(batch)
            loss += F.cross_entropy(logits, target, reduction="sum").double()
            wrong += (logits.argmax(dim=1) != target).sum()
            logit_squares += _sum_of_squares(logits)
    if not collectors:
        raise AnalysisError("no nn.ReLU ran in the forward pass, so there are no pre-activations; use nn.ReLU")
    return PspStatistics(
        layers={name: collector.result(name) for name, collector in collectors.items()},
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
    batch_size: int = 1000,
) -> PspEntropy:
    """PSP-entropy of ``model`` on ``images``, in bits.

    Order 1 (eq. 4-5): H(z_i) = sum over classes c of H(z_i|c), at most the number of classes; ``mean`` over
    all hidden neurons. Order 2, by ``definition``:

    - ``joint``: H(z_i, z_j|c) over the four joint states, summed over classes, averaged over the distinct
      pairs of a layer (at most twice the number of classes), then over layers;
    - ``agreement``: -(1 - f) log2 (1 - f), summed over classes, averaged over layers, where f is the share of
      a layer's distinct pairs and a class's images on which both states are the same. The paper's authors
      computed this single term in their first public code, there with each neuron paired with itself too.

    ``mean_live`` takes the neurons whose state is not the same on all the images, or the pairs of them, and
    leaves out layers without such a pair. With none at all it is 0, as ``mean`` then is: constant states
    carry no information. A layer of one neuron has no pairs and is left out of order 2.

    Args:
        model, images, labels, batch_size: as for `psp_statistics`, which gives both orders from one pass.
        order: 1 or 2.
        definition: "joint" or "agreement"; both are the same at order 1.

    Raises:
        AnalysisError: as for `psp_statistics`; an order or a definition that is not offered; a class of 2^24
            images or more for pairs.
    """
    check_order(order, definition)
    pairs = order == 2 and definition == "joint"
    return psp_statistics(model, images, labels, pairs=pairs, batch_size=batch_size).entropy(order, definition)
