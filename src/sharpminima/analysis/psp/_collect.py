"""What one pass over the data adds up, batch after batch: the counts of each layer, and the evaluation."""

import contextlib
import copy
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sharpminima.analysis._inputs import logits_of
from sharpminima.analysis.psp._states import pack
from sharpminima.base.errors import AnalysisError
from sharpminima.nets.activations import Activations
from sharpminima.nets.evaluation import Evaluation, at_least_float32
from sharpminima.nets.modes import eval_mode
from sharpminima.nets.preactivations import rows_of, watch_preactivations

CHUNK = 1 << 21
"""Numbers that are computed with at once; more does not stay in a CPU's cache."""

_SQUARED = 1 << 17  # numbers of which a thread takes a float64 copy at once: a megabyte stays in its second-level cache


@dataclass(frozen=True, eq=False)
class LayerStatistics:
    """What one pass over the data keeps of one layer."""

    active: Tensor  # int64 [classes, neurons]; images of a class on which the neuron's state is 1
    active_neurons: Tensor  # int64 [N]; neurons whose state is 1 on an image
    squares: float  # sum of z^2 over images and neurons
    states: Tensor | None  # uint8 [N, ceil(neurons / 8)]; the states as bits, where pairs were asked for


class Collection:
    """Statistics of a model on images that come batch after batch.

    Args:
        model: it runs in eval mode, and is known to take the images.
        classes: int64, rising; the numbers of the classes that are counted. `take` adds others.
        pairs: keep the states too.
    """

    def __init__(self, model: nn.Module, classes: Tensor, *, pairs: bool, activations: Activations) -> None:
        self.classes = classes
        self.images = 0
        self.outputs = 0  # of the model
        self.left_out = ""  # what is said of activations that are
        self._model, self._pairs, self._activations = model, pairs, activations
        self._members = torch.empty(0)  # of the batch: float [classes, B]
        self._labels: list[Tensor] = []
        self._layers: dict[str, _Layer] = {}
        self._loss, self._logit_squares = torch.zeros(2, dtype=torch.float64, device=classes.device)
        self._wrong = torch.zeros((), dtype=torch.int64, device=classes.device)

    @property
    def layers(self) -> int:
        """Layers that have been seen."""
        return len(self._layers)

    def copy(self) -> "Collection":
        """The same, to go on from; this one stays as it is."""
        other = copy.copy(self)
        other._labels, other._layers = list(self._labels), {name: layer.copy() for name, layer in self._layers.items()}
        return other

    def take(self, classes: Tensor) -> None:
        """Count these classes too, behind those that are counted."""
        new = classes[~torch.isin(classes, self.classes)]
        self.classes = torch.cat([self.classes, new])

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """The model in eval mode, its pre-activations seen: where `add` is called."""

        def collect(name: str, z: Tensor) -> None:
            self._layers.setdefault(name, _Layer(name, self._pairs)).add(rows_of(z), self._members)

        with eval_mode(self._model), watch_preactivations(self._model, collect, self._activations) as watched:
            yield
        self.left_out = watched.left_out()

    def add(self, batch: Tensor, target: Tensor) -> None:
        """Run the model on one batch of images [B, C, H, W] of the classes ``target`` [B], all of which are counted."""
        self._members = (target == self.classes[:, None]).float()
        logits = at_least_float32(logits_of(self._model, batch))
        self.outputs = logits.shape[1]
        self._loss = self._loss + F.cross_entropy(logits, target, reduction="sum").double()
        self._wrong = self._wrong + (logits.argmax(dim=1) != target).sum()
        self._logit_squares = self._logit_squares + squares_of(logits).sum()
        self._labels.append(target)
        self.images += len(batch)

    def labels(self) -> Tensor:
        """The classes of all images: int64 [N]."""
        return torch.cat(self._labels)

    def statistics(self, classes: Tensor) -> dict[str, LayerStatistics]:
        """Those of the layers, in the order of the forward pass; the counts of ``classes``, which are counted ones."""
        rows = torch.stack([(self.classes == each).nonzero()[0, 0] for each in classes])
        return {name: layer.result(self.images, rows) for name, layer in self._layers.items()}

    def logit_squares(self) -> float:
        """Sum over images and outputs of the squared logits."""
        return finite(self._logit_squares, "the logits")

    def evaluation(self) -> Evaluation:
        """Loss and errors."""
        return Evaluation(loss=self._loss.item() / self.images, wrong=int(self._wrong), samples=self.images)


class _Layer:
    """Adds up one layer's statistics."""

    def __init__(self, name: str, pairs: bool) -> None:
        self.name, self.pairs = name, pairs
        self.active: Tensor | None = None  # int32 [classes, neurons]
        self.squares = torch.zeros((), dtype=torch.float64)
        self.active_neurons: list[Tensor] = []
        self.states: list[Tensor] = []

    def copy(self) -> "_Layer":
        """The same, to go on from; this one stays as it is."""
        other = copy.copy(self)
        other.active = None if self.active is None else self.active.clone()
        other.active_neurons, other.states = list(self.active_neurons), list(self.states)
        return other

    def add(self, z: Tensor, members: Tensor) -> None:
        """Add ``z`` [B, neurons] of images whose classes ``members`` [classes, B] marks with ones."""
        if self.active is None:
            self.active = torch.zeros(len(members), z.shape[1], dtype=torch.int32, device=z.device)
        if z.shape != (members.shape[1], self.active.shape[1]):
            raise AnalysisError(
                f"the ReLU {self.name} ran on {list(z.shape)} values in a batch of {members.shape[1]} images; "
                f"[images, neurons] are needed, always with the same neurons"
            )
        if len(members) > len(self.active):
            new = self.active.new_zeros(len(members) - len(self.active), z.shape[1])
            self.active = torch.cat([self.active, new])
        rows = max(1, CHUNK // max(1, z.shape[1]))
        # A first order needs nothing else that is compiled, which takes seconds where numba's cache is empty.
        add = self._add_compiled if self.pairs and z.device.type == "cpu" else self._add
        for part, its_members in zip(z.split(rows), members.split(rows, dim=1), strict=True):
            add(part, its_members)
            self.squares = self.squares + squares_of(part).sum()

    def _add(self, z: Tensor, members: Tensor) -> None:
        assert self.active is not None  # `add` has made it
        columns = max(1, CHUNK // max(1, len(members)))
        state = z > 0
        ones = state.float()
        for start in range(0, z.shape[1], columns):
            # A batch's counts are exact in float32.
            counts = members @ ones[:, start : start + columns]
            self.active[:, start : start + columns] += counts.int()
        self.active_neurons.append(ones.sum(dim=1).long())
        if self.pairs:
            self.states.append(pack(state))

    def _add_compiled(self, z: Tensor, members: Tensor) -> None:
        """The same counts and states in one pass, on a CPU in a tenth of the time."""
        from sharpminima.analysis.psp._pass import add_states

        assert self.active is not None  # `add` has made it
        if z.dtype not in (torch.float32, torch.float64):
            z = z.float()  # exact, but of float64
        states = z.new_empty(len(z), -(-z.shape[1] // 8), dtype=torch.uint8)
        active_neurons = z.new_zeros(len(z), dtype=torch.int64)
        kept = (z.contiguous(), members.argmax(dim=0), self.active, states, active_neurons)
        add_states(*(tensor.detach().numpy() for tensor in kept))
        self.active_neurons.append(active_neurons)
        self.states.append(states)

    def result(self, images: int, rows: Tensor) -> LayerStatistics:
        """All that was added, of ``images`` images; of the classes in these rows."""
        assert self.active is not None  # a layer is made for its first batch
        active_neurons = torch.cat(self.active_neurons)
        if len(active_neurons) != images:
            raise AnalysisError(
                f"the ReLU {self.name} ran on {len(active_neurons)} of {images} images; every batch must take the same "
                "way through the model"
            )
        active = self.active.new_empty(len(rows), self.active.shape[1], dtype=torch.int64)
        for row, place in zip(active, rows.tolist(), strict=True):
            row.copy_(self.active[place])
        return LayerStatistics(
            active=active,
            active_neurons=active_neurons,
            squares=finite(self.squares, f"the pre-activations of {self.name}"),
            states=torch.cat(self.states) if self.pairs else None,
        )


def squares_of(values: Tensor) -> Tensor:
    """Sum of squares of each row, float64; without a float64 copy of all of them."""
    rows = len(values)
    # Of rows that lie one behind the other the sums are the same whichever are taken together, to the bit.
    if values.device.type == "cpu" and values.is_contiguous():
        rows = max(1, _SQUARED * torch.get_num_threads() // max(1, values.shape[1]))
    norms = [torch.linalg.vector_norm(part, dim=1, dtype=torch.float64) for part in values.split(max(1, rows))]
    return torch.cat(norms).square()


def finite(squares: Tensor, what: str) -> float:
    """A sum of squares as a number.

    Raises:
        AnalysisError: it is NaN or infinite.
    """
    if not squares.isfinite():
        raise AnalysisError(f"{what} hold NaN or infinity; check the weights and the images")
    return float(squares)
