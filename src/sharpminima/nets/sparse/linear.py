"""Linear layers of survivors: products with a sparse matrix S.

Outputs are S X, gradients of the inputs S^T G, and gradients of the weights the entries of G X^T where S has one.
"""

import warnings
from typing import Any

import torch
from torch import Tensor, nn


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
        """Features [N, ..., inputs] to [N, ..., outputs], the batch as the last axis in memory."""
        with torch.autocast(features.device.type, enabled=False):  # there are no products of a coarser dtype
            rows = features.to(self.weight.dtype).flatten(0, -2)
            outputs = _Product.apply(rows, self.weight, self._pattern)
        outputs = outputs if self.bias is None else outputs + self.bias
        return outputs if features.ndim == 2 else outputs.unflatten(0, features.shape[:-1])
