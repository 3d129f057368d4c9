"""Sums of tensors, for those that read types: what ``sum`` begins with is the number 0."""

from collections.abc import Iterable

import torch
from torch import Tensor


def total(terms: Iterable[Tensor]) -> Tensor:
    """The sum of scalars, one after the other from 0.

    >>> total(torch.tensor([1.0, 2.0]))
    tensor(3.)
    """
    return sum(terms, start=torch.zeros(()))
