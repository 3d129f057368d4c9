"""Methods that learn which weights act: gates, scores, variances."""

from typing import Literal

from pydantic import Field

from sharpminima.base.settings import PositiveInt, Share, Strength
from sharpminima.catalogue.methods.choices import Distribution
from sharpminima.catalogue.methods.method import Dial, Method
from sharpminima.catalogue.methods.published import NOT_OFFERED, PUBLISHED
from sharpminima.catalogue.methods.search import (
    FromTrainedSettings,
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

    revision: Literal[3] = 3  # type: ignore[assignment] # of its own
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

    revision: Literal[3] = 3  # type: ignore[assignment] # of its own
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
    """The rate is ours; with LeNet-300 on MNIST trials chose 1700 (paper/tuning)."""

    revision: Literal[3] = 3  # type: ignore[assignment] # of its own
    lr_schedule: LrSchedule = "cosine"
    distribution: Distribution = "global"
    rate: Strength = Field(1000.0, description="of the scores, times lr")


class EdgePopupSettings(SubnetSettings, LearnedSettings):
    """Layerwise and by a cosine as in the paper; the rate is ours, to be tuned."""

    revision: Literal[3] = 3  # type: ignore[assignment] # of its own
    lr_schedule: LrSchedule = "cosine"
    distribution: Distribution = "layerwise"
    rate: Strength = Field(10.0, description="of the scores, times lr")


class ContinuousSparsificationSettings(SweepSettings, LearnedSettings):
    """beta as in the authors' code, whose lambda is 1e-8; our strengths and rate are to be tuned."""

    revision: Literal[3] = 3  # type: ignore[assignment] # of its own
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


class NetworkSurgerySettings(FromTrainedSettings, SweepSettings):
    """gamma, p and the last step are those of the authors' code; our strengths (c) are to be tuned."""

    published = PUBLISHED["network_surgery"]

    revision: Literal[2] = 2  # type: ignore[assignment] # of its own
    strengths: tuple[Strength, ...] = (1.0, 2.0, 4.0)
    gamma: float = Field(1e-4, ge=0, description="how fast changes of the mask become seldom, a step")
    power: float = Field(1.0, ge=0, description="p, of their probability")
    stop: PositiveInt = Field(14_000, description="the step from which the masks stay")


class StraightThroughGatesSettings(SweepSettings, LearnedSettings):
    """All numbers are ours, to be tuned."""

    revision: Literal[3] = 3  # type: ignore[assignment] # of its own
    strengths: tuple[Strength, ...] = (3e-6, 1e-5, 3e-5)
    rate: Strength = Field(1000.0, description="of the gates, times lr")
    deciding: float = Field(0.5, ge=0, lt=1, description="lambda_1 / lambda_2, by which gates leave 1/2")


class AutopruneSettings(SweepSettings, LearnedSettings):
    """All numbers are ours, to be tuned."""

    revision: Literal[2] = 2  # type: ignore[assignment] # of its own
    not_offered = NOT_OFFERED["autoprune"]

    strengths: tuple[Strength, ...] = (1e-5, 1e-4, 1e-3)
    rate: Strength = Field(100.0, description="of the auxiliary parameters, times lr")
    start: Strength = Field(0.1, description="auxiliary parameters at first; the net is dense")
    surrogate: Literal["softplus", "leaky_relu"] = Field("softplus", description="whose derivative the step has")


class BayesianCompressionSettings(SweepSettings, LearnedSettings):
    """As in the authors' code, whose thresholds are -2.8, -3 and -5 by layer; our strengths are to be tuned."""

    published = PUBLISHED["bayesian_compression"]

    revision: Literal[2] = 2  # type: ignore[assignment] # of its own
    optimiser: Literal["sgd", "adam"] = Field("adam", description="of the weights' means; sgd: with its momentum")
    lr: Strength = 1e-3
    strengths: tuple[Strength, ...] = (1.0, 3.0, 10.0)
    noise_lr: Strength = Field(1e-3, description="of scales and log variances, by Adam; it falls as lr does")
    threshold: float = Field(-3.0, description="of log alpha, from which units leave")
    pixels: bool = Field(True, description="whether pixels that a linear layer reads may leave, too")


class StructuredBayesianSettings(FromTrainedSettings, SweepSettings, LearnedSettings):
    """As in the authors' code but for the epochs, theirs being 200; our strengths are to be tuned."""

    published = PUBLISHED["structured_bayesian"]

    revision: Literal[2] = 2  # type: ignore[assignment] # of its own
    optimiser: Literal["sgd", "adam"] = Field("adam", description="of the weights; sgd: with its momentum")
    lr: Strength = 1e-3
    lr_schedule: LrSchedule = "linear"
    strengths: tuple[Strength, ...] = (1.0, 3.0, 10.0)
    noise_lr: Strength = Field(1e-3, description="of the noise's mu and log sigma, by Adam; it falls as lr does")
    threshold: Strength = Field(1.0, description="of the signal-to-noise ratio, under which units leave")
    pixels: bool = Field(True, description="whether pixels that a linear layer reads may leave, too")


class ShiftAttentionSettings(LearnedSettings):
    """All numbers are ours, to be tuned."""

    distribution: Distribution = Field("layerwise", description="of the weights that stay")
    rate: Strength = Field(10.0, description="of the attention, times lr")
    begin: Strength = Field(1.0, description="temperature T in the first step")
    end: Strength = Field(100.0, description="temperature T in the last step")


def reparametrised_method(
    name: str,
    search: Code,
    settings: type[SearchSettings],
    paper: str,
    dial: Dial = "weights",
    *,
    whole_units: bool = False,
    title: str = "",
) -> Method:
    """A method of this kind; of `SweepSettings` if it has no density dial.

    Args:
        search, whole_units: as of `searched_method` or `swept_method`.
    """
    if issubclass(settings, SweepSettings):
        return swept_method(name, search, settings, paper, "mask learning", whole_units=whole_units, title=title)
    return searched_method(name, search, settings, paper, "mask learning", dial, title=title)


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
        title="Edge-popup",
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
    reparametrised_method(
        "network_surgery",
        "sharpminima.pruning.mask_learning.network_surgery:search",
        NetworkSurgerySettings,
        "Guo, Yao, Chen (2016)",
        title="Dynamic network surgery",
    ),
    reparametrised_method(
        "straight_through_gates",
        "sharpminima.pruning.mask_learning.straight_through_gates:search",
        StraightThroughGatesSettings,
        "Srinivas, Subramanya, Babu (2017)",
        title="Straight-through gates",
    ),
    reparametrised_method(
        "autoprune",
        "sharpminima.pruning.mask_learning.autoprune:search",
        AutopruneSettings,
        "Xiao, Wang, Rajasekaran (2019)",
        title="AutoPrune",
    ),
    reparametrised_method(
        "bayesian_compression",
        "sharpminima.pruning.mask_learning.bayesian_compression:search",
        BayesianCompressionSettings,
        "Louizos, Ullrich, Welling (2017)",
        whole_units=True,
    ),
    reparametrised_method(
        "structured_bayesian",
        "sharpminima.pruning.mask_learning.structured_bayesian:search",
        StructuredBayesianSettings,
        "Neklyudov, Molchanov, Ashukha, Vetrov (2017)",
        whole_units=True,
        title="Structured Bayesian",
    ),
)
SHIFT_ATTENTION = reparametrised_method(
    "shift_attention",
    "sharpminima.pruning.mask_learning.shift_attention:search",
    ShiftAttentionSettings,
    "Hacene, Lassance, Gripon, Courbariaux, Bengio (2020)",
    "at most",
)
