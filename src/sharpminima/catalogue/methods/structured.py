"""Methods that train, score units, remove the lowest, and train on."""

from typing import Literal

from sharpminima.catalogue.methods.method import Method
from sharpminima.catalogue.methods.search import SearchSettings
from sharpminima.catalogue.registry import Code


class UnitSettings(SearchSettings):
    """The search trains the whole net."""

    distribution: Literal["global", "layerwise"] = "layerwise"


class L1FiltersSettings(UnitSettings):
    """Layerwise as in the paper."""


class SoftFilterSettings(UnitSettings):
    """Layerwise as in the paper."""


class TaylorChannelsSettings(UnitSettings):
    """Global as in the paper."""

    distribution: Literal["global", "layerwise"] = "global"


def structured_method(name: str, policy: Code, settings: type[UnitSettings], paper: str) -> Method:
    """A method of this kind; ``policy``: a `sharpminima.pruning.structured.unit_scores.UnitScores`."""
    return Method(
        name, settings, paper, "structured", policy, "units", "sharpminima.pruning.structured.unit_scores:prune"
    )


STRUCTURED = (
    structured_method(
        "l1_filters",
        "sharpminima.pruning.structured.l1_filters:Filters",
        L1FiltersSettings,
        "Li, Kadav, Durdanovic, Samet, Graf (2017)",
    ),
    structured_method(
        "soft_filter",
        "sharpminima.pruning.structured.soft_filter:SoftZeros",
        SoftFilterSettings,
        "He, Kang, Dong, Fu, Yang (2018)",
    ),
    structured_method(
        "taylor_channels",
        "sharpminima.pruning.structured.taylor_channels:TaylorScores",
        TaylorChannelsSettings,
        "Molchanov, Mallya, Tyree, Frosio, Kautz (2019)",
    ),
)
