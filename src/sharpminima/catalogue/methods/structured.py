"""Methods that train, score units, remove the lowest, and train on."""

from typing import Literal

from pydantic import Field

from sharpminima.base.settings import PositiveInt, Share, Strength
from sharpminima.catalogue.methods.choices import Distribution
from sharpminima.catalogue.methods.method import Method
from sharpminima.catalogue.methods.search import (
    FromTrainedSettings,
    LearnedSettings,
    SweepSettings,
    searched_method,
    swept_method,
)
from sharpminima.catalogue.methods.units import UnitSearchSettings
from sharpminima.catalogue.registry import Code


class UnitSettings(UnitSearchSettings):
    """The search trains the whole net."""

    distribution: Literal["global", "layerwise"] = Field("layerwise", description="of units over layers")


class L1FiltersSettings(UnitSettings):
    """Layerwise as in the paper."""

    revision: Literal[3] = 3  # type: ignore[assignment] # one of its own


class SoftFilterSettings(UnitSettings):
    """Layerwise as in the paper."""

    revision: Literal[3] = 3  # type: ignore[assignment] # one of its own


class StepByStepSettings(UnitSettings):
    """Of methods that remove units step by step while the net trains."""

    distribution: Literal["global", "layerwise"] = Field("global", description="of units over layers")
    begin: float = Field(0.5, ge=0, lt=1, description="share of the search's steps before units begin to leave")
    every: PositiveInt = Field(30, description="mini-batches between two removals, over which importance is averaged")


class TaylorChannelsSettings(StepByStepSettings):
    """Global, and 30 mini-batches between removals, as in the paper; when the first is, is ours."""

    revision: Literal[3] = 3  # type: ignore[assignment] # one of its own


class SkeletonizationSettings(StepByStepSettings):
    """When units leave, and how many at a time, is ours."""

    revision: Literal[2] = 2  # type: ignore[assignment] # one of its own


class InTurnsSettings(FromTrainedSettings):
    """The search trains on after units leave, layer after layer in shares of it; its rate is ours, of a fine-tuning."""

    lr: Strength = 0.01
    samples_per_class: PositiveInt = Field(100, description="training images that the choice of units sees")


class LassoChannelsSettings(InTurnsSettings):
    """As for all that goes layer by layer."""

    revision: Literal[2] = 2  # type: ignore[assignment] # of its own


class DcpSettings(InTurnsSettings):
    """The optimiser, its rate, decay and the number of losses as in the authors' code."""

    momentum: float = Field(0.9, ge=0, lt=1)
    nesterov: bool = Field(True, description="momentum looked ahead")
    weight_decay: float = Field(1e-4, ge=0)
    begin: float = Field(0.5, gt=0, lt=1, description="share of the search's steps before the first layer's turn")
    losses: PositiveInt = Field(3, description="auxiliary losses, at most")
    units: PositiveInt = Field(1, description="that come back between two fits")


class AttentionChannelsSettings(FromTrainedSettings, UnitSearchSettings, LearnedSettings):
    """All layers are ranked together as in the paper; the numbers are ours, lr that of a fine-tuning."""

    revision: Literal[2] = 2  # type: ignore[assignment] # one of its own
    lr: Strength = 0.01
    frozen: bool = Field(False, description="whether the net stays as it is while attention learns")
    attention_lr: Strength = Field(1e-3, description="of the attention networks, by Adam; it falls as lr does")
    reduction: PositiveInt = Field(4, description="units of a layer for one hidden unit of its attention network")


class LearnedAgentsSettings(InTurnsSettings, SweepSettings):
    """All numbers but the draws an update are ours; b is to be tuned."""

    revision: Literal[2] = 2  # type: ignore[assignment] # of its own
    strengths: tuple[Strength, ...] = Field((0.02, 0.1, 0.5), description="b, the share of accuracy that may go")
    samples_per_class: PositiveInt = Field(50, description="training images that rewards are measured on")
    updates: PositiveInt = Field(50, description="of a layer's agent")
    samples: int = Field(5, ge=2, description="draws of an update")
    agent_lr: Strength = Field(0.03, description="of agents, by Adam")
    hidden: PositiveInt = Field(32, description="units of the two hidden layers of an agent")
    begin: float = Field(2.0, description="logit of each unit's stay at first")


class AmcSettings(InTurnsSettings):
    """The agent's numbers are the authors', but for the episodes (800 in all) and the images; the search trains on."""

    revision: Literal[2] = 2  # type: ignore[assignment] # of its own
    reward: Literal["error", "error_flops"] = Field("error", description="- error, or - error log FLOPs")
    lower: float = Field(0.2, gt=0, lt=1, description="share of a layer's units that stays, unless a level needs less")
    episodes: PositiveInt = Field(300, description="of the agent, in all")
    warm_up: int = Field(100, ge=1, description="episodes of uniform draws, before the agent is trained")
    hidden: PositiveInt = Field(300, description="units of the two hidden layers of actor and critic")
    actor_lr: Strength = 1e-4
    critic_lr: Strength = 1e-3
    tau: Share = Field(0.01, description="what slow copies of both take over in an update")
    agent_batch: PositiveInt = Field(64, description="remembered steps of an update")
    memory: PositiveInt = Field(100, description="episodes that are remembered")
    noise: Strength = Field(0.5, description="deviation of actions after the warm-up")
    decay: Share = Field(0.95, description="of the noise, an episode")


class StructureRoundsSettings(FromTrainedSettings):
    """Ours, to be tuned, but for the magnitude, as in Mao et al., who tune a share for each layer.

    Structures of all layers compete: one share for all would leave the first convolution of LeNet-5 one filter at 95 %.
    """

    revision: Literal[2] = 2  # type: ignore[assignment] # of its own
    lr: Strength = 0.01
    distribution: Distribution = Field("global", description="of weights over layers")
    rounds: PositiveInt = Field(5, description="in which structures leave, evenly over the search")
    choice: Literal["magnitude", "particles"] = Field("magnitude", description="what says which structures stay")
    particles: PositiveInt = Field(20, description="masks at a time")
    generations: PositiveInt = Field(5, description="of particles, a round")
    mutation: Share = Field(0.1, description="share of a particle that is drawn anew in each generation")
    samples_per_class: PositiveInt = Field(50, description="training images that weigh particles")


class IntraKernelSettings(StructureRoundsSettings):
    """The stride is ours."""

    stride: PositiveInt = Field(2, description="of positions of a kernel that leave together, row by row")


def structured_method(name: str, policy: Code, settings: type[UnitSettings], paper: str, *, title: str = "") -> Method:
    """A method of this kind; ``policy``: a `sharpminima.pruning.structured.unit_scores.UnitScores`."""
    family = "sharpminima.pruning.structured.unit_scores:prune"
    return Method(name, settings, paper, "structured", policy, "units", family, title=title)


def layerwise_method(
    name: str, policy: Code, settings: type[InTurnsSettings], paper: str, *, title: str = ""
) -> Method:
    """A method of this kind; ``policy``: a `sharpminima.pruning.structured.layer_by_layer.LayerByLayer`."""
    family = "sharpminima.pruning.structured.layer_by_layer:prune"
    return Method(name, settings, paper, "structured", policy, "units", family, title=title)


def structure_method(
    name: str, policy: Code, settings: type[StructureRoundsSettings], paper: str, *, title: str = ""
) -> Method:
    """A method of this kind; ``policy``: a `sharpminima.pruning.structured.structure_rounds.StructureRounds`."""
    family = "sharpminima.pruning.structured.structure_rounds:prune"
    return Method(name, settings, paper, "structured", policy, "structures", family, title=title)


STRUCTURED = (
    structured_method(
        "l1_filters",
        "sharpminima.pruning.structured.l1_filters:Filters",
        L1FiltersSettings,
        "Li, Kadav, Durdanovic, Samet, Graf (2017)",
    ),
    structured_method(
        "soft_filter",
        "sharpminima.pruning.structured.soft_filter:SoftZeros",
        SoftFilterSettings,
        "He, Kang, Dong, Fu, Yang (2018)",
        title="Soft filter pruning",
    ),
    structured_method(
        "taylor_channels",
        "sharpminima.pruning.structured.taylor_channels:TaylorScores",
        TaylorChannelsSettings,
        "Molchanov, Mallya, Tyree, Frosio, Kautz (2019)",
    ),
)
SKELETONIZATION = structured_method(
    "skeletonization",
    "sharpminima.pruning.structured.skeletonization:Relevance",
    SkeletonizationSettings,
    "Mozer, Smolensky (1989)",
)
LAYER_BY_LAYER = (
    layerwise_method(
        "thinet", "sharpminima.pruning.structured.thinet:ThiNet", InTurnsSettings, "Luo, Wu, Lin (2017)", title="ThiNet"
    ),
    layerwise_method(
        "lasso_channels",
        "sharpminima.pruning.structured.lasso_channels:LassoChannels",
        LassoChannelsSettings,
        "He, Zhang, Sun (2017)",
    ),
)
ATTENTION_CHANNELS = searched_method(
    "attention_channels",
    "sharpminima.pruning.structured.attention_channels:search",
    AttentionChannelsSettings,
    "Yamamoto, Maeno (2018)",
    "structured",
    "units",
    title="PCAS",
)
DCP = searched_method(
    "dcp",
    "sharpminima.pruning.structured.dcp:search",
    DcpSettings,
    "Zhuang, Tan, Zhuang, Liu, Guo, Wu, Huang, Zhu (2018)",
    "structured",
    "units",
    title="DCP",
)
STRUCTURES = (
    structure_method(
        "kernels",
        "sharpminima.pruning.structured.kernels:Kernels",
        StructureRoundsSettings,
        "Anwar, Hwang, Sung (2017); Mao, Han, Pool, Li, Liu, Wang, Dally (2017)",
    ),
    structure_method(
        "intra_kernel",
        "sharpminima.pruning.structured.intra_kernel:Positions",
        IntraKernelSettings,
        "Anwar, Hwang, Sung (2017); Mao, Han, Pool, Li, Liu, Wang, Dally (2017)",
        title="Intra-kernel",
    ),
)
LEARNED_AGENTS = swept_method(
    "learned_agents",
    "sharpminima.pruning.structured.learned_agents:search",
    LearnedAgentsSettings,
    "Huang, Zhou, You, Neumann (2018)",
    "structured",
    whole_units=True,
)
AMC = searched_method(
    "amc",
    "sharpminima.pruning.structured.amc:search",
    AmcSettings,
    "He, Lin, Liu, Wang, Li, Han (2018)",
    "structured",
    "units",
    title="AMC",
)
