"""The nets from which strategies retrain, at a method's own masks (`sharpminima.catalogue.strategies`)."""

import torch
from torch import Tensor, nn

from sharpminima.catalogue.strategies import Strategy
from sharpminima.nets.masks import Masks, apply_masks, completed, random_masks
from sharpminima.nets.models import build_model
from sharpminima.runtime.rng import derive_seed, generator


def masked_net(
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
    role = "reinit" if strategy.structure == "method" else "random-structure-weights"
    model = build_model(model_name, num_classes=num_classes, seed=derive_seed(seed, role, replica))
    if strategy.structure != "method":
        masks = random_masks(
            completed(masks, model),
            layerwise=strategy.structure == "random-layerwise",
            generator=generator(seed, "random-structure", replica),
        )
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
