"""What methods of several families let a study choose: how weights are scored, shared out, and over which rounds."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, get_args

from pydantic import Field

from sharpminima.catalogue.registry import Code, NameIn, Registry, loaded

Distribution = Literal["global", "layerwise", "erk"]
Schedule = Literal["one-shot", "iterative", "cubic"]

DISTRIBUTIONS: tuple[Distribution, ...] = get_args(Distribution)
"""global: the best scores wherever they are; layerwise: the same density in each tensor; erk: in proportion to
sum(shape) / prod(shape) (`sharpminima.pruning.engine.distribution.erk_densities`)."""

SCHEDULES: tuple[Schedule, ...] = get_args(Schedule)
"""one-shot: all at once; iterative: the same share of what is left each round, density d^(k/n) after round k of n for
final density d; cubic: sparsity s (1 - (1 - k/n)^3) for final sparsity s (Zhu and Gupta, "To prune, or not to prune",
2017), which removes most where most is redundant."""


@dataclass(frozen=True, eq=False)
class Criterion:
    """How weights are scored; the highest scores stay. By itself a method of the same name."""

    name: str
    paper: str
    code: Code  # (candidate) -> scores
    defaults: Mapping[str, Any] = field(default_factory=dict)  # of the method's settings
    revives: bool = False  # whether removed weights are scored too, and may come back where rounds do not train
    revision: int = 1  # of the method of its name
    title: str = ""  # of that method

    def __call__(self, candidate: Any) -> dict[str, Any]:
        """Scores [shape of the parameter] by name, of a `sharpminima.pruning.engine.criteria.Candidate`."""
        return loaded(self.code)(candidate)


_TRAINED = {"start": "trained"}


def _criterion(
    name: str,
    paper: str,
    defaults: Mapping[str, Any] | None = None,
    *,
    revives: bool = False,
    revision: int = 1,
    title: str = "",
) -> Criterion:
    code = f"sharpminima.pruning.engine.criteria:{name}"
    return Criterion(name, paper, code, defaults or {}, revives, revision, title)


CRITERIA = Registry(
    "criterion",
    (
        _criterion("magnitude", "Han, Pool, Tran, Dally (2015)", _TRAINED),
        _criterion("random", "control"),
        _criterion("gradient", "control"),
        _criterion("snip", "Lee, Ajanthan, Torr (2019)", title="SNIP"),
        _criterion("grasp", "Wang, Zhang, Grosse (2020)", {"samples_per_class": 25}, title="GraSP"),
        _criterion("synflow", "Tanaka, Kunin, Yamins, Ganguli (2020)", {"rounds": 100}, title="SynFlow"),
        _criterion(
            "force",
            "de Jorge, Sanyal, Behl, Torr, Rogez, Dokania (2021)",
            {"rounds": 60},
            revives=True,
            revision=2,
            title="FORCE",
        ),
        _criterion(
            "taylor",
            "Molchanov, Mallya, Tyree, Frosio, Kautz (2019)",
            {**_TRAINED, "samples_per_class": 200},
            revision=3,
        ),
        _criterion("obd", "LeCun, Denker, Solla (1989)", {**_TRAINED, "rounds": 10}, revision=2, title="OBD"),
    ),
)
"""Name -> criterion."""

CriterionName = Annotated[str, NameIn(CRITERIA)]

MiniBatches = Annotated[
    int, Field(gt=0, description="that the sample makes, where a criterion averages over those (taylor)")
]
