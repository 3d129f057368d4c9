"""Methods that train, score units, remove the lowest, and train on."""

from typing import Literal

from pydantic import Field

from sharpminima.base.settings import PositiveInt
from sharpminima.catalogue.methods.method import Method
from sharpminima.catalogue.methods.units import UnitSearchSettings
from sharpminima.catalogue.registry import Code


class UnitSettings(UnitSearchSettings):
    """The search trains the whole net."""

    distribution: Literal["global", "layerwise"] = Field("layerwise", description="of units over layers")


class L1FiltersSettings(UnitSettings):
    """Layerwise as in the paper."""

    revision: Literal[2] = 2  # type: ignore[assignment] # one of its own


class SoftFilterSettings(UnitSettings):
    """Layerwise as in the paper."""

    revision: Literal[2] = 2  # type: ignore[assignment] # one of its own


class TaylorChannelsSettings(UnitSettings):
    """Global, and 30 mini-batches between removals, as in the paper; when the first is, is ours."""

    revision: Literal[2] = 2  # type: ignore[assignment] # one of its own
    distribution: Literal["global", "layerwise"] = Field("global", description="of units over layers")
    begin: float = Field(0.5, ge=0, lt=1, description="share of the search's steps before units begin to leave")
    every: PositiveInt = Field(30, description="mini-batches between two removals, over which importance is averaged")


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
