"""What all methods that remove whole units let a study choose."""

from typing import Literal

from pydantic import Field

from sharpminima.catalogue.methods.search import SearchSettings


class UnitSearchSettings(SearchSettings):
    """How units are ranked over layers, whatever scores them."""

    distribution: Literal["global", "layerwise"] = Field("global", description="of units over layers")
    floor: float = Field(
        0.1,
        ge=0,
        le=1,
        description="global: share of each layer's units that stays, or as much of it as fits the level",
    )
