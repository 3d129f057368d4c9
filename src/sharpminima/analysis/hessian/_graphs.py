"""Graphs of a batch's derivatives, kept from product to product within a number of bytes."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from sharpminima.analysis.hessian._lanczos import check_room
from sharpminima.analysis.hessian._products import Linear


class Graphs:
    """Products of batches whose graphs are kept: of the first ones, as many as fit.

    Which they are depends on nothing but the bytes that are given, so that numbers are the same at every call.

    Args:
        budget: bytes of what autograd saves in all graphs that are kept.
        samples: of all batches.
        held: what is in memory anyhow, and counts for nothing.
    """

    def __init__(self, budget: float, samples: int, device: torch.device, held: Iterable[Tensor]) -> None:
        self.bytes = 0
        self._budget, self._samples, self._device = budget, samples, device
        self._held = {_storage_of(tensor) for tensor in held}
        self._kept: list[Linear] = []
        self._full = False

    def of(self, number: int, count: int, build: Callable[[], Linear]) -> Linear | None:
        """The products of the batch of that number, in its order; None: it is not kept.

        Args:
            count: samples of the batch.

        Raises:
            AnalysisError: the device has no room for the graphs that would be kept.
        """
        if number < len(self._kept):
            return self._kept[number]
        if self._full:
            return None
        products, size = self._measured(build)
        if not self._kept:
            check_room(
                int(min(self._budget, size * self._samples / count)) - size,
                f"keeping graphs of the {self._samples} samples",
                "fewer bytes as graphs=",
                self._device,
            )
        if self.bytes + size > self._budget:
            self._full = True
            return None
        self._kept.append(products)
        self.bytes += size
        return products

    def _measured(self, build: Callable[[], Linear]) -> tuple[Linear, int]:
        """What ``build`` gives, and the bytes that its graph holds."""
        sizes: dict[tuple[int, int], int] = {}  # storage, place in it -> bytes

        def saved(tensor: Tensor) -> Tensor:
            if (storage := _storage_of(tensor)) not in self._held:
                place = (storage, int(tensor.storage_offset()) if tensor.layout == torch.strided else 0)
                sizes[place] = max(sizes.get(place, 0), _bytes_of(tensor))
            return tensor.detach()  # itself would hold the graph that holds it

        with torch.autograd.graph.saved_tensors_hooks(saved, lambda tensor: tensor):
            products = build()
        return products, sum(sizes.values())


def _storage_of(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr() if tensor.layout == torch.strided else id(tensor)


def _bytes_of(tensor: Tensor) -> int:
    """Of a view the part that it shows, once; of a sparse one at most."""
    shown = tensor.numel() * tensor.element_size()
    return min(shown, tensor.untyped_storage().nbytes()) if tensor.layout == torch.strided else shown
