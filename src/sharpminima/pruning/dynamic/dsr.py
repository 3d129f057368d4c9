"""DSR, dynamic sparse reparameterization.

Mostafa and Wang, "Parameter efficient training of deep convolutional neural networks by dynamic sparse
reparameterization", ICML 2019: what is smaller than one global threshold leaves; the threshold halves where more than
(1 + delta) of the number aimed at left, and doubles where fewer than (1 - delta) did; as many come back at random,
shared out over tensors in proportion to what survives there, with weight 0.

As in the authors' code every tensor keeps its largest weight, since one without would never get any again, and what has
just left does not come back, unless there is no other place. Theirs start at the same density, on a net with BatchNorm
behind all layers and with momentum; LeNet-300 without either hardly learns so at 98 % (digits: 90 and 82 % test error,
by ERK 9.7 and 7.8), and ERK is the default.
"""

from typing import Any

from sharpminima.catalogue.methods.dynamic import DsrSettings
from sharpminima.nets.masks import Masks, count
from sharpminima.pruning.dynamic.rewiring import Dynamic, drop_smallest, grow_best, room, share_out
from sharpminima.pruning.engine.method import Run
from sharpminima.training import FlatModel


class Reparameterizing(Dynamic):
    """One threshold for all tensors."""

    def __init__(self, run: Run, settings: DsrSettings, flat: FlatModel, level: float, name: str) -> None:
        super().__init__(run, settings, flat, level, name)
        self.threshold = settings.threshold
        # What comes at random in the last epoch would be no better than nothing at its end.
        self._last = min(self._last, self.total_steps - self.steps_per_epoch)

    def rewired(self, flat: FlatModel, masks: Masks) -> Masks:
        """Drop under the threshold, move it, grow at random."""
        weights = self.parts(flat, flat.values)
        kept = {name: mask & (weights[name].abs() >= self.threshold) for name, mask in masks.items()}
        survivors, _ = count(kept)
        if survivors == 0:  # the threshold is far too high: nothing leaves this time
            self.threshold /= 2
            return masks
        for name, mask in masks.items():
            if mask.any() and not kept[name].any():
                kept[name] = drop_smallest(weights, {name: mask}, {name: int(mask.sum()) - 1})[name]
        survivors, total = count(kept)[0], count(masks)[0]
        left, aim = total - survivors, self.settings.drop * total
        if left > (1 + self.settings.tolerance) * aim:
            self.threshold /= 2
        elif left < (1 - self.settings.tolerance) * aim:
            self.threshold *= 2
        shares = {name: float(mask.sum()) for name, mask in kept.items()}
        places = masks if sum(room(masks).values()) >= left else kept
        return grow_best(self.random_scores(masks), kept, places, share_out(shares, room(places), left))

    def state(self) -> dict[str, Any]:
        """Everything that `restore` needs, as tensors and JSON values; a resume file holds it."""
        return {**super().state(), "threshold": self.threshold}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a `state`, to the same bits."""
        super().restore(state)
        self.threshold = state["threshold"]
