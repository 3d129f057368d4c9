"""Exact compaction: the smaller net that computes the same function and the same gradients of its survivors.

A unit (a filter, or a unit of a linear layer) is dead when

- nothing of it reaches the output: all its outgoing weights are removed, or lead to dead units only; or
- it is exactly zero: its bias is removed, and so is every incoming weight, or those left come from units that are
  exactly zero themselves.

The output does not depend on a dead unit, so the gradients of its parameters are exactly zero, and leaving it out
changes nothing but the order of sums. Only these removals are made. A unit that is a constant other than zero (a
bias without input) stays: its bias and its outgoing weights go on learning. So does every unit behind a BatchNorm that
is needed, since the shift makes it more than zero, and every channel that enters a residual addition, unless all
that makes it is removed, scales and shifts of BatchNorm too: then it is zero, and leaves every layer that it passes.
Parameters of dead units are not forgotten: the full vector keeps them, and weight decay, momentum and LOBSTER's
decay go on acting on them (`sharpminima.training.flat`).

Of what is left, layers with few survivors compute with those only (`sharpminima.nets.sparse`).
"""

from sharpminima.nets.compaction.build import Compacted, compact
from sharpminima.nets.compaction.dead import zero_masks
from sharpminima.nets.compaction.graph import (
    NotCompactable,
    PooledReLU,
    pooled_first,
    reordered,
    traced,
    traced_alike,
    with_pooled_relus,
)
from sharpminima.nets.compaction.streams import Units, removable_pixels, removable_units

__all__ = [
    "Compacted",
    "NotCompactable",
    "PooledReLU",
    "Units",
    "compact",
    "pooled_first",
    "removable_pixels",
    "removable_units",
    "reordered",
    "traced",
    "traced_alike",
    "with_pooled_relus",
    "zero_masks",
]
