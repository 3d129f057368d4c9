"""States of pre-activations as bits, and how many are 1, in one pass over them: the CPU's kernel."""

import numpy as np

from sharpminima.analysis.psp._states import PLACES
from sharpminima.runtime.compiled import compiled

_NEURONS = 4096  # whose counts and states stay in the first-level cache


@compiled
def add_states(z: np.ndarray, places: np.ndarray, active: np.ndarray, packed: np.ndarray, ones: np.ndarray) -> None:
    """Write the states of ``z`` as bits, and add them up.

    Args:
        z: float [B, neurons], contiguous; the state is 1 where it is above 0.
        places: int64 [B]; the row of ``active`` in which an image is counted.
        active: int32 [classes, neurons]; it is added to.
        packed: uint8 [B, ceil(neurons / 8)]; it is filled as `pack` would.
        ones: int64 [B]; the neurons whose state is 1 are added to it.
    """
    neurons = z.shape[1]
    states = np.zeros(_NEURONS, np.uint8)
    eights = states.view(np.uint64)
    for start in range(0, neurons, _NEURONS):
        stop = min(start + _NEURONS, neurons)
        length = stop - start
        states[length:] = 0  # up to the end of the last byte
        for image in range(len(z)):
            potentials, counts = z[image, start:stop], active[places[image], start:stop]
            number = np.int32(0)
            for n in range(length):
                on = np.int32(potentials[n] > 0)
                states[n] = on
                counts[n] += on
                number += on
            ones[image] += number
            bits = packed[image, start // 8 : (stop + 7) // 8]
            for place in range(len(bits)):
                bits[place] = (eights[place] * np.uint64(PLACES)) >> np.uint64(56)
