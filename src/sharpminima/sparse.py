"""Layers that compute with their surviving weights only, on a CPU.

The batch is the last axis in memory, so that each weight meets a contiguous row. A linear layer is a sparse matrix S:
outputs S X, gradients of the inputs S^T G, and gradients of the weights the entries of G X^T where S has one. A
convolution has kernels of its own (`sharpminima._convolution`). The cost is in proportion to the survivors. The results
are those of the dense layer up to the rounding of sums.
"""

import warnings
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sharpminima import _convolution
from sharpminima.compiled import shared

DENSITY = 0.25  # of a linear layer's weights; above it dense kernels are faster, though they multiply zeros
CONVOLUTION_DENSITY = 0.5  # likewise, where images have several channels; with one, dense kernels are never faster
_SIZE = 4096  # weights of a linear layer, zeros included; below it the calls cost more than the products


def is_worth(mask: Tensor) -> bool:
    """Whether a layer whose weights ``mask`` keeps computes faster with its survivors only."""
    if mask.ndim == 4:
        return mask.shape[1] == 1 or int(mask.count_nonzero()) <= CONVOLUTION_DENSITY * mask.numel()
    return mask.numel() >= _SIZE and int(mask.count_nonzero()) <= DENSITY * mask.numel()


def is_offered(layer: nn.Module, device: torch.device) -> bool:
    """Whether there is a sparse version of ``layer`` on ``device``: products of sparse matrices come from MKL."""
    if device.type != "cpu":
        return False
    if isinstance(layer, nn.Linear):
        return torch.backends.mkl.is_available()
    return (
        isinstance(layer, nn.Conv2d)
        and layer.groups == 1
        and layer.padding_mode == "zeros"
        and not isinstance(layer.padding, str)
    )


class _Csr:
    """Where a matrix has values.

    Args:
        rows, columns: int64 [S], where each value stands; by row, and by column within it.
        size: rows and columns of the matrix.
    """

    def __init__(self, rows: Tensor, columns: Tensor, size: tuple[int, int]) -> None:
        counts = torch.bincount(rows, minlength=size[0])
        self._row_starts = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
        self._columns, self._size = columns, size
        with warnings.catch_warnings():
            # torch says once in a process that its sparse matrices are in beta state.
            warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta", category=UserWarning)
            self.matrix(torch.zeros(len(rows)))

    def matrix(self, values: Tensor) -> Tensor:
        """The matrix of the values [S]."""
        return torch.sparse_csr_tensor(self._row_starts, self._columns, values, size=self._size, check_invariants=False)


class _Pattern:
    """The sparse matrix of the surviving weights [S] of a mask [outputs, inputs], and its transpose."""

    def __init__(self, mask: Tensor) -> None:
        rows, columns = mask.nonzero(as_tuple=True)
        self._order = (columns * len(mask) + rows).argsort()  # the weights by column
        self._forward = _Csr(rows, columns, (mask.shape[0], mask.shape[1]))
        self._transposed = _Csr(columns[self._order], rows[self._order], (mask.shape[1], mask.shape[0]))

    def forward(self, weight: Tensor) -> Tensor:
        """The matrix."""
        return self._forward.matrix(weight)

    def transposed(self, weight: Tensor) -> Tensor:
        """Its transpose."""
        return self._transposed.matrix(weight.index_select(0, self._order))


class _Product(torch.autograd.Function):
    """X^T S^T [N, outputs], with the batch as the last axis in memory, for X^T [N, inputs] and weights [S]."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, weight: Tensor, pattern: _Pattern) -> Tensor:
        features = rows.T.contiguous()
        ctx.save_for_backward(features, weight)
        ctx.pattern, ctx.batch_last = pattern, rows.T.is_contiguous()
        return (pattern.forward(weight) @ features).T

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        features, weight = ctx.saved_tensors
        pattern, gradient = ctx.pattern, gradient.T.contiguous()
        to_rows, to_weight = None, None
        if ctx.needs_input_grad[0]:
            to_rows = (pattern.transposed(weight) @ gradient).T
            if not ctx.batch_last:
                to_rows = to_rows.contiguous()  # in the order of the outputs it belongs to: mixed orders are slow
        if ctx.needs_input_grad[1]:
            products = torch.sparse.sampled_addmm(pattern.forward(weight), gradient, features.T, beta=0.0)
            to_weight = products.values()
        return to_rows, to_weight, None


class SparseLinear(nn.Module):
    """A linear layer of survivors.

    Args:
        weight: the surviving weights [S], in the order of the mask.
        bias: [outputs], or None.
        mask: bool [outputs, inputs], with S true.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None, mask: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)
        self.bias = None if bias is None else nn.Parameter(bias)
        self._pattern = _Pattern(mask)

    def forward(self, features: Tensor) -> Tensor:
        """Features [N, inputs] to [N, outputs], the batch as the last axis in memory."""
        outputs = _Product.apply(features, self.weight, self._pattern)
        return outputs if self.bias is None else outputs + self.bias


class _Taps:
    """Where the surviving weights of a convolution meet padded images of a size, in positions of one image.

    Args:
        mask: bool [filters, channels, height, width] of the kernels, with S true.
        images: height and width of the padded images.
    """

    def __init__(
        self, mask: Tensor, images: tuple[int, int], stride: tuple[int, int], dilation: tuple[int, int]
    ) -> None:
        kernel = mask.shape[2:]
        self.images, self.stride = images, stride
        self.outputs = tuple(
            (size - apart * (extent - 1) - 1) // step + 1
            for size, extent, step, apart in zip(images, kernel, stride, dilation, strict=True)
        )
        filters, channels, rows, columns = mask.cpu().numpy().nonzero()
        tops = rows * dilation[0]
        self.lefts = np.arange(kernel[1]) * dilation[1]
        self.places = (channels * images[0] + tops) * images[1] + self.lefts[columns]
        self.starts = np.searchsorted(filters, np.arange(len(mask) + 1))
        # The same weights by channel and column, for the gradients of the images.
        group = channels * kernel[1] + columns
        self.order = np.argsort(group, kind="stable")
        self.filters, self.tops = filters[self.order], tops[self.order]
        self.group_starts = np.searchsorted(group[self.order], np.arange(mask.shape[1] * kernel[1] + 1))

    def geometry(self, batch: int) -> _convolution.Geometry:
        """The runs for a batch: whole rows, or single positions if a stride parts them."""
        (rows, columns), (down, right) = self.outputs, self.stride
        runs, length = (1, columns * batch) if right == 1 else (columns, batch)
        return _convolution.Geometry(rows, runs, length, down * self.images[1] * batch, right * batch)


class _Convolution(torch.autograd.Function):
    """Maps [N, F, H', W'], with the batch as the last axis in memory, of images [N, C, H, W] and weights [S]."""

    @staticmethod
    def forward(
        ctx: Any, images: Tensor, weight: Tensor, bias: Tensor | None, taps: _Taps, padding: tuple[int, int]
    ) -> Tensor:
        batch, (vertical, horizontal) = len(images), padding
        channels = images.flatten(1).T.contiguous().view(*images.shape[1:], batch)  # no copy where the batch is last
        if any(padding):
            channels = F.pad(channels, (0, 0, horizontal, horizontal, vertical, vertical))
        maps = channels.new_empty(len(taps.starts) - 1, *taps.outputs, batch)
        start = channels.new_zeros(len(maps)) if bias is None else bias
        _convolution.convolve(
            shared(channels),
            shared(weight),
            shared(start),
            taps.starts,
            taps.places * batch,
            taps.geometry(batch),
            shared(maps),
        )
        ctx.save_for_backward(channels, weight)
        ctx.taps, ctx.padding = taps, padding
        ctx.batch_last = images.permute(1, 2, 3, 0).is_contiguous()
        return maps.permute(3, 0, 1, 2)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None, None, None]:
        channels, weight = ctx.saved_tensors
        taps, batch = ctx.taps, channels.shape[-1]
        geometry = taps.geometry(batch)
        slopes = gradient.permute(1, 2, 3, 0).contiguous()
        to_images, to_weight, to_bias = None, None, None
        if ctx.needs_input_grad[0]:
            found = torch.zeros_like(channels)
            _convolution.to_inputs(
                shared(slopes),
                shared(weight)[taps.order],
                taps.group_starts,
                taps.filters,
                taps.tops,
                taps.lefts * batch,
                taps.stride[0],
                channels.shape[1],
                channels.shape[2] * batch,
                geometry,
                shared(found),
            )
            (vertical, horizontal), (height, width) = ctx.padding, taps.images
            inner = found[:, vertical : height - vertical, horizontal : width - horizontal].contiguous()
            to_images = inner.permute(3, 0, 1, 2)
            if not ctx.batch_last:
                to_images = to_images.contiguous()  # in the order of the maps it belongs to: mixed orders are slow
        if ctx.needs_input_grad[1]:
            to_weight = torch.zeros_like(weight)
            _convolution.to_weights(
                shared(channels), shared(slopes), taps.starts, taps.places * batch, geometry, shared(to_weight)
            )
        if ctx.needs_input_grad[2]:
            to_bias = slopes.flatten(1).sum(1)
        return to_images, to_weight, to_bias, None, None


class SparseConv2d(nn.Module):
    """A convolution of survivors.

    Args:
        conv: the layer whose stride, padding and dilation to take.
        weight: the surviving weights [S], in the order of the mask.
        bias: [filters], or None.
        mask: bool [filters, channels, height, width], with S true.
    """

    def __init__(self, conv: nn.Conv2d, weight: Tensor, bias: Tensor | None, mask: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)
        self.bias = None if bias is None else nn.Parameter(bias)
        self._stride, self._padding, self._dilation = conv.stride, conv.padding, conv.dilation
        self._mask = mask
        self._taps: dict[tuple[int, int], _Taps] = {}

    def forward(self, images: Tensor) -> Tensor:
        """Images [N, C, H, W] to [N, F, H', W'], the batch as the last axis in memory."""
        vertical, horizontal = self._padding
        padded = (images.shape[2] + 2 * vertical, images.shape[3] + 2 * horizontal)
        if padded not in self._taps:
            self._taps[padded] = _Taps(self._mask, padded, self._stride, self._dilation)
        return _Convolution.apply(images, self.weight, self.bias, self._taps[padded], self._padding)
