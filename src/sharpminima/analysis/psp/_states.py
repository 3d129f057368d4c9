"""States of binary neurons as bits."""

import torch
from torch import Tensor

PLACES = 0x0102040810204080  # times eight bytes of 0 and 1: brings byte t to bit t of the highest byte


def pack(states: Tensor) -> Tensor:
    """Bool states [N, neurons] as bits: uint8 [N, ceil(neurons / 8)]; bit n % 8 of byte n // 8 is neuron n."""
    padded = torch.nn.functional.pad(states, (0, -states.shape[1] % 8)).contiguous()
    return ((padded.view(torch.int64) * PLACES) >> 56).to(torch.uint8)


def unpack(packed: Tensor, neurons: int) -> Tensor:
    """The states that `pack` packed, as uint8 [N, neurons] of 0 and 1."""
    places = torch.arange(8, dtype=torch.uint8, device=packed.device)
    return ((packed[:, :, None] >> places) & 1).flatten(1)[:, :neurons]
