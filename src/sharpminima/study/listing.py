"""The studies of a checkout: what each is for, how large it is, and how far it has come."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from sharpminima.base.errors import ConfigError
from sharpminima.study.costs import Costs
from sharpminima.study.jobs import Layout
from sharpminima.study.paths import STAGES
from sharpminima.study.plan import PlannedStep, all_steps
from sharpminima.study.read import STUDIES, read_config


@dataclass(frozen=True)
class Listed:
    """A study in the list; one with faults has no numbers."""

    name: str
    title: str
    jobs: int  # of all its steps, those that are done included
    done: int  # of them: they need not be made
    hours: float  # expected of all steps, on one thread of the CPU that costs were measured on
    state: str


def study_names() -> list[str]:
    """The names of the studies in `STUDIES`, in order; none where there is no such folder."""
    return sorted(path.stem for path in STUDIES.glob("*.yaml"))


def _not_there(_: Layout) -> None:
    """What is to be made where nobody is asked: what is not there."""


Due = Callable[[Layout], Collection[str] | None]
"""The files of a study that are to be made (`sharpminima.tracking.due`); None: those that are not there."""


def list_studies(tracked: Collection[str], named: Sequence[str] = (), *, due: Due = _not_there) -> list[Listed]:
    """Every study in `STUDIES`, in the order of their names; nothing is computed or loaded.

    Args:
        tracked: names of those whose results DVC keeps.
        named: these studies instead, by name or path.
        due: says what of a study is to be made.

    Raises:
        ConfigError: there is no ``config.yaml`` here, or one of those named is no study or has faults.
    """
    if named:
        return [_described(Layout(*read_config(name)), tracked, due) for name in named]
    if not study_names():
        read_config()  # says what is wrong with this folder
    return [_listed(name, tracked, due) for name in study_names()]


def _listed(name: str, tracked: Collection[str], due: Due) -> Listed:
    try:
        layout = Layout(*read_config(name))
    except ConfigError:
        if not Path("config.yaml").is_file():
            raise
        return Listed(name, "", 0, 0, 0.0, f"has faults; `sharpminima plan {name}` names them")
    return _described(layout, tracked, due)


def _described(layout: Layout, tracked: Collection[str], due: Due) -> Listed:
    steps = all_steps(layout, Costs(layout))
    pending = due(layout)
    left = [step for step in steps if step.is_left(pending)]
    hours = sum(step.cost.expected_s for step in steps) / 3600
    state = _state(layout, left, len(steps), is_tracked=layout.name in tracked)
    return Listed(layout.name, layout.study.title, len(steps), len(steps) - len(left), hours, state)


def _state(layout: Layout, left: list[PlannedStep], jobs: int, *, is_tracked: bool) -> str:
    recorded = any(Path(f"{layout.stage_folder(stage)}.dvc").is_file() for stage in STAGES)
    kept = "tracked" if is_tracked else "tracked as far as it is" if recorded else ""
    if not left:
        return "done, tracked" if is_tracked else "done"
    stale = sum(step.is_made for step in left)
    if len(left) < jobs or stale:
        begun = f"begun ({jobs - len(left)} of {jobs}" + (f", {stale} stale)" if stale else ")")
        return begun + (f", {kept}" if kept else "")
    return f"{kept}: dvc pull" if kept else "not begun"


def describe_studies(listed: list[Listed]) -> str:
    """The list for a person: two lines a study."""
    if not listed:
        return f"there are no studies in {STUDIES}; `sharpminima plan PATH` tells of one that lies elsewhere"
    width = max(len(study.name) for study in listed)
    lines = []
    for study in listed:
        size = f"{study.jobs:>5} jobs {_hours(study.hours):>7} h   " if study.jobs else ""
        lines += [
            f"{study.name:<{width}} {size}{study.state}",
            *([f"{'':<{width}}   {study.title}"] if study.title else []),
        ]
    return "\n".join(
        [*lines, "Hours are of one thread of a CPU; `sharpminima plan STUDY` has them by kind, and the disk."]
    )


def _hours(hours: float) -> str:
    return f"{hours:,.1f}" if hours < 10 else f"{hours:,.0f}"
