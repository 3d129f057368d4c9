"""Iterative pruning in rounds, `gimp` and its named special cases (`sharpminima.pruning.iterative.gimp`)."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import Field, create_model, field_validator, model_validator

from sharpminima.base.settings import PositiveInt
from sharpminima.catalogue.methods.choices import CriterionName, Distribution, MiniBatches
from sharpminima.catalogue.methods.method import Method, MethodSettings
from sharpminima.catalogue.methods.published import PUBLISHED
from sharpminima.catalogue.recipes import RecipeSettings

Rewind = Annotated[float, Field(ge=0, le=1)]
_LARGE = 10**9  # weights of the net that is planned for: one so large that whole weights do not count


class GimpSettings(MethodSettings):
    """T is the recipe's ``max_epochs``."""

    revision: Literal[4] = 4
    keep: float = Field(0.7, gt=0, lt=1, description="share of the weights that a round keeps (K)")
    rewind: Rewind = Field(1.0, description="how far survivors are set back, in full trainings")
    rewind_lr: Rewind = Field(1.0, description="how far the schedule of the learning rate is set back")
    retrain: float = Field(1.0, gt=0, le=1, description="how long a round trains")
    criterion: CriterionName = "magnitude"
    distribution: Distribution = "global"
    samples_per_class: PositiveInt = Field(10, description="training images that a scoring sees, drawn anew each round")
    batches: MiniBatches = 20
    recipe: RecipeSettings = Field(
        RecipeSettings(schedule="steps", max_epochs=60, milestones=(30, 45)),
        description="the full training, of the dense net and of rounds; its length must be known: steps or constant",
    )

    @field_validator("recipe")
    @classmethod
    def _of_known_length(cls, recipe: RecipeSettings) -> RecipeSettings:
        if recipe.schedule not in ("steps", "constant"):
            raise ValueError(f"rewinding needs schedule: steps or constant, of known length; {recipe.schedule} given")
        return recipe

    def planned_epochs(self, levels: Sequence[float]) -> tuple[float, float]:
        """A full training, the rounds that all levels share, and the last round of each level.

        A net of few weights, or one that a round leaves within a weight of a level, may take a round more or less.
        """
        expected, at_most = self.recipe.planned_epochs()
        full = self.recipe.max_epochs
        rounds = len(shared_rounds(_LARGE, self.keep, round((1 - max(levels)) * _LARGE))) + len(levels)
        trainings = 1 + rounds * whole_epochs(self.retrain, full) / full
        return trainings * expected, trainings * at_most


def shared_rounds(left: int, keep: float, asked: int) -> list[int]:
    """Survivors after each round that a level does not end with: each keeps the share, as long as more stay than asked.

    A round removes one weight at least: of few, the share that stays is rounded up to all of them.

    >>> shared_rounds(804, 0.7, 161), shared_rounds(10, 0.95, 7)
    ([563, 394, 276, 193], [9, 8])
    """
    survivors = []
    while (left := min(left - 1, round(left * keep))) > asked:
        survivors.append(left)
    return survivors


def whole_epochs(share: float, epochs: int) -> int:
    """The share in whole epochs; one that is neither 0 nor 1 leaves an epoch on either side, where there are two."""
    if share in (0.0, 1.0):
        return round(share * epochs)
    return min(max(round(share * epochs), 1), max(epochs - 1, 1))


class StableSettings(GimpSettings):
    """Of rounds that all go back to one early state of the dense training."""

    @model_validator(mode="after")
    def _back_to_the_dense_training(self) -> "StableSettings":
        full = self.recipe.max_epochs
        back, trained = (whole_epochs(share, full) for share in (self.rewind, self.retrain))
        if back < trained:
            raise ValueError(
                f"rounds of {trained} epochs that are set back by {back} begin within the round before, not with the "
                f"dense training's early state; give retrain: {self.rewind:g} or less, or leave it out"
            )
        return self


def _case(name: str, paper: str, title: str = "", base: type[GimpSettings] = GimpSettings, **numbers: float) -> Method:
    """A special case has its numbers as defaults."""
    defaults: dict[str, Any] = {
        key: (GimpSettings.model_fields[key].annotation, Field(value, ge=0, le=1)) for key, value in numbers.items()
    }
    settings = create_model(f"{name.title().replace('_', '')}Settings", __base__=base, **defaults)
    settings.published = PUBLISHED.get(name)
    return Method(name, settings, paper, "iterative", code="sharpminima.pruning.iterative.gimp:prune", title=title)


ITERATIVE = (
    _case("gimp", "Mikler (2021)", "GIMP"),
    _case("finetune", "Han, Pool, Tran, Dally (2015)", "Fine-tuning", rewind=0.0, rewind_lr=0.0),
    _case("weight_rewinding", "Frankle, Carbin (2019)"),
    _case(
        "stable_weight_rewinding",
        "Frankle, Dziugaite, Roy, Carbin (2020)",
        base=StableSettings,
        rewind=0.95,
        rewind_lr=0.95,
        retrain=0.95,
    ),
    _case("lr_rewinding", "Renda, Frankle, Carbin (2020)", "Learning-rate rewinding", rewind=0.0),
    _case("sgimp", "Mikler (2021)", "sGIMP", rewind=0.75),
)
