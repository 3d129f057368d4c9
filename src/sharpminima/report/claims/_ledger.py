"""The ledger's file: claims with their sources and tests, checked when read."""

import datetime
import os
from collections.abc import Collection, Sequence
from typing import Annotated, Literal

from pydantic import Field, ValidationError, model_validator

from sharpminima.base.errors import ConfigError
from sharpminima.base.settings import Settings
from sharpminima.base.yaml_input import read_yaml
from sharpminima.catalogue.models import LABEL
from sharpminima.report.claims._verdict import Side

Place = Annotated[
    str,
    Field(pattern=rf"^[a-z0-9-]+/[a-z0-9]+({LABEL})?$", description="dataset/model, with its label where it has one"),
]

UNDRAWN = ("gradual", "rewind", "rewind-long", "dense")
"""Strategies of one net a run."""

Space = Literal["all", "surviving", "relative"]  # relative: changes of survivors relative to their size


class Difference(Settings):
    """Where a difference must lie."""

    is_: Annotated[Side, Field(alias="is")]
    bound: float = Field(0.0, description="in the quantity's unit")
    relative: bool = Field(False, description="bound as a share of the mean size of the two values")

    @model_validator(mode="after")
    def _bounded(self) -> "Difference":
        if self.is_ == "within" and self.bound <= 0:
            raise ValueError("`is: within` needs a bound above 0")
        if self.relative and self.is_ != "within":
            raise ValueError("relative bounds are for `is: within`")
        return self


class Nets(Difference):
    """A quantity of trained nets at a level: first - second, in pairs by run.

    Draws are paired too where several runs have one at their own mask (the first, where they have more).
    """

    kind: Literal["nets"]
    quantity: Literal["test_error_percent", "training_loss_nats", "best_epoch", "epochs"]
    level: Literal["highest", "lowest"] | float = "highest"
    first: Annotated[tuple[str, ...], Field(min_length=1, description="strategies; the one of the lowest mean counts")]
    second: str | float = Field(description="a strategy, dense, or a published value")
    excess: Annotated[float, Field(gt=0, lt=1)] | None = Field(
        None,
        description="runs whose gradual net has removed less than the level, or by more than this share more, are left "
        "out; null: all runs count, however far their nets are from the level",
    )
    same_mask: bool = Field(
        False, description="draws of `first` against the one net of `second` at the mask that they share"
    )

    @model_validator(mode="after")
    def _net_of_the_mask(self) -> "Nets":
        if self.same_mask and not isinstance(self.second, str):
            raise ValueError("same_mask compares with nets: `second` is a published value")
        return self

    @model_validator(mode="after")
    def _a_net_a_run(self) -> "Nets":
        sides = {*self.first, *([self.second] if isinstance(self.second, str) else [])}
        if self.excess is not None and (drawn := sorted(sides - {*UNDRAWN})):
            raise ValueError(f"excess leaves out runs, and draws at one mask are none: {', '.join(drawn)}")
        return self


class Reached(Settings):
    """Whether the method's runs removed the share."""

    kind: Literal["reached"]
    level: float


class Psp(Difference):
    """A quantity of the PSP tables: G - 1-S, in pairs by run."""

    kind: Literal["psp"]
    quantity: str
    part: Literal["train", "validation", "test"] | None = Field(None, description="null: the study's first")
    layers: Literal["together", "each"] = Field("together", description="each: one comparison a hidden layer")


class Eigenvalue(Difference):
    """The largest eigenvalue of the Hessian: G - 1-S, in pairs by run."""

    kind: Literal["eigenvalue"]
    space: Space


class Positive(Settings):
    """Whether all eigenvalues that were computed are positive."""

    kind: Literal["positive"]
    space: Space


class Transfer(Difference):
    """Test error, percent, of nets on another dataset: first - second, in pairs by run where neither is drawn anew."""

    kind: Literal["transfer"]
    mode: Literal["probe", "finetune"]
    first: str
    second: str


class Against(Difference):
    """A quantity of nets less that of the same nets of another experiment, by run: one net trained in two ways."""

    kind: Literal["against"]
    other: Annotated[str, Field(pattern=rf"^[a-z0-9-]+({LABEL})?$", description="the model of the other experiment")]
    quantity: Literal[
        "test_error_percent",
        "training_loss_nats",
        "probe_error_percent",
        "entropy_1_bits",
        "entropy_1_live_bits",
        "entropy_2_joint_bits",
        "entropy_2_joint_live_bits",
        "psp_norm",
        "largest_eigenvalue",
        "largest_eigenvalue_relative",
    ] = Field(
        description="probe_error_percent: on the other dataset; largest_eigenvalue_relative: of relative changes of "
        "the surviving parameters, which no rescaling changes; the last seven: of G and 1-S, and of dense nets where "
        "the analysis has dense: true"
    )
    of: Literal["dense", "gradual", "rewind", "rewind-long"]
    level: Literal["highest", "lowest"] | float = "highest"

    @model_validator(mode="after")
    def _measured(self) -> "Against":
        trained = self.quantity in ("test_error_percent", "training_loss_nats", "probe_error_percent")
        if not trained and self.of == "rewind-long":
            raise ValueError(f"{self.quantity} is measured of dense, gradual and rewind; of: {self.of} given")
        return self


class LowerElsewhere(Settings):
    """Whether points of the map have less of a quantity than G, all of them at a higher loss: the lowest loss there
    less that at G, over the runs that have maps.
    """

    kind: Literal["lower-elsewhere"]
    quantity: Literal["psp_norm", "psp_entropy_1_bits", "psp_entropy_2_bits"]


class CarryOver(Settings):
    """Whether claims hold in the experiments for which the paper does not state them."""

    kind: Literal["carry-over"]
    claims: Annotated[tuple[str, ...], Field(min_length=1)]


Test = Annotated[
    Nets | Reached | Psp | Eigenvalue | Positive | Transfer | Against | LowerElsewhere | CarryOver,
    Field(discriminator="kind"),
]


class Claim(Settings):
    """One claim of the paper."""

    id: Annotated[str, Field(pattern=r"^[a-z0-9-]+$")]
    source: str = Field(description="where the paper says it")
    says: str
    stated_for: tuple[Place | Annotated[tuple[Place, ...], Field(min_length=2)], ...] = Field(
        (),
        description="experiments that decide, or in place of one several, of which the first that the study has does; "
        "others are shown beside them",
    )
    elsewhere: bool = Field(
        True,
        description="whether other experiments are shown beside them at all; those with a label are where it is named",
    )
    tests: tuple[Test, ...] = Field(description="all must be reproduced")
    sensitivity: tuple[Test, ...] = Field((), description="other readings of the claim: shown, but decide nothing")

    def deciding(self, places: Collection[str]) -> tuple[str, ...]:
        """The experiments that decide in a study of ``places``; of several, none of which it has, the last."""
        several = ((one,) if isinstance(one, str) else one for one in self.stated_for)
        return tuple(next((place for place in choice if place in places), choice[-1]) for choice in several)


class Margins(Settings):
    """The smallest differences that matter: one within them refutes a claim of a difference."""

    test_error: Annotated[
        dict[str, Annotated[float, Field(gt=0)]],
        Field(description="dataset -> percentage points; `others` for those not named"),
    ]
    relative: Annotated[
        float,
        Field(
            gt=0, description="of losses, PSP norm, entropies, eigenvalues, transfer errors: share of the mean of both"
        ),
    ]
    epochs: Annotated[float, Field(gt=0, description="share of the mean of both")]

    @model_validator(mode="after")
    def _whole(self) -> "Margins":
        if "others" not in self.test_error:
            raise ValueError("test_error: `others` is missing, the margin on datasets that are not named")
        return self

    def of(self, quantity: str, dataset: str, values: Sequence[float]) -> float:
        """The margin of a difference of two values of a quantity, in its unit."""
        if quantity == "test_error_percent":
            return self.test_error.get(dataset, self.test_error["others"])
        share = self.epochs if quantity in ("best_epoch", "epochs") else self.relative
        return share * sum(map(abs, values)) / len(values)


class Amendment(Settings):
    """A change of what is compared, made when results of it had been seen."""

    date: datetime.date
    change: str
    seen: str = Field(description="what was known by then")


class OtherSetting(Settings):
    """A setting of the method other than the study's, by which some nets are made too."""

    label: Annotated[str, Field(pattern=f"^{LABEL[1:]}$", description="of its experiments, as in lenet5@authors")]
    says: str = Field(description="what the setting is, after `by`")


class Ledger(Settings):
    """All claims, and how their rules have changed."""

    amendments: tuple[Amendment, ...] = ()
    margins: Margins | None = Field(None, description="null: two things being equal refute nothing")
    new_runs_from: int | None = Field(
        None,
        description="first seed of the runs that were not looked at before every rule stood; they are judged alone too",
    )
    new_labels: tuple[Annotated[str, Field(pattern=f"^{LABEL[1:]}$")], ...] = Field(
        (), description="experiments of these labels are new whole, whatever their seeds"
    )
    other_settings: tuple[OtherSetting, ...] = Field(
        (),
        description="the claims on a net that the study has by one of them are judged by it as well",
    )
    claims: Annotated[tuple[Claim, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _consistent(self) -> "Ledger":
        names = [claim.id for claim in self.claims]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"ids stand once; {', '.join(twice)} repeated")
        for place, claim in enumerate(self.claims):
            for test in (*claim.tests, *claim.sensitivity):
                if isinstance(test, CarryOver) and (other := set(test.claims) - set(names[:place])):
                    raise ValueError(
                        f"{claim.id}: carries over {', '.join(sorted(other))}, which do not stand before it"
                    )
        return self


def read_ledger(path: str | os.PathLike[str]) -> Ledger:
    """The ledger in a file.

    Raises:
        ConfigError: the file is missing, is not YAML, or has faults, each named with its place.
    """
    content = read_yaml(path)
    try:
        return Ledger.model_validate(content)
    except ValidationError as error:
        faults = "; ".join(
            f"{'.'.join(map(str, item['loc'])) or 'whole file'}: {item['msg']}" for item in error.errors()
        )
        raise ConfigError(f"{path}: {faults}") from error
