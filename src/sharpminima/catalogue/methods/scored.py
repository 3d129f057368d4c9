"""Methods that prune by a score: a criterion at once or in rounds, before training or after it."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import Field, create_model

from sharpminima.base.settings import PositiveInt, Strength
from sharpminima.catalogue.methods.choices import CRITERIA, Criterion, Distribution, MiniBatches, Schedule
from sharpminima.catalogue.methods.method import Method, MethodSettings
from sharpminima.catalogue.methods.published import NOT_OFFERED, PUBLISHED, UNKNOWN
from sharpminima.catalogue.recipes import RecipeSettings


class ScoredSettings(MethodSettings):
    """Settings of all methods that prune by a score; each has defaults of its own."""

    revision: Literal[1] = 1
    start: Literal["init", "trained"] = Field("init", description="the weights that are scored: W0, or trained from it")
    distribution: Distribution = "global"
    schedule: Schedule = Field("iterative", description="what is left after each round")
    rounds: PositiveInt = Field(1, description="scorings; one of them is one-shot")
    biases: bool = Field(False, description="whether biases may be removed too; levels are of what may be")
    samples_per_class: PositiveInt = Field(10, description="training images that a scoring sees, drawn anew each round")
    batches: MiniBatches = 20
    dense: RecipeSettings = Field(RecipeSettings(), description="training before scoring, with start: trained")
    recipe: RecipeSettings = Field(RecipeSettings(), description="training with the mask")

    def planned_epochs(self, levels: Sequence[float]) -> tuple[float, float]:
        """A dense net where one is scored, then a training a level."""
        first = self.dense.planned_epochs() if self.start == "trained" else (0, 0)
        expected, at_most = self.recipe.planned_epochs()
        return first[0] + len(levels) * expected, first[1] + len(levels) * at_most


class ObsSettings(ScoredSettings):
    """alpha lies within the paper's 1e-8 to 1e-4; rounds and sample are ours."""

    start: Literal["init", "trained"] = Field("trained", description="the weights that are scored")
    rounds: PositiveInt = Field(10, description="in each of which what leaves a unit leaves it together")
    samples_per_class: PositiveInt = Field(20, description="training images that a scoring sees, drawn anew each round")
    alpha: Strength = Field(1e-4, description="on the diagonal of the curvature")


def criterion_method(criterion: Criterion) -> Method:
    """Pruning by a criterion, as a method of its name."""
    fields = {key: ScoredSettings.model_fields[key] for key in criterion.defaults}
    defaults: dict[str, Any] = {
        key: (Annotated[known.annotation, Field(), *known.metadata], criterion.defaults[key])
        for key, known in fields.items()
    }
    defaults["revision"] = (Literal[criterion.revision], criterion.revision)
    settings = create_model(f"{criterion.name.capitalize()}Settings", __base__=ScoredSettings, **defaults)
    settings.published = PUBLISHED.get(criterion.name)
    settings.not_offered = NOT_OFFERED.get(criterion.name, UNKNOWN)
    family = "sharpminima.pruning.scored.by_criterion:prune"
    return Method(
        criterion.name, settings, criterion.paper, "scored", code=criterion, family=family, title=criterion.title
    )


SCORED = tuple(criterion_method(criterion) for criterion in CRITERIA.values())
OBS = Method("obs", ObsSettings, "Hassibi, Stork (1993)", "scored", "sharpminima.pruning.scored.obs:prune", title="OBS")
