"""The paper's controls: what is retrained at a gradual method's own masks.

Tartaglione, Bragagnolo, Grangetto (ICANN 2020); ``rewind`` is the one-shot lottery ticket of Frankle and Carbin,
"The lottery ticket hypothesis", ICLR 2019, which the paper calls 1-S.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from sharpminima.masks import Masks, apply_masks, random_masks
from sharpminima.models import build_model
from sharpminima.rng import derive_seed, generator


@dataclass(frozen=True)
class Strategy:
    """Where the structure and the starting weights come from, and how long training lasts."""

    structure: Literal["method", "random", "random-layerwise"]
    # the survivors' own W0; the same in another order, within the mask or with it; or a new draw
    weights: Literal["init", "shuffled", "moved", "fresh"]
    budget: Literal["recipe", "method"]  # the dense recipe, or constant rate for as many epochs as the method took
    title: str  # as figures and tables say it

    @property
    def draws(self) -> bool:
        """Whether replicas differ; a strategy without a draw has one replica."""
        return self.structure != "method" or self.weights != "init"


STRATEGIES: dict[str, Strategy] = {
    "rewind": Strategy("method", "init", "recipe", "rewind to initialisation (1-S)"),
    "reinit": Strategy("method", "fresh", "recipe", "new random initialisation"),
    "random-structure": Strategy("random", "fresh", "recipe", "random structure"),
    "random-structure-layerwise": Strategy("random-layerwise", "fresh", "recipe", "random structure, layerwise"),
    "shuffle-weights": Strategy("method", "shuffled", "recipe", "weights shuffled within the mask of each layer"),
    "shuffle-masks": Strategy("method", "moved", "recipe", "mask and weights shuffled in each layer"),
    "rewind-long": Strategy("method", "init", "method", "rewind, trained as long as the method"),
    "reinit-long": Strategy("method", "fresh", "method", "new initialisation, trained as long as the method"),
}
"""Name -> strategy; ``-long`` gives retraining the gradual method's own number of epochs.

Mikler's thesis (2021), table 3.1, in these names: none is ``rewind``, shuffle parameters within the mask
``shuffle-weights``, reinitialise ``reinit``, shuffle masks and weights in each layer ``shuffle-masks``, shuffle masks
in each layer and reinitialise ``random-structure-layerwise``.
"""


def start(
    strategy: Strategy,
    model_name: str,
    num_classes: int,
    init: dict[str, Tensor],
    masks: Masks,
    *,
    seed: int,
    replica: int,
) -> tuple[nn.Module, Masks]:
    """The masked net from which a replica is retrained, and its masks.

    A fresh draw depends on (seed, replica) alone, so that ``reinit`` starts from the same weights at every level, and
    a random structure has new weights too (the paper does not say).
    """
    if strategy.structure != "method":
        masks = random_masks(
            masks,
            layerwise=strategy.structure == "random-layerwise",
            generator=generator(seed, "random-structure", replica),
        )
    role = "reinit" if strategy.structure == "method" else "random-structure-weights"
    model = build_model(model_name, num_classes=num_classes, seed=derive_seed(seed, role, replica))
    if strategy.weights != "fresh":
        model.load_state_dict(init)
    if strategy.weights in ("shuffled", "moved"):
        draws = generator(seed, strategy.weights, replica)
        masks = {
            name: _permuted(model.get_parameter(name), mask, draws, whole=strategy.weights == "moved")
            for name, mask in masks.items()
        }
    apply_masks(model, masks)
    return model, masks


@torch.no_grad()
def _permuted(parameter: Tensor, mask: Tensor, draws: torch.Generator, *, whole: bool) -> Tensor:
    """Permute a parameter, in place: the survivors among themselves, or everything together with the mask (returned).

    Where nothing is removed, as in a bias that the method does not prune, nothing moves.
    """
    if mask.all():
        return mask
    values, kept = parameter.flatten(), mask.flatten().clone()
    places = torch.arange(len(kept)) if whole else kept.nonzero().flatten()
    order = places[torch.randperm(len(places), generator=draws)]
    values[places] = values[order]
    kept[places] = kept[order]
    parameter.copy_(values.view_as(parameter))
    return kept.view_as(mask)
