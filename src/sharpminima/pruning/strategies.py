"""The paper's controls: what is retrained at a gradual method's own masks.

Tartaglione, Bragagnolo, Grangetto (ICANN 2020); ``rewind`` is the one-shot lottery ticket of Frankle and Carbin,
"The lottery ticket hypothesis", ICLR 2019, which the paper calls 1-S.
"""

from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from sharpminima.masks import Masks, apply_masks, random_masks
from sharpminima.models import build_model
from sharpminima.rng import derive_seed, generator


@dataclass(frozen=True)
class Strategy:
    """Where the structure and the starting weights come from, and how long training lasts."""

    structure: Literal["method", "random", "random-layerwise"]
    weights: Literal["init", "fresh"]  # the survivors' own W0, or a new draw
    budget: Literal["recipe", "method"]  # the dense recipe, or constant rate for as many epochs as the method took
    title: str  # as figures and tables say it

    @property
    def draws(self) -> bool:
        """Whether replicas differ; a strategy without a draw has one replica."""
        return self.structure != "method" or self.weights == "fresh"


STRATEGIES: dict[str, Strategy] = {
    "rewind": Strategy("method", "init", "recipe", "rewind to initialisation (1-S)"),
    "reinit": Strategy("method", "fresh", "recipe", "new random initialisation"),
    "random-structure": Strategy("random", "fresh", "recipe", "random structure"),
    "random-structure-layerwise": Strategy("random-layerwise", "fresh", "recipe", "random structure, layerwise"),
    "rewind-long": Strategy("method", "init", "method", "rewind, trained as long as the method"),
    "reinit-long": Strategy("method", "fresh", "method", "new initialisation, trained as long as the method"),
}
"""Name -> strategy; ``-long`` gives retraining the gradual method's own number of epochs."""


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
    if strategy.weights == "init":
        model.load_state_dict(init)
    apply_masks(model, masks)
    return model, masks
