"""Layers that compute with their surviving weights only, on a CPU.

A layer's map from all its inputs to all its outputs is one sparse matrix S, for a convolution with each weight at
every position where the kernel lies. The batch is the last axis, so that each stored value meets a contiguous row:
outputs S X, gradients of the inputs S^T G, and gradients of the values the entries of G X^T where S has one. The
cost is in proportion to the survivors. The results are those of the dense layer up to the rounding of sums.
"""

import math
import warnings
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

DENSITY = 0.25  # of a layer's weights; above it dense kernels are faster, though they multiply zeros
_SIZE = 4096  # weights of a layer, zeros included; below it the calls cost more than the products


def is_worth(mask: Tensor) -> bool:
    """Whether a layer whose weights ``mask`` keeps computes faster with its survivors only."""
    return mask.numel() >= _SIZE and int(mask.count_nonzero()) <= DENSITY * mask.numel()


def is_offered(layer: nn.Module, device: torch.device) -> bool:
    """Whether there is a sparse version of ``layer`` on ``device``: products of sparse matrices come from MKL."""
    if device.type != "cpu" or not torch.backends.mkl.is_available():
        return False
    return isinstance(layer, nn.Linear) or (
        isinstance(layer, nn.Conv2d)
        and layer.groups == 1
        and layer.padding_mode == "zeros"
        and not isinstance(layer.padding, str)
    )


@dataclass(frozen=True)
class _Csr:
    """Where a matrix [rows, columns] has values, and which weight each of them is."""

    size: tuple[int, int]
    row_starts: Tensor
    columns: Tensor
    weights: Tensor  # int64 [values]

    def matrix(self, weight: Tensor) -> Tensor:
        """The matrix of the weights [survivors]."""
        values = weight.index_select(0, self.weights)
        return torch.sparse_csr_tensor(self.row_starts, self.columns, values, size=self.size, check_invariants=False)


def _csr(rows: Tensor, columns: Tensor, weights: Tensor, size: tuple[int, int]) -> tuple[_Csr, Tensor]:
    """From coordinates in any order; also the place of each coordinate among the values."""
    order = (rows * size[1] + columns).argsort()
    places = torch.empty_like(order)
    places[order] = torch.arange(len(order))
    counts = torch.bincount(rows, minlength=size[0])
    row_starts = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
    return _Csr(size, row_starts, columns[order], weights[order]), places


class _Pattern:
    """A sparse matrix and its transpose, made of S weights that each stand at P places.

    Args:
        rows, columns: int64 [S, P], where each weight stands.
        size: rows and columns of the matrix.
    """

    def __init__(self, rows: Tensor, columns: Tensor, size: tuple[int, int]) -> None:
        weights = torch.arange(len(rows))[:, None].expand_as(rows).flatten()
        self.forward, places = _csr(rows.flatten(), columns.flatten(), weights, size)
        self.transposed, _ = _csr(columns.flatten(), rows.flatten(), weights, size[::-1])
        self._places, self._shape = places, rows.shape
        with warnings.catch_warnings():
            # torch says once in a process that its sparse matrices are in beta state.
            warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta", category=UserWarning)
            self.forward.matrix(torch.zeros(len(rows)))

    def gathered(self, values: Tensor) -> Tensor:
        """Sums [S] of the values of each weight."""
        return values.index_select(0, self._places).view(self._shape).sum(1)


class _Product(torch.autograd.Function):
    """X^T S^T [N, outputs], with the batch as the last axis in memory, for X^T [N, inputs] and weights [S]."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, weight: Tensor, pattern: _Pattern) -> Tensor:
        features = rows.T.contiguous()
        ctx.save_for_backward(features, weight)
        ctx.pattern, ctx.batch_last = pattern, rows.T.is_contiguous()
        return (pattern.forward.matrix(weight) @ features).T

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        features, weight = ctx.saved_tensors
        pattern, gradient = ctx.pattern, gradient.T.contiguous()
        to_rows, to_weight = None, None
        if ctx.needs_input_grad[0]:
            to_rows = (pattern.transposed.matrix(weight) @ gradient).T
            if not ctx.batch_last:
                to_rows = to_rows.contiguous()  # in the order of the outputs it belongs to: mixed orders are slow
        if ctx.needs_input_grad[1]:
            wanted = pattern.forward.matrix(weight)
            products = torch.sparse.sampled_addmm(wanted, gradient, features.T, beta=0.0)
            to_weight = pattern.gathered(products.values())
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
        rows, columns = mask.nonzero(as_tuple=True)
        self._pattern = _Pattern(rows[:, None], columns[:, None], (mask.shape[0], mask.shape[1]))

    def forward(self, features: Tensor) -> Tensor:
        """Features [N, inputs] to [N, outputs], the batch as the last axis in memory."""
        outputs = _Product.apply(features, self.weight, self._pattern)
        return outputs if self.bias is None else outputs + self.bias


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
        self._patterns: dict[tuple[int, int, bool], tuple[_Pattern, tuple[int, int]]] = {}

    def forward(self, images: Tensor) -> Tensor:
        """Images [N, C, H, W] to [N, F, H', W'], the batch as the last axis in memory."""
        if any(self._padding):
            vertical, horizontal = self._padding
            images = F.pad(images, (horizontal, horizontal, vertical, vertical))
        channels_last = images.is_contiguous(memory_format=torch.channels_last)
        key = (images.shape[2], images.shape[3], channels_last)
        if key not in self._patterns:
            self._patterns[key] = self._lay_out(*key)
        pattern, (height, width) = self._patterns[key]
        # Whichever order of the axes needs no copy.
        rows = (images.permute(0, 2, 3, 1) if channels_last else images).flatten(1)
        outputs = _Product.apply(rows, self.weight, pattern).view(len(images), len(self._mask), height, width)
        return outputs if self.bias is None else outputs + self.bias[:, None, None]

    def _lay_out(self, height: int, width: int, channels_last: bool) -> tuple[_Pattern, tuple[int, int]]:
        """The sparse matrix for padded images of a size, and the size of its outputs."""
        filters, channels = self._mask.shape[:2]
        outputs = tuple(
            (size - dilation * (kernel - 1) - 1) // stride + 1
            for size, kernel, stride, dilation in zip(
                (height, width), self._mask.shape[2:], self._stride, self._dilation, strict=True
            )
        )
        f, c, row, column = (index[:, None] for index in self._mask.nonzero(as_tuple=True))
        grid = torch.meshgrid(*(torch.arange(size) for size in outputs), indexing="ij")
        y, x = (place.flatten() for place in grid)
        top, left = y * self._stride[0] + row * self._dilation[0], x * self._stride[1] + column * self._dilation[1]
        inputs = (top * width + left) * channels + c if channels_last else (c * height + top) * width + left
        positions = math.prod(outputs)
        targets = f * positions + torch.arange(positions)
        return _Pattern(targets, inputs, (filters * positions, height * width * channels)), outputs


class BatchLast(nn.Module):
    """A pooling of maps [N, C, H, W] whose batch is the last axis in memory, and stays so."""

    def __init__(self, pool: nn.Module) -> None:
        super().__init__()
        self.pool = pool

    def forward(self, maps: Tensor) -> Tensor:
        """As the pooling. Seen as C images of N channels, the maps are channels last, which is fast."""
        return self.pool(maps.transpose(0, 1)).transpose(0, 1)
