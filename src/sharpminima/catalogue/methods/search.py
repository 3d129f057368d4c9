"""Settings of methods that search for structure and weights, and then train with the masks they found."""

import operator
from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field, field_validator

from sharpminima.base.settings import PositiveInt, Share, Strength
from sharpminima.catalogue.methods.method import Dial, Method, MethodSettings
from sharpminima.catalogue.recipes import RecipeSettings
from sharpminima.catalogue.registry import Code

LrSchedule = Literal["constant", "steps", "linear", "cosine", "exponential"]


class SearchSettings(MethodSettings):
    """Of the search, and of the training that follows it.

    What came after the first records, from `nesterov` to `lr_hold`, is recorded where it is not the default.
    """

    revision: Literal[1] = 1
    epochs: PositiveInt = Field(40, description="of the search")
    lr: Annotated[float, Field(gt=0)] = 0.1
    batch_size: PositiveInt = 100
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.0
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    nesterov: bool = Field(False, exclude_if=operator.not_, description="momentum looked ahead")
    optimiser: Literal["sgd", "adam"] = Field(
        "sgd", exclude_if="sgd".__eq__, description="of the weights; adam: with its usual means, and no momentum"
    )
    lr_schedule: LrSchedule = Field(
        "constant",
        exclude_if="constant".__eq__,
        description="of the search, by epochs; steps: lr / 10 after each share in `lr_falls`; linear: to 0, from "
        "`lr_hold` on; cosine: to 0; exponential: to `lr_last` of it",
    )
    lr_falls: tuple[Share, ...] = Field((), exclude_if=operator.not_, description="shares of the epochs")
    lr_last: Share = Field(0.01, exclude_if=(0.01).__eq__, description="exponential: share of lr at the search's end")
    lr_hold: float = Field(
        0.0, ge=0, lt=1, exclude_if=operator.not_, description="linear: share of the epochs at the first rate"
    )
    recipe: RecipeSettings | None = Field(
        RecipeSettings(), description="training with the masks that were found; null: none, the search is all"
    )

    def planned_epochs(self, levels: Sequence[float]) -> tuple[float, float]:
        """A search for each level, each followed by a training."""
        return self._planned(len(levels))

    def _planned(self, trainings: int) -> tuple[float, float]:
        expected, at_most = (0, 0) if self.recipe is None else self.recipe.planned_epochs()
        return trainings * (self.epochs + expected), trainings * (self.epochs + at_most)


class SweepSettings(SearchSettings):
    """Of methods without a density dial: one search for each strength."""

    strengths: Annotated[tuple[Strength, ...], Field(min_length=1)] = (1.0,)

    @field_validator("strengths")
    @classmethod
    def _ascending(cls, strengths: tuple[float, ...]) -> tuple[float, ...]:
        if list(strengths) != sorted({*strengths}):
            raise ValueError(f"strengths must ascend without repetition; {list(strengths)} given")
        return strengths

    def planned_epochs(self, levels: Sequence[float]) -> tuple[float, float]:
        """A search for each strength, each followed by a training."""
        return self._planned(len(self.strengths))


class FromTrainedSettings(SearchSettings):
    """Of searches that begin with a trained net, which is the same for all levels and strengths."""

    dense: RecipeSettings | None = Field(
        RecipeSettings(), description="training from W0 before the search; null: none, the search begins at W0"
    )

    def _planned(self, trainings: int) -> tuple[float, float]:
        expected, at_most = super()._planned(trainings)
        first = (0, 0) if self.dense is None else self.dense.planned_epochs()
        return first[0] + expected, first[1] + at_most


class SubnetSettings(SearchSettings):
    """Of methods whose result is a part of the untrained net, which stays as it is."""

    recipe: RecipeSettings | None = Field(None, description="training of what was found; null: none")


class LearnedSettings(SearchSettings):
    """Of methods that train something beside the weights: gates, scores, variances, thresholds."""

    added_momentum: float = Field(0.0, ge=0, lt=1, description="of what is added")
    added_weight_decay: float = Field(0.0, ge=0, description="of what is added")


def searched_method(
    name: str,
    search: Code,
    settings: type[SearchSettings],
    paper: str,
    kind: str,
    dial: Dial = "weights",
    *,
    title: str = "",
) -> Method:
    """A method with a density dial; ``search``: (run, level, settings, resume) -> what it has found."""
    family = "sharpminima.pruning.engine.search:prune_by_search"
    return Method(name, settings, paper, kind, search, dial, family, title=title)


def swept_method(
    name: str,
    search: Code,
    settings: type[SweepSettings],
    paper: str,
    kind: str,
    *,
    whole_units: bool = False,
    title: str = "",
) -> Method:
    """A method without a density dial; ``search``: (run, strength, settings, resume) -> what it has found."""
    family = "sharpminima.pruning.engine.search:prune_by_sweep"
    return Method(name, settings, paper, kind, search, "none", family, whole_units, title)
