"""A PSP-entropy that has a gradient: of soft states, over the images of a mini-batch.

Tartaglione, Bragagnolo, Grangetto, "Pruning artificial neural networks: a way to find well-generalizing, high-entropy
sharp minima", ICANN 2020, eq. 4-5 define the entropy of states that are 1 where the pre-activation z is above 0. Such a
state has no gradient. Here it is sigma(z / tau), which tends to theirs as tau falls; where z is exactly 0, as in a unit
without weights, it is 0 as theirs is. That learning could maximise the entropy is their outlook; this is ours.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from sharpminima.base.errors import TrainingError
from sharpminima.nets.modes import ordinary
from sharpminima.runtime.rng import generator
from sharpminima.training._layer_entropy import first_order, layer_entropy

_WINDOW = 10  # times `rare`: images of a class that a running estimate looks back


class SoftEntropy:
    """PSP-entropy of soft states, and the running estimates of their frequencies.

    Of R nets at once, everything has a leading axis R.

    Args:
        classes: of the labels.
        tau: width of the soft state; may be changed between two steps.
        order: 1, the mean over all neurons of their entropies; 2, the mean over pairs of neurons of a layer of their
            joint entropies, then over layers.
        pairs: of order 2: pairs that are drawn of each layer, once; all where it has no more.
        seed: of the drawn pairs.
        rare: images of a class. Where a mini-batch has fewer, the frequencies of the last `_WINDOW` times as many,
            as they were then, stand for the rest. 0: the mini-batch alone.
        neurons: hidden neurons of the whole net, where units that are always 0 are left out of the one that runs.
    """

    def __init__(
        self,
        classes: int,
        *,
        tau: float = 1.0,
        order: int = 1,
        pairs: int = 2000,
        seed: int = 0,
        rare: int = 10,
        neurons: int | None = None,
    ) -> None:
        self.classes, self.tau, self.order, self.rare, self.neurons = classes, tau, order, rare, neurons
        self._pairs, self._seed = pairs, seed
        self._drawn: dict[tuple[int, int], Tensor] = {}  # (layer, neurons) -> places of pairs [2, pairs]
        self._layers: dict[str, int] = {}  # name -> number; in the order in which they ran first
        self._axes: list[list[int]] = []  # of each layer: the axes of a z after that of the images, as they lie
        self._running: list[Tensor] = []  # of each layer: frequencies [..., classes, rows, neurons or pairs]
        # Of each layer: images of each class [..., classes] that its estimates are of; equal ones are one tensor.
        self._seen: list[Tensor] = []  # nothing changes these, nor the frequencies, in place

    def over(self, labels: Tensor) -> "MiniBatch":
        """Begin with a mini-batch, whose labels are integers [..., N].

        Raises:
            TrainingError: they are not.
        """
        _check_labels(labels, of_several=self.neurons is not None)
        return MiniBatch(self, labels.long())

    def reset(self) -> None:
        """Forget the running estimates: the net is another one now."""
        self._layers, self._axes, self._running, self._seen = {}, [], [], []

    def keep(self, places: Sequence[int]) -> None:
        """Go on with some of the nets."""
        self._running = [frequencies[list(places)] for frequencies in self._running]
        self._seen = _shared([seen[list(places)] for seen in self._seen])

    def state(self) -> dict[str, Any]:
        """Everything that `restore` needs, as tensors and JSON values; a resume file holds it."""
        estimates = {"running": list(self._running), "seen": list(self._seen), "axes": list(self._axes)}
        return {**estimates, "layers": list(self._layers)}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a `state`, to the same bits."""
        self._running, self._axes, seen = list(state["running"]), list(state["axes"]), state["seen"]
        if not isinstance(seen, list):  # of a file from when all layers had the same
            seen = [] if seen is None else [seen] * len(self._running)
        self._seen = _shared(seen)
        names = state.get("layers", ())  # without them, those that run first take the estimates in their order
        self._layers = {name: layer for layer, name in enumerate(names)}

    def _estimates(self, layer: int, shape: Sequence[int], like: Tensor) -> Tensor:
        """The running estimates of a layer; zeros, of the type of ``like``, at first.

        Raises:
            TrainingError: they are of another number of neurons, or of another type.
        """
        if layer >= len(self._running):
            return like.new_zeros(shape)
        running = self._running[layer].to(like.device)  # a resume file's lie on the CPU
        if running.shape != torch.Size(shape) or running.dtype != like.dtype:
            raise TrainingError(
                f"layer {layer + 1} is another one than before: estimates {list(shape)} in {like.dtype}, which were "
                f"{list(running.shape)} in {running.dtype}; after a change of the net begin anew"
            )
        return running

    @torch.inference_mode(False)  # later mini-batches have a gradient, which tensors of that mode cannot be kept for
    def _take_over(self, layers: Sequence["_Layer"]) -> None:
        """Go on from the estimates of a pass, of the nets whose entropies are all finite: NaN would stay for good."""
        finite = reduce(torch.add, [layer.summed.detach() for layer in layers]).isfinite()
        if not finite.any():
            return
        kept: dict[int, Tensor] = {}  # layers that share one tensor go on to do so
        for layer in layers:
            running, seen = ordinary(layer.running), kept.setdefault(id(layer.seen), ordinary(layer.seen))
            if not finite.all():
                before = torch.zeros_like(seen) if layer.seen_before is None else layer.seen_before.to(seen.device)
                running = torch.where(finite[..., None, None, None], running, layer.running_before)
                seen = torch.where(finite[..., None], seen, before)
            place = slice(layer.number, layer.number + 1)  # of a new layer, the end
            self._layers[layer.name] = layer.number
            self._axes[place], self._running[place], self._seen[place] = [layer.axes], [running], [seen]
        if not finite.all():
            self._seen = _shared(self._seen)

    @torch.inference_mode(False)
    def places_of_pairs(self, layer: int, neurons: int) -> Tensor:
        """The pairs of a layer's neurons that count: places [2, pairs], the lower one first."""
        pairs = self._drawn.get((layer, neurons))
        if pairs is None:
            every = neurons * (neurons - 1) // 2
            if every <= self._pairs:
                pairs = torch.triu_indices(neurons, neurons, 1)
            else:
                random = generator(self._seed, "psp-entropy-pairs", layer)
                first = torch.randint(neurons, (self._pairs,), generator=random)
                second = torch.randint(neurons - 1, (self._pairs,), generator=random)
                second += (second >= first).long()
                pairs = torch.stack([torch.minimum(first, second), torch.maximum(first, second)])
            self._drawn[layer, neurons] = pairs
        return pairs


@dataclass(frozen=True)
class _Layer:
    """What a pass makes of a layer; the estimates are as `SoftEntropy` holds them, before and with these images."""

    name: str
    number: int
    summed: Tensor  # entropy [...] in bits, over neurons or pairs
    count: int  # of these
    axes: list[int]
    running_before: Tensor
    running: Tensor
    seen_before: Tensor | None  # None at first
    seen: Tensor


class MiniBatch:
    """One pass over a mini-batch: takes the pre-activations layer by layer, and gives the mean entropy.

    The estimates that it makes lie aside until it ends, so that a pass that fails, or is of NaN, leaves no trace.
    """

    def __init__(self, of: SoftEntropy, labels: Tensor) -> None:
        self._of, self._labels = of, labels
        self._recorded = torch.is_grad_enabled()
        self._classes: _Classes | None = None
        # Of images of each class before: `layer_entropy`'s weights, and the images after.
        self._weighed: list[tuple[Tensor | None, Tensor, Tensor]] = []
        self._weights: Tensor | None = None  # of the layer at hand
        self._layers: list[_Layer] = []

    def add(self, z: Tensor, name: str | None = None) -> None:
        """The next layer's pre-activations [..., N, ...], before an operation in place can change them.

        Args:
            name: of the layer, by which its estimates are found again, whichever layers run; None: by its place.

        Raises:
            TrainingError: they are not of as many images as there are labels, labels are of no class (of one net, given
                on a CPU), they have no graph though there was to be one, or the net is another one than in the
                mini-batch before.
        """
        self._check(z)
        of, name = self._of, str(len(self._layers)) if name is None else name
        layer = of._layers.get(name)
        if layer is None:
            layer = len(of._layers) + sum(each.name not in of._layers for each in self._layers)
        z = z.unsqueeze(-1) if z.ndim == self._labels.ndim else z  # one value an image is one neuron
        z = z if z.dtype == torch.float64 else z.float()
        if self._classes is None:
            self._classes = _Classes.of(self._labels, z, of)
        before = of._seen[layer] if layer < len(of._seen) else None
        self._weights, after = self._weigh(before)
        axes = self._axes_of(z, layer)
        # A checkpoint of torch's around the ReLU counts what is kept for the gradient, and would miss ours.
        with saved_tensors_hooks(_as_it_is, _as_it_is):
            summed, count, running_before, running = self._of_layer(self._as_rows(z, axes), layer)
        self._layers.append(_Layer(name, layer, summed, count, axes, running_before, running, before, after))

    def end(self) -> None:
        """The pass has ended: from here on its images count in the running estimates, where its entropy is finite."""
        if self._layers:
            self._of._take_over(self._layers)

    def _check(self, z: Tensor) -> None:
        labels = self._labels
        if z.shape[: labels.ndim] != labels.shape:
            raise TrainingError(
                f"a ReLU takes {list(z.shape)} of {labels.shape[-1]} labels; its first axis must be that of the images"
            )
        if self._recorded and not torch.is_grad_enabled():
            raise TrainingError(
                "a ReLU runs without a graph, so that the PSP-entropy would have no gradient; checkpoint with "
                "use_reentrant=False, and where no gradient is wanted put torch.no_grad() around the watching too"
            )

    def _weigh(self, before: Tensor | None) -> tuple[Tensor, Tensor]:
        """Weights [..., classes, 3] by the images of each class before, and these images after; once for all layers."""
        assert self._classes is not None  # `add` has made it
        for known, weights, after in self._weighed:
            if known is before:
                return weights, after
        weights, after = self._classes.weigh(before, self._of.rare)
        self._weighed.append((before, weights, after))
        return weights, after

    def _of_layer(self, z: Tensor, layer: int) -> tuple[Tensor, int, Tensor, Tensor]:
        """Summed entropy of a layer [..., N, K], of how many neurons or pairs; running estimates before and after."""
        assert self._classes is not None  # `add` has made them
        assert self._weights is not None
        of = self._of
        if of.order == 1 and self._classes.members is None:
            before = of._estimates(layer, (of.classes, 1, z.shape[-1]), z)
            running = before.clone()
            return layer_entropy(z, self._labels, self._weights, running, of.tau), z.shape[-1], before, running
        with torch.autocast(z.device.type, enabled=False):  # else the products below would be of bfloat16
            return self._of_order_2(z, layer) if of.order == 2 else self._of_order_1(z, layer)

    def _of_order_1(self, z: Tensor, layer: int) -> tuple[Tensor, int, Tensor, Tensor]:
        """`_of_layer` by plain operations, of neurons."""
        sums = self._by_class(_SoftState.apply(z, self._of.tau)).unsqueeze(-2)
        p, before, after = self._frequencies(sums, layer)
        return _Entropy.apply(p).sum((-3, -2, -1)), z.shape[-1], before, after

    def _of_order_2(self, z: Tensor, layer: int) -> tuple[Tensor, int, Tensor, Tensor]:
        """`_of_layer` of the joint entropy of pairs."""
        states = _SoftState.apply(z, self._of.tau)
        if states.shape[-1] < 2:
            leading = states.shape[:-2]
            none = self._of._estimates(layer, (*leading, self._of.classes, 3, 0), states)
            return states.new_zeros(leading), 0, none, none
        first, second = self._of.places_of_pairs(layer, states.shape[-1]).to(z.device)
        a, b = states.index_select(-1, first), states.index_select(-1, second)
        sums = torch.stack([self._by_class(each) for each in (a * b, a, b)], -2)
        frequencies, before, after = self._frequencies(sums, layer)
        both, p_a, p_b = frequencies.unbind(-2)
        joint = torch.stack([both, p_a - both, p_b - both, 1 - p_a - p_b + both], -1)
        return _Surprise.apply(joint).sum((-3, -2, -1)), both.shape[-1], before, after

    def _by_class(self, states: Tensor) -> Tensor:
        """States [..., N, K] summed over the images of each class [..., classes, K]."""
        assert self._classes is not None  # `add` has made it
        assert self._classes.members is not None  # of what is computed by plain operations
        return self._classes.members @ states

    def mean(self) -> Tensor:
        """The entropy in bits [...]: of order 1 over all hidden neurons, of order 2 over layers that have pairs.

        Raises:
            TrainingError: there are none.
        """
        of, layers = self._of, self._layers
        if not any(layer.count for layer in layers):
            faults = (
                "the model has not run since the mini-batch began (call it, not its forward)",
                "no layer has two neurons, and so no pair",
            )
            raise TrainingError(f"no PSP-entropy: {faults[bool(layers)]}")
        if of.order == 1:
            total = of.neurons or sum(layer.count for layer in layers)
            return reduce(torch.add, [layer.summed for layer in layers]) / total
        return torch.stack([layer.summed / layer.count for layer in layers if layer.count]).mean(0)

    def _axes_of(self, z: Tensor, layer: int) -> list[int]:
        """The axes of z after that of the images: in the order that the layer's have, or in which they lie."""
        of, axes = self._of, list(range(self._labels.ndim, z.ndim))
        if layer < len(of._axes):
            return of._axes[layer]
        # Pairs are drawn by their places, which must not depend on how a map lies.
        return axes if of.order > 1 else sorted(axes, key=lambda axis: z.stride()[axis], reverse=True)

    def _as_rows(self, z: Tensor, axes: Sequence[int]) -> Tensor:
        """Pre-activations [..., N, neurons], in the order in which they lie: without a copy of channels-last maps."""
        leading = self._labels.ndim
        if z.ndim == leading + 1:
            return z
        return z.permute(*range(leading), *axes).flatten(leading)

    def _frequencies(self, sums: Tensor, layer: int) -> tuple[Tensor, Tensor, Tensor]:
        """Means of sums [..., classes, rows, K] over a class's images, with what was seen before where it is rare; and
        the running estimates before and with these images."""
        assert self._weights is not None  # `add` has made it
        images, lacking, newness = (weight[..., None, None] for weight in self._weights.unbind(-1))
        means = sums / images
        before = self._of._estimates(layer, tuple(sums.shape), sums)
        return torch.lerp(means, before, lacking), before, before.lerp(means.detach(), newness)


@dataclass(frozen=True)
class _Classes:
    """Which images of a mini-batch are of which class."""

    counts: Tensor  # images of each class [..., classes]
    members: Tensor | None  # 1 where an image is of a class [..., classes, N]; None where `layer_entropy` does it all

    @classmethod
    def of(cls, labels: Tensor, z: Tensor, entropy: SoftEntropy) -> "_Classes":
        """From labels [..., N]; of the type and on the device of ``z``.

        Raises:
            TrainingError: a label is of no class.
        """
        if labels.ndim == 1 and labels.device.type == "cpu":
            # In NumPy, whose calls of a few numbers take a third of the time of torch's.
            given = labels.numpy()
            if len(given) and not 0 <= given.min() <= given.max() < entropy.classes:
                raise TrainingError(
                    f"labels run from {given.min()} to {given.max()}; there are {entropy.classes} classes"
                )
            if entropy.order == 1 and z.dtype == torch.float32 and z.device.type == "cpu":
                return cls(torch.from_numpy(np.bincount(given, minlength=entropy.classes).astype(np.float32)), None)
        known = torch.arange(entropy.classes, device=z.device).unsqueeze(-1)
        members = (labels.to(z.device).unsqueeze(-2) == known).to(z.dtype)
        return cls(members.sum(-1), members)

    def weigh(self, before: Tensor | None, rare: int) -> tuple[Tensor, Tensor]:
        """`layer_entropy`'s weights [..., classes, 3], by images of each class [..., classes] before; those after.

        Args:
            before: None where there were none.
            rare: images of a class that are enough.
        """
        seen = torch.zeros_like(self.counts) if before is None else before.to(self.counts.device)
        after = seen + self.counts
        if self.members is None:
            columns = _weights(self.counts.numpy(), seen.numpy(), after.numpy(), rare)
            return torch.from_numpy(np.stack(columns, -1)), after
        return torch.stack(_weights(self.counts, seen, after, rare), -1), after


def _weights(counts: Any, seen: Any, after: Any, rare: int) -> tuple[Any, Any, Any]:
    """The columns of `_Classes.weigh`, from images of each class [..., classes] here, before and with these."""
    missing = (rare - counts).clip(min=0) * (seen > 0)
    window = after.clip(min=1, max=max(1, _WINDOW * rare))
    return counts.clip(min=1), missing / (counts + missing).clip(min=1), (counts / window).clip(max=1)


def _as_it_is(kept: Tensor) -> Tensor:
    return kept


def _shared(seen: Sequence[Tensor]) -> list[Tensor]:
    """The same tensors, and of equal ones the first: so that a mini-batch is weighed once for all layers."""
    shared: list[Tensor] = []
    for each in seen:
        shared.append(next((other for other in shared if torch.equal(other, each)), each))
    return shared


def _check_labels(labels: Any, *, of_several: bool) -> None:
    """Check that labels are integers [N], or of several nets at once [R, N].

    Raises:
        TrainingError: they are not.
    """
    cure = "give the classes' numbers as an integer tensor [N]"
    if not isinstance(labels, Tensor):
        raise TrainingError(f"labels are a {type(labels).__name__}; {cure} (torch.as_tensor makes one)")
    whole = not (labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool)
    if not whole or labels.ndim not in ((1, 2) if of_several else (1,)):
        raise TrainingError(f"labels are {labels.dtype} {list(labels.shape)}; {cure} (of one-hot ones, .argmax(1))")


class _SoftState(torch.autograd.Function):
    """States [..., N, K] of pre-activations: sigma(z / tau), and 0 where z is exactly 0."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, tau: float) -> Tensor:
        states = (z / tau).sigmoid_().masked_fill_(z == 0, 0.0)
        ctx.save_for_backward(states)
        ctx.tau = tau
        return states

    @staticmethod
    @first_order
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (states,) = ctx.saved_tensors
        return torch.ops.aten.sigmoid_backward(gradients[0], states).div_(ctx.tau), None


class _Entropy(torch.autograd.Function):
    """-p log2 p - (1 - p) log2 (1 - p), and 0 at 0 and 1: there its slope is finite, as the states behind it have none.

    Of logarithms, which have vector instructions: ``torch.special.entr`` takes three times as long.
    """

    @staticmethod
    def forward(ctx: Any, p: Tensor) -> Tensor:
        p = p.clamp(0, 1)
        rest, least = 1 - p, torch.finfo(p.dtype).tiny
        log_p, log_rest = p.clamp(min=least).log2_(), rest.clamp(min=least).log2_()
        entropy = torch.addcmul(p * log_p, rest, log_rest).neg_()
        ctx.save_for_backward(log_rest.sub_(log_p))
        return entropy

    @staticmethod
    @first_order
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (slope,) = ctx.saved_tensors
        return slope * gradients[0]


class _Surprise(torch.autograd.Function):
    """-p log2 p: 0 at 0, and there without a gradient."""

    @staticmethod
    def forward(ctx: Any, p: Tensor) -> Tensor:
        ctx.save_for_backward(p)
        return torch.special.entr(p.clamp(min=0)).div_(math.log(2))

    @staticmethod
    @first_order
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (p,) = ctx.saved_tensors
        slope = p.clamp(min=0).log2_().add_(1 / math.log(2)).neg_()
        return slope.masked_fill_(p <= 0, 0.0).mul_(gradients[0])
