"""The paper's controls: what is retrained at a gradual method's own masks.

Tartaglione, Bragagnolo, Grangetto (ICANN 2020); ``rewind`` is the one-shot lottery ticket of Frankle and Carbin,
"The lottery ticket hypothesis", ICLR 2019, which the paper calls 1-S.
"""

from dataclasses import dataclass
from typing import Literal

from sharpminima.catalogue.registry import Registry


@dataclass(frozen=True)
class Strategy:
    """Where the structure and the starting weights come from, and how long training lasts."""

    name: str
    structure: Literal["method", "random", "random-layerwise"]
    # the survivors' own W0; the same in another order, within the mask or with it; or a new draw
    weights: Literal["init", "shuffled", "moved", "fresh"]
    budget: Literal["recipe", "method"]  # the dense recipe, or constant rate for as many epochs as the method took
    title: str  # as figures say it
    short: str  # as texts and tables do

    @property
    def draws(self) -> bool:
        """Whether replicas differ; a strategy without a draw has one replica."""
        return self.structure != "method" or self.weights != "init"


STRATEGIES = Registry(
    "strategy",
    (
        Strategy("rewind", "method", "init", "recipe", "rewind to initialisation (1-S)", "1-S"),
        Strategy("reinit", "method", "fresh", "recipe", "new random initialisation", "new initialisation"),
        Strategy("random-structure", "random", "fresh", "recipe", "random structure", "random structure"),
        Strategy(
            "random-structure-layerwise",
            "random-layerwise",
            "fresh",
            "recipe",
            "random structure, layerwise",
            "random structure by layer",
        ),
        Strategy(
            "shuffle-weights",
            "method",
            "shuffled",
            "recipe",
            "weights shuffled within the mask of each layer",
            "weights shuffled",
        ),
        Strategy(
            "shuffle-masks", "method", "moved", "recipe", "mask and weights shuffled in each layer", "masks shuffled"
        ),
        Strategy(
            "rewind-long", "method", "init", "method", "rewind, trained as long as the method", "1-S, trained longer"
        ),
        Strategy(
            "reinit-long",
            "method",
            "fresh",
            "method",
            "new initialisation, trained as long as the method",
            "new initialisation, trained longer",
        ),
    ),
)
"""Name -> strategy; ``-long`` gives retraining the gradual method's own number of epochs.

Mikler's thesis (2021), table 3.1, in these names: none is ``rewind``, shuffle parameters within the mask
``shuffle-weights``, reinitialise ``reinit``, shuffle masks and weights in each layer ``shuffle-masks``, shuffle masks
in each layer and reinitialise ``random-structure-layerwise``.
"""
