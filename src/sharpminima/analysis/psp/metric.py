"""PSP-entropy as a metric that is given its images batch by batch."""

import torch
from torch import Tensor, nn

from sharpminima.analysis._inputs import check_finite_weights, check_images, check_model
from sharpminima.analysis.psp._collect import Collection
from sharpminima.analysis.psp.entropy import (
    PspEntropy,
    PspStatistics,
    check_choice,
    check_order,
    check_samples,
    measured_classes,
    statistics_of,
)
from sharpminima.base.errors import AnalysisError
from sharpminima.base.numbers import check_whole
from sharpminima.nets.activations import Activations, check_activations
from sharpminima.nets.modes import measuring
from sharpminima.nets.preactivations import warn_caller


class PspEntropyMetric:
    """`psp_entropy` of images that come batch by batch, with the methods of a metric of torchmetrics.

    Its result is that of one call with all the images in the same order; the counts are integers, so entropies agree to
    the last bit however the images are split, unless a pre-activation is 0 but for rounding, whose sign kernels may see
    otherwise in batches of another size. A batch of `update` is run in parts of ``batch_size``.

    Args:
        model: as for `psp_statistics`. Its weights must stay as they are between `update` and `compute`.
        order, definition, samples, seed, batch_size, activations, classes: as for `psp_entropy`.

    Memory: a copy of the weights, 8 bytes a class that has occurred and hidden neuron, 16 an image and layer, and, of
    ``joint`` above order 1, one bit an image and hidden neuron; `compute` as `psp_entropy`.

    >>> import torch
    >>> from torch import nn
    >>> net = nn.Sequential(nn.Flatten(), nn.Linear(1, 2, bias=False), nn.ReLU(), nn.Linear(2, 2))
    >>> net[1].weight.data = torch.tensor([[1.0], [-1.0]])
    >>> metric = PspEntropyMetric(net)
    >>> for pixels, labels in (([-1.0, 1.0], [0, 0]), ([1.0, 1.0], [1, 1])):
    ...     metric.update(torch.tensor(pixels).view(2, 1, 1, 1), torch.tensor(labels))
    >>> metric.compute().mean
    1.0
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        order: int = 1,
        definition: str = "joint",
        samples: int | None = None,
        seed: int = 0,
        batch_size: int = 250,
        activations: Activations = "relu",
        classes: str = "all",
    ) -> None:
        """Check the arguments.

        Raises:
            AnalysisError: one is not offered.
        """
        order = check_order(order, definition)
        samples, seed = check_samples(samples, seed)
        check_activations(activations)
        check_choice(classes)
        batch_size = check_whole("batch_size", batch_size, least=1)
        self._model = model
        self._order, self._definition, self._samples, self._seed = order, definition, samples, seed
        self._batch_size, self._activations, self._classes = batch_size, activations, classes
        self._collection: Collection | None = None
        self._weights: list[Tensor] = []
        self._outputs = 0

    @measuring(gradients=False)
    def update(self, images: Tensor, labels: Tensor) -> None:
        """Count images [N, C, H, W] of the classes ``labels`` [N]; all of them, or none where an error is raised.

        Raises:
            AnalysisError: as for `psp_statistics`; the weights have changed since the last `reset`.
        """
        images, labels = check_images(images, labels)
        if self._collection is None:
            self._outputs = check_model(self._model, images, self._activations)
            check_finite_weights(self._model)
            self._weights = [weight.clone() for weight in self._held()]
            none = labels.new_empty(0)
            pairs = self._order > 1 and self._definition == "joint"
            collection = Collection(self._model, none, pairs=pairs, activations=self._activations)
        elif self._is_unchanged():
            collection = self._collection.copy()
        else:
            raise AnalysisError("the model's weights have changed since the first update; call reset before the next")
        collection.take(measured_classes(labels, self._outputs, "present"))
        with collection.running():
            for start in range(0, len(images), self._batch_size):
                part = slice(start, start + self._batch_size)
                collection.add(images[part], labels[part])
        self._collection = collection
        warn_caller(collection.left_out)

    def statistics(self) -> PspStatistics:
        """What all orders are computed from, of the images so far.

        Raises:
            AnalysisError: there are none yet; a class has no images but should have.
        """
        if self._collection is None:
            raise AnalysisError("there are no images yet; call update first")
        classes = measured_classes(self._collection.labels(), self._outputs, self._classes)
        return statistics_of(self._collection, classes)

    @measuring(gradients=False)
    def compute(self) -> PspEntropy:
        """The entropy of the images so far; more may follow.

        Raises:
            AnalysisError: as for `psp_entropy`; there are no images yet.
        """
        return self.statistics().entropy(self._order, self._definition, samples=self._samples, seed=self._seed)

    def reset(self) -> None:
        """Forget all images."""
        self._collection = None
        self._weights = []

    def _held(self) -> list[Tensor]:
        """The model's weights and buffers, which may hold NaN, as bits."""
        tensors = (*self._model.parameters(), *self._model.buffers())
        return [tensor.detach().contiguous().reshape(-1).view(torch.uint8) for tensor in tensors]

    def _is_unchanged(self) -> bool:
        """Whether the weights are those of the first update, however they were written to (also as ``.data``)."""
        now = self._held()
        return len(now) == len(self._weights) and all(map(torch.equal, now, self._weights))
