"""How a net with a fixed mask is trained, and its BatchNorm."""

import operator
from typing import Annotated, Literal

from pydantic import Field, model_validator

from sharpminima.base.settings import PositiveInt, Settings

BEST_EPOCH = 25  # of the plateau recipe, which goes on for stop_after: 6, 9 and 58 measured


class BatchNormSettings(Settings):
    """Of every BatchNorm of a net."""

    momentum: Annotated[float, Field(gt=0, le=1, description="share of the new batch in the running statistics")] = 0.1
    eps: Annotated[float, Field(gt=0)] = 1e-5


class RecipeSettings(Settings):
    """How a net is trained with a fixed mask (dense training and all retraining).

    What came after the first records, `nesterov` and `optimiser`, is recorded where it is not the default.
    """

    revision: Literal[1] = 1
    batch_size: PositiveInt = 100
    lr: Annotated[float, Field(gt=0)] = 0.1
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.0
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    nesterov: bool = Field(False, exclude_if=operator.not_, description="momentum looked ahead")
    optimiser: Literal["sgd", "adam"] = Field(
        "sgd", exclude_if="sgd".__eq__, description="adam: with its usual means, and no momentum"
    )
    max_epochs: PositiveInt = 200
    schedule: Literal["plateau", "steps", "constant"] = Field(
        "plateau",
        description="plateau: lr / 10 after `patience` epochs without improvement of the validation loss, end after "
        "`stop_after`; steps: lr / 10 after each epoch in `milestones`, end at max_epochs; constant: neither",
    )
    patience: PositiveInt = 10
    stop_after: PositiveInt = 20
    milestones: tuple[PositiveInt, ...] = ()

    @model_validator(mode="after")
    def _milestones_of_steps(self) -> "RecipeSettings":
        milestones = list(self.milestones)
        if self.schedule == "steps" and not milestones:
            raise ValueError("schedule: steps needs milestones, the epochs after which the rate falls: [100, 150]")
        if self.schedule != "steps" and milestones:
            raise ValueError(f"milestones: {milestones} given, which schedule {self.schedule} does not look at")
        if milestones != sorted(set(milestones)) or (milestones and milestones[-1] >= self.max_epochs):
            raise ValueError(f"milestones: {milestones} given; they ascend, each below max_epochs {self.max_epochs}")
        return self

    def planned_epochs(self) -> tuple[float, float]:
        """Expected, and at most."""
        expected = BEST_EPOCH + self.stop_after if self.schedule == "plateau" else self.max_epochs
        return min(expected, self.max_epochs), self.max_epochs
