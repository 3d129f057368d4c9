"""How a net with a fixed mask is trained, and its BatchNorm."""

import operator
from collections.abc import Sequence
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

    What came after the first records, `nesterov`, `optimiser` and `state`, is recorded where it is not the default.
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
    schedule: Literal["plateau", "steps", "cosine", "constant"] = Field(
        "plateau",
        description="plateau: lr / 10 after `patience` epochs without improvement of the validation loss, end after "
        "`stop_after`; steps: lr / 10 after each epoch in `milestones`, end at max_epochs; cosine: half a cosine, from "
        "lr to 0 at max_epochs, in a step an epoch; constant: lr throughout, end at max_epochs",
    )
    patience: PositiveInt = 10
    stop_after: PositiveInt = 20
    milestones: tuple[PositiveInt, ...] = ()
    state: Literal["best", "last"] = Field(
        "best",
        exclude_if="best".__eq__,
        description="the net that counts: best: that of the lowest validation loss; last: that of the last epoch",
    )

    @model_validator(mode="after")
    def _consistent(self) -> "RecipeSettings":
        milestones = list(self.milestones)
        if self.schedule == "steps" and not milestones:
            raise ValueError("schedule: steps needs milestones, the epochs after which the rate falls: [100, 150]")
        if self.schedule != "steps" and milestones:
            raise ValueError(f"milestones: {milestones} given, which schedule {self.schedule} does not look at")
        if self.schedule == "plateau" and self.state == "last":
            raise ValueError("state: last: schedule plateau goes on after its best epoch to see that none follows")
        check_milestones(milestones, self.max_epochs)
        return self

    def planned_epochs(self) -> tuple[float, float]:
        """Expected, and at most."""
        expected = BEST_EPOCH + self.stop_after if self.schedule == "plateau" else self.max_epochs
        return min(expected, self.max_epochs), self.max_epochs


def check_milestones(milestones: Sequence[int], max_epochs: int) -> None:
    """Check that epochs ascend and lie within a training.

    Raises:
        ValueError: they do not.
    """
    if list(milestones) != sorted(set(milestones)) or (milestones and milestones[-1] >= max_epochs):
        raise ValueError(f"milestones: {list(milestones)} given; they ascend, each below max_epochs {max_epochs}")


class PspEntropySettings(Settings):
    """PSP-entropy as a part of what a training minimises: the loss less ``beta`` times the entropy in bits.

    See `sharpminima.training.PspEntropy`. A training whose ``beta`` is 0 is the plain one, to the bit.
    """

    revision: Literal[1] = 1
    beta: float = Field(description="nats of loss a bit of entropy is worth; above 0: maximise, below 0: minimise")
    tau: Annotated[float, Field(gt=0, description="width of the soft state sigma(z / tau)")] = 1.0
    tau_end: Annotated[float, Field(gt=0)] | None = Field(
        None, exclude_if=lambda end: end is None, description="what tau falls to, geometrically; null: it stays"
    )
    anneal_epochs: PositiveInt = Field(
        20, exclude_if=(20).__eq__, description="epochs after which tau has reached tau_end"
    )
    order: Literal[1, 2] = Field(1, description="1: of neurons; 2: of pairs of neurons of a layer")
    pairs: PositiveInt = Field(
        2000, exclude_if=(2000).__eq__, description="of order 2: pairs of each layer, drawn once"
    )
    rare: Annotated[int, Field(ge=0)] = Field(
        10,
        exclude_if=(10).__eq__,
        description="images of a class; where a mini-batch has fewer, a running estimate stands for the rest",
    )

    def tau_at(self, epoch: int) -> float:
        """Tau in an epoch, numbered from 0.

        >>> settings = PspEntropySettings(beta=0.1, tau=1.0, tau_end=0.01, anneal_epochs=2)
        >>> [round(settings.tau_at(epoch), 3) for epoch in range(4)]
        [1.0, 0.1, 0.01, 0.01]
        """
        if self.tau_end is None:
            return self.tau
        return self.tau * (self.tau_end / self.tau) ** min(1.0, epoch / self.anneal_epochs)
