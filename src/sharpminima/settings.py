"""Settings that more than one room reads: typed, frozen, and closed to unknown keys."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field


class Settings(BaseModel):
    """Base of all settings."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


PositiveInt = Annotated[int, Field(gt=0)]


class BatchNormSettings(Settings):
    """Of every BatchNorm of a net."""

    momentum: Annotated[float, Field(gt=0, le=1, description="share of the new batch in the running statistics")] = 0.1
    eps: Annotated[float, Field(gt=0)] = 1e-5


class RecipeSettings(Settings):
    """How a net is trained with a fixed mask (dense training and all retraining)."""

    revision: Literal[1] = 1
    batch_size: PositiveInt = 100
    lr: Annotated[float, Field(gt=0)] = 0.1
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.0
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    max_epochs: PositiveInt = 200
    schedule: Literal["plateau", "steps", "constant"] = Field(
        "plateau",
        description="plateau: lr / 10 after `patience` epochs without improvement of the validation loss, end after "
        "`stop_after`; steps: lr / 10 after each epoch in `milestones`, end at max_epochs; constant: neither",
    )
    patience: PositiveInt = 10
    stop_after: PositiveInt = 20
    milestones: tuple[PositiveInt, ...] = ()
