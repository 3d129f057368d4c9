"""Methods that learn which weights act: gates, scores, variances."""

from typing import Literal

from pydantic import Field

from sharpminima.base.settings import PositiveInt, Share, Strength
from sharpminima.catalogue.methods.choices import Distribution
from sharpminima.catalogue.methods.method import Dial, Method
from sharpminima.catalogue.methods.published import PUBLISHED
from sharpminima.catalogue.methods.search import (
    LearnedSettings,
    LrSchedule,
    SearchSettings,
    SubnetSettings,
    SweepSettings,
    searched_method,
    swept_method,
)
from sharpminima.catalogue.registry import Code


class L0Settings(SweepSettings, LearnedSettings):
    """beta, gamma, zeta and where gates start are the authors'; the rate of gates is ours, theirs is 1e-3."""

    published = PUBLISHED["l0"]

    revision: Literal[2] = 2  # type: ignore[assignment] # of its own
    strengths: tuple[Strength, ...] = (0.1, 0.3, 1.0)
    gates: Literal["weight", "unit"] = Field(
        "weight", description="what has a gate of its own; unit: an input of a linear layer, a filter of a convolution"
    )
    gate_lr: Strength = Field(1e-2, description="of the gates, by Adam; it falls as lr does")
    drop: float = Field(0.5, gt=0, lt=1, description="share of gates that are closed at first")
    drop_input: float = Field(0.2, gt=0, lt=1, description="the same in the first layer")


class VariationalDropoutSettings(SweepSettings, LearnedSettings):
    """As in the authors' code but for the rate of log sigma^2, theirs being 1e-3.

    The weights need Adam as well: the pull of KL on them, as 1 / w, throws small ones far beyond 0 by SGD.
    """

    published = PUBLISHED["variational_dropout"]

    revision: Literal[2] = 2  # type: ignore[assignment] # of its own
    optimiser: Literal["sgd", "adam"] = Field("adam", description="of the weights; sgd: with its momentum")
    lr: Strength = 1e-3
    lr_schedule: LrSchedule = "linear"
    strengths: tuple[Strength, ...] = (1.0, 3.0, 10.0)
    gate_lr: Strength = Field(1e-2, description="of log sigma^2, by Adam; it falls as lr does")
    log_sigma2: float = Field(-10.0, description="at the start")
    wait: float = Field(0.025, ge=0, lt=1, description="share of the steps without KL")
    warm_up: Share = Field(0.075, description="share of the steps after those in which KL grows to its weight")
    train_clip: bool = Field(True, description="whether what would be removed is zero in training too")


class SupermaskSettings(SubnetSettings, LearnedSettings):
    """The rate is ours, chosen on the validation split (paper/tuning)."""

    revision: Literal[2] = 2  # type: ignore[assignment] # of its own
    lr_schedule: LrSchedule = "cosine"
    distribution: Distribution = "layerwise"
    rate: Strength = Field(1000.0, description="of the scores, times lr")


class EdgePopupSettings(SubnetSettings, LearnedSettings):
    """Layerwise and by a cosine as in the paper; the rate is ours, to be tuned."""

    revision: Literal[2] = 2  # type: ignore[assignment] # of its own
    lr_schedule: LrSchedule = "cosine"
    distribution: Distribution = "layerwise"
    rate: Strength = Field(10.0, description="of the scores, times lr")


class ContinuousSparsificationSettings(SweepSettings, LearnedSettings):
    """beta as in the authors' code, whose lambda is 1e-8; our strengths and rate are to be tuned."""

    revision: Literal[2] = 2  # type: ignore[assignment] # of its own
    strengths: tuple[Strength, ...] = (1e-8, 1e-6, 1e-5)
    rate: Strength = Field(10.0, description="of the scores, times lr")
    s0: float = Field(0.0, description="score at the start")
    beta: Strength = Field(200.0, description="at the end of a round")
    rounds: PositiveInt = Field(1, description="that share the epochs")


class OptimalMasksSettings(LearnedSettings):
    """What the thesis does not give is ours, to be tuned."""

    revision: Literal[2] = 2  # type: ignore[assignment] # of its own
    distribution: Distribution = "global"
    pretraining: Share = Field(0.1, description="share of the steps in which weights are trained")
    alpha: Strength = Field(10.0, description="step of b")
    start: float = Field(0.0, description="b at first")
    strength: float = Field(1e-4, ge=0, description="of the L1 penalty on c")


def reparametrised_method(
    name: str, search: Code, settings: type[SearchSettings], paper: str, dial: Dial = "weights"
) -> Method:
    """A method of this kind; of `SweepSettings` if it has no density dial.

    Args:
        search: as of `searched_method` or `swept_method`.
    """
    if issubclass(settings, SweepSettings):
        return swept_method(name, search, settings, paper, "mask learning")
    return searched_method(name, search, settings, paper, "mask learning", dial)


MASK_LEARNING = (
    reparametrised_method(
        "l0", "sharpminima.pruning.mask_learning.l0:search", L0Settings, "Louizos, Welling, Kingma (2018)"
    ),
    reparametrised_method(
        "variational_dropout",
        "sharpminima.pruning.mask_learning.variational_dropout:search",
        VariationalDropoutSettings,
        "Molchanov, Ashukha, Vetrov (2017)",
    ),
    reparametrised_method(
        "supermask",
        "sharpminima.pruning.mask_learning.supermask:search",
        SupermaskSettings,
        "Zhou, Lan, Liu, Yosinski (2019)",
        "at most",
    ),
    reparametrised_method(
        "edge_popup",
        "sharpminima.pruning.mask_learning.edge_popup:search",
        EdgePopupSettings,
        "Ramanujan, Wortsman, Kembhavi, Farhadi, Rastegari (2020)",
    ),
    reparametrised_method(
        "continuous_sparsification",
        "sharpminima.pruning.mask_learning.continuous_sparsification:search",
        ContinuousSparsificationSettings,
        "Savarese, Silva, Maire (2020)",
    ),
    reparametrised_method(
        "optimal_masks", "sharpminima.pruning.mask_learning.optimal_masks:search", OptimalMasksSettings, "Mikler (2021)"
    ),
)
