"""DessiLBI: the whole path from the empty to the dense structure, in one training."""

from collections.abc import Sequence

from pydantic import Field

from sharpminima.base.settings import Strength
from sharpminima.catalogue.methods.method import Method
from sharpminima.catalogue.methods.search import SearchSettings


class DessilbiSettings(SearchSettings):
    """As in the authors' MNIST example, at constant rate."""

    epochs: int = Field(60, gt=0, description="of the search, at constant rate")
    batch_size: int = Field(128, gt=0)
    momentum: float = Field(0.9, ge=0, lt=1)
    kappa: Strength = 1.0
    nu: Strength = 20.0

    def planned_epochs(self, levels: Sequence[float]) -> tuple[float, float]:
        """One path, then a training a level."""
        expected, at_most = self.recipe.planned_epochs()
        return self.epochs + len(levels) * expected, self.epochs + len(levels) * at_most


DESSILBI = Method(
    "dessilbi",
    DessilbiSettings,
    "Fu, Liu, Li, Sun, Zeng, Yao (2020)",
    "path",
    "sharpminima.pruning.path.dessilbi:prune",
    "none",
)
