"""DessiLBI: the whole path from the empty to the dense structure, in one training."""

from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from sharpminima.base.settings import Share, Strength
from sharpminima.catalogue.methods.choices import Distribution
from sharpminima.catalogue.methods.method import Method
from sharpminima.catalogue.methods.published import PUBLISHED
from sharpminima.catalogue.methods.search import LrSchedule, SearchSettings


class DessilbiSettings(SearchSettings):
    """As in the authors' MNIST example."""

    published = PUBLISHED["dessilbi"]

    revision: Literal[2] = 2  # type: ignore[assignment] # of its own
    epochs: int = Field(60, gt=0, description="of the search")
    batch_size: int = Field(128, gt=0)
    momentum: float = Field(0.9, ge=0, lt=1)
    lr_schedule: LrSchedule = "steps"
    lr_falls: tuple[Share, ...] = Field((1 / 3, 2 / 3), description="shares of the epochs")
    distribution: Distribution = Field("layerwise", description="of what is left of the final weights")
    kappa: Strength = 1.0
    nu: Strength = 20.0

    def planned_epochs(self, levels: Sequence[float]) -> tuple[float, float]:
        """One path, then a training a level."""
        expected, at_most = (0, 0) if self.recipe is None else self.recipe.planned_epochs()
        return self.epochs + len(levels) * expected, self.epochs + len(levels) * at_most


DESSILBI = Method(
    "dessilbi",
    DessilbiSettings,
    "Fu, Liu, Li, Sun, Zeng, Yao (2020)",
    "path",
    "sharpminima.pruning.path.dessilbi:prune",
    title="DessiLBI",
)
