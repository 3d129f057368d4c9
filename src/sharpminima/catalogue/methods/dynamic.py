"""Dynamic sparse training: connections leave and others come while the net trains."""

from typing import Literal

from pydantic import Field

from sharpminima.base.settings import PositiveInt, Share, Strength
from sharpminima.catalogue.methods.choices import Distribution
from sharpminima.catalogue.methods.method import Method
from sharpminima.catalogue.methods.published import PUBLISHED
from sharpminima.catalogue.methods.search import LearnedSettings, SearchSettings, SweepSettings, swept_method
from sharpminima.catalogue.registry import Code


class DynamicSettings(SearchSettings):
    """Of all methods that rewire; each has defaults of its own."""

    distribution: Distribution = Field("erk", description="of the random mask at the start")
    every: PositiveInt | None = Field(None, description="steps between two rewirings; null: an epoch")
    until: Share = Field(1.0, description="share of the steps after which the mask stays")
    drop: Share = Field(0.3, description="share of a layer's connections that leave")


class SetSettings(DynamicSettings):
    """As in the paper."""

    revision: Literal[2] = 2  # type: ignore[assignment] # of its own


class DsrSettings(DynamicSettings):
    """As in the authors' code, but for `drop`, where what is aimed at, of all survivors, depends on the net, and `erk`.

    Theirs starts every layer at the same density, on a net with BatchNorm behind all layers and momentum. Without those
    LeNet-300 at 98 %, with 20 weights in its last layer, stays near chance.
    """

    revision: Literal[3] = 3  # type: ignore[assignment] # of its own
    distribution: Distribution = Field("erk", description="of the random mask at the start")
    every: PositiveInt | None = Field(100, description="steps between two rewirings; null: an epoch")
    drop: Share = Field(0.1, description="share of all connections that should leave at a rewiring")
    threshold: float = Field(1e-3, gt=0, description="on |w|, at the start")
    tolerance: Share = Field(0.1, description="delta, by which the number that left may differ from that aimed at")


class SparseMomentumSettings(DynamicSettings):
    """As in the authors' code."""

    published = PUBLISHED["sparse_momentum"]

    revision: Literal[2] = 2  # type: ignore[assignment] # of its own
    distribution: Distribution = Field("layerwise", description="of the random mask at the start")
    drop: Share = Field(0.5, description="share of a layer's connections that leave, at first")
    smoothing: float = Field(0.9, ge=0, lt=1, description="of the momentum that places are chosen by")


class RiglSettings(DynamicSettings):
    """As in the authors' code."""

    every: PositiveInt | None = Field(100, description="steps between two rewirings; null: an epoch")
    until: Share = Field(0.75, description="share of the steps after which the mask stays")


class DstSettings(SweepSettings, LearnedSettings):
    """As in the authors' code for MNIST, whose alpha is 5e-4."""

    published = PUBLISHED["dst"]

    revision: Literal[3] = 3  # type: ignore[assignment] # of its own
    epochs: PositiveInt = Field(20, description="of the search")
    lr: Strength = 0.01
    batch_size: PositiveInt = 64
    momentum: float = Field(0.9, ge=0, lt=1)
    added_momentum: float = Field(0.9, ge=0, lt=1, description="of the thresholds")
    strengths: tuple[Strength, ...] = (1e-4, 5e-4, 2e-3)


def dynamic_method(name: str, policy: Code, settings: type[DynamicSettings], paper: str, *, title: str = "") -> Method:
    """A method that rewires; ``policy``: a `sharpminima.pruning.dynamic.rewiring.Dynamic`."""
    family = "sharpminima.pruning.dynamic.rewiring:prune"
    return Method(name, settings, paper, "dynamic", code=policy, family=family, title=title)


DYNAMIC = (
    dynamic_method(
        "set",
        "sharpminima.pruning.dynamic.evolutionary:Evolving",
        SetSettings,
        "Mocanu, Mocanu, Stone, Nguyen, Gibescu, Liotta (2018)",
        title="SET",
    ),
    dynamic_method(
        "dsr", "sharpminima.pruning.dynamic.dsr:Reparameterizing", DsrSettings, "Mostafa, Wang (2019)", title="DSR"
    ),
    dynamic_method(
        "sparse_momentum",
        "sharpminima.pruning.dynamic.sparse_momentum:Redistributing",
        SparseMomentumSettings,
        "Dettmers, Zettlemoyer (2019)",
    ),
    dynamic_method(
        "rigl",
        "sharpminima.pruning.dynamic.rigl:Rigging",
        RiglSettings,
        "Evci, Gale, Menick, Castro, Elsen (2020)",
        title="RigL",
    ),
    swept_method(
        "dst",
        "sharpminima.pruning.dynamic.dst:search",
        DstSettings,
        "Liu, Xu, Shi, Cheung, So (2020)",
        "dynamic",
        title="DST",
    ),
)
