"""Methods that train under a penalty, and then remove the least."""

from typing import Literal

from sharpminima.base.settings import Strength
from sharpminima.catalogue.methods.choices import Distribution
from sharpminima.catalogue.methods.method import Method
from sharpminima.catalogue.methods.search import SearchSettings, searched_method
from sharpminima.catalogue.methods.units import UnitSearchSettings
from sharpminima.catalogue.registry import Code


class PenaltySettings(SearchSettings):
    """Of all methods that penalise single weights, and remove the smallest of them."""

    distribution: Distribution = "global"


class UnitPenaltySettings(UnitSearchSettings):
    """Of all methods that penalise units, and remove those of least norm."""


class L1Settings(PenaltySettings):
    """The strength is ours, to be tuned."""

    strength: Strength = 1e-4


class GroupLassoSettings(UnitPenaltySettings):
    """The strength is ours, to be tuned."""

    revision: Literal[2] = 2  # type: ignore[assignment] # one of its own
    strength: Strength = 1e-3


class SlimmingSettings(UnitSearchSettings):
    """As in the paper."""

    revision: Literal[2] = 2  # type: ignore[assignment] # one of its own
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

    revision: Literal[2] = 2  # type: ignore[assignment] # one of its own
    strength: Strength = 1e-4


def penalty_method(name: str, policy: Code, settings: type[SearchSettings], paper: str) -> Method:
    """A method of this kind; of `UnitPenaltySettings` if it removes units.

    Args:
        policy: a `sharpminima.pruning.penalty.penalised.Penalised`.
    """
    if issubclass(settings, UnitPenaltySettings):
        return Method(
            name, settings, paper, "penalty", policy, "units", "sharpminima.pruning.penalty.penalised:prune_units"
        )
    return Method(
        name, settings, paper, "penalty", policy, "weights", "sharpminima.pruning.penalty.penalised:prune_weights"
    )


L1 = penalty_method("l1", "sharpminima.pruning.penalty.l1:Lasso", L1Settings, "Tibshirani (1996)")
GROUP_LASSO = penalty_method(
    "group_lasso",
    "sharpminima.pruning.penalty.group_lasso:GroupLasso",
    GroupLassoSettings,
    "Wen, Wu, Wang, Chen, Li (2016)",
)
SLIMMING = searched_method(
    "slimming",
    "sharpminima.pruning.penalty.slimming:search",
    SlimmingSettings,
    "Liu, Li, Shen, Huang, Yan, Zhang (2017)",
    "penalty",
    "units",
)
SWD = penalty_method(
    "swd",
    "sharpminima.pruning.penalty.swd:SelectiveDecay",
    SwdSettings,
    "Tessier, Gripon, Léonardon, Arzel, Hannagan, Bertrand (2022)",
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
)
