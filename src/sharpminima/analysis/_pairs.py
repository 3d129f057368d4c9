"""Exact joint entropies of pairs of binary neurons, summed over all pairs, by counting."""

import math

import torch
from torch import Tensor

from sharpminima.errors import AnalysisError

# Pairs counted at once: 20 bytes each. Larger blocks are slower on a CPU, as they leave its cache.
_BLOCK = 1 << 20


def entropy_terms(samples: int) -> Tensor:
    """-p log2 p at p = 0, 1/samples, ..., 1: float64 [samples + 1], bits; exactly 0 at both ends."""
    p = torch.arange(samples + 1, dtype=torch.float64) / samples
    return -torch.special.xlogy(p, p) / math.log(2)


def pack(states: Tensor) -> Tensor:
    """Bool states [N, neurons] as bits: uint8 [N, ceil(neurons / 8)]."""
    padded = torch.nn.functional.pad(states.to(torch.uint8), (0, -states.shape[1] % 8))
    places = torch.arange(8, dtype=torch.uint8, device=states.device)
    return (padded.unflatten(1, (-1, 8)) << places).sum(dim=2, dtype=torch.uint8)


def unpack(packed: Tensor, neurons: int) -> Tensor:
    """The states that `pack` packed, as uint8 [N, neurons] of 0 and 1."""
    places = torch.arange(8, dtype=torch.uint8, device=packed.device)
    return ((packed[:, :, None] >> places) & 1).flatten(1)[:, :neurons]


def joint_entropy_sum(states: Tensor) -> float:
    """Sum over the distinct pairs i < j of the joint entropy H(z_i, z_j), bits.

    Args:
        states: 0 and 1 [samples, neurons], any number dtype.

    The four joint counts of every pair are integers, so only their histogram is kept: the sum is exact up
    to one float64 dot product, and the same whatever the block size. Memory: ``states`` as float32 and
    one block of pairs.

    Raises:
        AnalysisError: there are 2^24 samples or more, beyond which float32 does not count exactly.
    """
    samples, neurons = states.shape
    if samples >= 1 << 24:
        raise AnalysisError(f"a class has {samples} images; pairs are counted exactly below {1 << 24}")
    states = states.float()
    active = states.sum(dim=0, dtype=torch.float64).int()
    histogram = torch.zeros(samples + 1, dtype=torch.int64, device=states.device)

    def count(joint: Tensor) -> Tensor:
        return torch.bincount(joint.flatten(), minlength=samples + 1)

    # A block holds rows start ... stop against columns start ... end: each pair to the right of the square
    # stands there once, each pair in the square twice, the diagonal once. So all is counted twice, then
    # the diagonal taken out and the sum halved.
    rows = max(1, _BLOCK // max(1, neurons))
    for start in range(0, neurons, rows):
        stop = min(start + rows, neurons)
        both = (states[:, start:stop].T @ states[:, start:]).int()
        first, second = active[start:stop, None], active[None, start:]
        only_second = second - both
        for joint in (both, first - both, only_second, (samples - first) - only_second):
            histogram += 2 * count(joint) - count(joint[:, : stop - start])
    histogram -= count(active) + count(samples - active)
    return float(histogram.cpu().double() @ entropy_terms(samples)) / 2
