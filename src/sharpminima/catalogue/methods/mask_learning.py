"""Methods that learn which weights act: gates, scores, variances."""

from pydantic import Field

from sharpminima.base.settings import PositiveInt, Share, Strength
from sharpminima.catalogue.methods.choices import Distribution
from sharpminima.catalogue.methods.method import Method
from sharpminima.catalogue.methods.search import (
    SearchSettings,
    SubnetSettings,
    SweepSettings,
    searched_method,
    swept_method,
)
from sharpminima.catalogue.registry import Code


class L0Settings(SweepSettings):
    """beta, gamma and zeta are the paper's; strengths and rate are ours, to be tuned."""

    strengths: tuple[Strength, ...] = (0.1, 0.3, 1.0)
    rate: Strength = Field(1000.0, description="of the gates, times lr")
    drop: float = Field(0.2, gt=0, lt=1, description="share of gates that are closed at first")


class VariationalDropoutSettings(SweepSettings):
    """Limits as in the authors' code; strengths, rate and start are ours, chosen on validation (paper/tuning)."""

    strengths: tuple[Strength, ...] = (1.0, 3.0, 10.0)
    rate: Strength = Field(3.0, description="of log sigma^2, times lr")
    log_sigma2: float = Field(-8.0, description="at the start")
    warm_up: Share = Field(0.25, description="share of the steps in which KL grows to its weight")


class SupermaskSettings(SubnetSettings):
    """The rate is ours, chosen on the validation split (paper/tuning)."""

    distribution: Distribution = "layerwise"
    rate: Strength = Field(1000.0, description="of the scores, times lr")


class EdgePopupSettings(SubnetSettings):
    """Layerwise as in the paper; the rate is ours, to be tuned."""

    distribution: Distribution = "layerwise"
    rate: Strength = Field(10.0, description="of the scores, times lr")


class ContinuousSparsificationSettings(SweepSettings):
    """beta as in the authors' code, whose lambda is 1e-8; our strengths and rate are to be tuned."""

    strengths: tuple[Strength, ...] = (1e-8, 1e-6, 1e-5)
    rate: Strength = Field(10.0, description="of the scores, times lr")
    s0: float = Field(0.0, description="score at the start")
    beta: Strength = Field(200.0, description="at the end of a round")
    rounds: PositiveInt = Field(1, description="that share the epochs")


class OptimalMasksSettings(SearchSettings):
    """What the thesis does not give is ours, to be tuned."""

    distribution: Distribution = "global"
    pretraining: Share = Field(0.1, description="share of the steps in which weights are trained")
    alpha: Strength = Field(10.0, description="step of b")
    start: float = Field(0.0, description="b at first")
    strength: float = Field(1e-4, ge=0, description="of the L1 penalty on c")


def reparametrised_method(name: str, search: Code, settings: type[SearchSettings], paper: str) -> Method:
    """A method of this kind; of `SweepSettings` if it has no density dial.

    Args:
        search: as of `searched_method` or `swept_method`.
    """
    if issubclass(settings, SweepSettings):
        return swept_method(name, search, settings, paper, "mask learning")
    return searched_method(name, search, settings, paper, "mask learning")


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
