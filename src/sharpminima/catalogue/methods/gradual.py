"""Methods that remove little by little while the net trains."""

import operator
from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field, model_validator

from sharpminima.base.settings import PositiveInt, Share
from sharpminima.catalogue.methods.choices import CriterionName, Distribution, MiniBatches, Schedule
from sharpminima.catalogue.methods.method import Method, MethodSettings
from sharpminima.catalogue.methods.published import PUBLISHED
from sharpminima.catalogue.methods.search import SearchSettings, searched_method
from sharpminima.catalogue.recipes import check_milestones

LOBSTER_SHARE = 0.4  # of max_epochs: 0.33, 0.36, 0.41 and 0.47 measured


class LobsterSettings(MethodSettings):
    """The defaults are those of the authors' one published setting (LeNet-5/MNIST), at constant rate.

    What came after the first records, `milestones` and `stop_at_levels`, is recorded where it is not the default.
    """

    published = PUBLISHED["lobster"]

    revision: Literal[1] = 1
    lr: Annotated[float, Field(gt=0)] = 0.1
    batch_size: PositiveInt = 100
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.0
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    lambda_: Annotated[float, Field(gt=0, alias="lambda", description="decay of insensitive weights, a step")] = 1e-4
    twt: Annotated[float, Field(gt=0, description="threshold worsening tolerance, relative")] = 0.05
    pwe: Annotated[PositiveInt, Field(description="plateau waiting epochs")] = 20
    max_epochs: PositiveInt = 2000
    milestones: tuple[PositiveInt, ...] = Field(
        (), exclude_if=operator.not_, description="epochs after each of which lr is divided by 10; none: constant"
    )
    include_batchnorm: bool = False
    stop_at_levels: bool = Field(
        False,
        exclude_if=operator.not_,
        description="whether a removal that would pass a level ends there, so that all nets at it are as sparse",
    )

    @model_validator(mode="after")
    def _milestones_within(self) -> "LobsterSettings":
        check_milestones(self.milestones, self.max_epochs)
        return self

    def planned_epochs(self, levels: Sequence[float]) -> tuple[float, float]:
        """One training for all levels."""
        return LOBSTER_SHARE * self.max_epochs, self.max_epochs


class AgpSettings(SearchSettings):
    """The schedule runs from `begin` to `end` of the search's steps."""

    revision: Literal[3] = 3  # type: ignore[assignment] # one of its own
    criterion: CriterionName = "magnitude"
    distribution: Distribution = "layerwise"
    schedule: Schedule = "cubic"
    updates: PositiveInt = Field(50, description="of the mask, evenly spread")
    begin: float = Field(0.1, ge=0, lt=1, description="share of the steps before the first removal")
    end: Share = Field(0.9, description="share of the steps at the last removal")
    samples_per_class: PositiveInt = Field(10, description="training images that a scoring sees, drawn anew each time")
    batches: MiniBatches = 20

    @model_validator(mode="after")
    def _in_order(self) -> "AgpSettings":
        if self.begin >= self.end:
            raise ValueError(
                f"begin: {self.begin:g} is not before end: {self.end:g}; weights leave from one to the other, both in "
                "shares of the search's steps: give an end above begin"
            )
        return self


LOBSTER = Method(
    "lobster",
    LobsterSettings,
    "Tartaglione, Bragagnolo, Fiandrotti, Grangetto (2020)",
    "gradual",
    "sharpminima.pruning.gradual.lobster:prune",
    "none",
    title="LOBSTER",
)
AGP = searched_method(
    "agp",
    "sharpminima.pruning.gradual.agp:search",
    AgpSettings,
    "Zhu, Gupta (2017)",
    "gradual search",
    title="AGP",
)
