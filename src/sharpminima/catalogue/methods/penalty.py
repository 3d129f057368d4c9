"""Methods that train under a penalty, and then remove the least."""

from typing import Literal

from pydantic import Field

from sharpminima.base.settings import PositiveInt, Share, Strength
from sharpminima.catalogue.methods.choices import Distribution
from sharpminima.catalogue.methods.method import Dial, Method
from sharpminima.catalogue.methods.published import NOT_OFFERED, PUBLISHED
from sharpminima.catalogue.methods.search import (
    FromTrainedSettings,
    LrSchedule,
    SearchSettings,
    SweepSettings,
    searched_method,
    swept_method,
)
from sharpminima.catalogue.methods.units import UnitSearchSettings
from sharpminima.catalogue.registry import Code


class PenaltySettings(SearchSettings):
    """Of all methods that penalise single weights, and remove the smallest of them."""

    distribution: Distribution = Field(
        "global", description="of what stays at the end; what a method singles out before is chosen over all layers"
    )


class UnitPenaltySettings(UnitSearchSettings):
    """Of all methods that penalise units, and remove those of least norm."""


class L1Settings(PenaltySettings):
    """The strength is ours, to be tuned."""

    strength: Strength = 1e-4


class GroupLassoSettings(UnitPenaltySettings):
    """The strength is ours, to be tuned."""

    revision: Literal[3] = 3  # type: ignore[assignment] # one of its own
    strength: Strength = 1e-3


class VaclSettings(UnitPenaltySettings):
    """Strength and variance are ours, to be tuned."""

    revision: Literal[2] = 2  # type: ignore[assignment] # one of its own
    strength: Strength = 1e-3
    variance: float = Field(1.0, ge=0, description="gamma, of the variance within a group beside its mean")


class SlimmingSettings(UnitSearchSettings):
    """As in the paper."""

    revision: Literal[3] = 3  # type: ignore[assignment] # one of its own
    strength: Strength = 1e-4


class SwdSettings(PenaltySettings):
    """As in the authors' code; mu is theirs for the usual weight decay."""

    mu: Strength = 5e-4
    a_min: Strength = 0.1
    a_max: Strength = 1e5


class SensitivitySettings(PenaltySettings):
    """The strength is ours, to be tuned."""

    revision: Literal[2] = 2  # type: ignore[assignment] # one of its own
    strength: Strength = 1e-4


class SereneSettings(UnitPenaltySettings):
    """The strength is ours, to be tuned."""

    revision: Literal[3] = 3  # type: ignore[assignment] # one of its own
    strength: Strength = 1e-4


class LearningCompressionSettings(FromTrainedSettings, PenaltySettings):
    """As in the authors' code for MNIST, but for the epochs, there 820, and mini-batches, there of 256.

    The rate is that of their net, with tanh and images of a third of our spread: with LeNet-5 it undoes the training
    that it starts from, and .02 does not.
    """

    published = PUBLISHED["learning_compression"]

    revision: Literal[2] = 2  # type: ignore[assignment] # of its own
    momentum: float = Field(0.9, ge=0, lt=1)
    nesterov: bool = Field(True, description="momentum looked ahead")
    lr_fall: Share = Field(0.98, description="share of lr that is left from one round to the next")
    mu: Strength = Field(9e-5, description="pull to the compressed net, at first")
    growth: float = Field(1.1, ge=1, description="of mu, a round")
    rounds: PositiveInt = Field(
        40, description="that share the steps, the first twice as long; each ends with a compression"
    )


class GlobalSparseMomentumSettings(FromTrainedSettings, PenaltySettings):
    """As in the authors' code for LeNet-300, but for the epochs: theirs are 280, the first five at a rising rate."""

    published = PUBLISHED["global_sparse_momentum"]

    lr: Strength = 0.01
    batch_size: PositiveInt = 256
    momentum: float = Field(0.99, ge=0, lt=1)
    weight_decay: float = Field(5e-4, ge=0)
    nesterov: bool = Field(True, description="momentum looked ahead")
    lr_schedule: LrSchedule = "steps"
    lr_falls: tuple[Share, ...] = Field((4 / 7, 5 / 7, 6 / 7), description="shares of the epochs")


class LHalfSettings(PenaltySettings):
    """Strength and epsilon are ours, to be tuned."""

    not_offered = NOT_OFFERED["l_half"]

    strength: Strength = 1e-4
    epsilon: Strength = Field(1e-3, description="beside |w| under the root")


class WeightEliminationSettings(PenaltySettings):
    """Strength and w0 are ours, to be tuned."""

    strength: Strength = 1e-5
    w0: Strength = Field(0.1, description="the size beside which a weight is large")
    adapt: bool = Field(True, description="whether lambda follows the error")


class JointSparsitySettings(PenaltySettings):
    """alpha is ours, to be tuned."""

    alpha: Strength = Field(0.1, description="reward of zeta, the logarithm of the decay")


class SoftWeightSharingSettings(FromTrainedSettings, SweepSettings):
    """As in the authors' code, whose tau is .003, for 40 epochs unless asked."""

    published = PUBLISHED["soft_weight_sharing"]

    revision: Literal[4] = 4  # type: ignore[assignment] # of its own
    optimiser: Literal["sgd", "adam"] = Field("adam", description="of the weights; sgd: with its momentum")
    lr: Strength = 5e-4
    strengths: tuple[Strength, ...] = (1e-3, 3e-3, 1e-2)
    components: int = Field(16, ge=2, description="of the mixture, one of which stays at 0")
    zero: float = Field(0.99, gt=0, lt=1, description="share of the component at 0")
    means_lr: Strength = Field(1e-4, description="of the means, by Adam; it falls as lr does")
    mixture_lr: Strength = Field(3e-3, description="of log precisions and shares, by Adam; it falls as lr does")


def penalty_method(name: str, policy: Code, settings: type[SearchSettings], paper: str, *, title: str = "") -> Method:
    """A method of this kind; of `UnitPenaltySettings` if it removes units.

    Args:
        policy: a `sharpminima.pruning.penalty.penalised.Penalised`.
    """
    removed: Dial = "units" if issubclass(settings, UnitPenaltySettings) else "weights"
    family = f"sharpminima.pruning.penalty.penalised:prune_{removed}"
    return Method(name, settings, paper, "penalty", policy, removed, family, title=title)


L1 = penalty_method("l1", "sharpminima.pruning.penalty.l1:Lasso", L1Settings, "Tibshirani (1996)")
GROUP_LASSO = penalty_method(
    "group_lasso",
    "sharpminima.pruning.penalty.group_lasso:GroupLasso",
    GroupLassoSettings,
    "Wen, Wu, Wang, Chen, Li (2016)",
)
VACL = penalty_method(
    "vacl",
    "sharpminima.pruning.penalty.vacl:CrossLayer",
    VaclSettings,
    "Gao, Liu, Chien, Zhang, Alvarez (2019)",
    title="VACL",
)
SLIMMING = searched_method(
    "slimming",
    "sharpminima.pruning.penalty.slimming:search",
    SlimmingSettings,
    "Liu, Li, Shen, Huang, Yan, Zhang (2017)",
    "penalty",
    "units",
    title="Network slimming",
)
SWD = penalty_method(
    "swd",
    "sharpminima.pruning.penalty.swd:SelectiveDecay",
    SwdSettings,
    "Tessier, Gripon, Léonardon, Arzel, Hannagan, Bertrand (2022)",
    title="SWD",
)
SENSITIVITY = penalty_method(
    "sensitivity",
    "sharpminima.pruning.penalty.sensitivity:SensitivityDecay",
    SensitivitySettings,
    "Tartaglione, Lepsøy, Fiandrotti, Francini (2018)",
)
SERENE = penalty_method(
    "serene",
    "sharpminima.pruning.penalty.serene:NeuronDecay",
    SereneSettings,
    "Tartaglione, Bragagnolo, Odierna, Fiandrotti, Grangetto (2022)",
    title="SeReNe",
)
LEARNING_COMPRESSION = penalty_method(
    "learning_compression",
    "sharpminima.pruning.penalty.learning_compression:Coupled",
    LearningCompressionSettings,
    "Carreira-Perpiñán, Idelbayev (2018)",
    title="Learning-compression",
)
GLOBAL_SPARSE_MOMENTUM = penalty_method(
    "global_sparse_momentum",
    "sharpminima.pruning.penalty.global_sparse_momentum:ActiveGradients",
    GlobalSparseMomentumSettings,
    "Ding, Ding, Zhou, Guo, Han, Liu (2019)",
)
L_HALF = penalty_method(
    "l_half", "sharpminima.pruning.penalty.l_half:HalfPower", LHalfSettings, "Chang, Sha (2019)", title="L1/2"
)
JOINT_SPARSITY = penalty_method(
    "joint_sparsity",
    "sharpminima.pruning.penalty.joint_sparsity:TrainedDecay",
    JointSparsitySettings,
    "Choi, El-Khamy, Lee (2018)",
)
WEIGHT_ELIMINATION = penalty_method(
    "weight_elimination",
    "sharpminima.pruning.penalty.weight_elimination:Elimination",
    WeightEliminationSettings,
    "Weigend, Rumelhart, Huberman (1991)",
)
SOFT_WEIGHT_SHARING = swept_method(
    "soft_weight_sharing",
    "sharpminima.pruning.penalty.soft_weight_sharing:search",
    SoftWeightSharingSettings,
    "Ullrich, Meeds, Welling (2017)",
    "penalty",
)
