"""The studies of a checkout: what each is for, how large it is, and how far it has come."""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from sharpminima.base.errors import ConfigError
from sharpminima.study.costs import Costs
from sharpminima.study.jobs import Layout
from sharpminima.study.paths import STAGES
from sharpminima.study.plan import all_steps
from sharpminima.study.read import STUDIES, read_config


@dataclass(frozen=True)
class Listed:
    """A study in the list; one with faults has no numbers."""

    name: str
    title: str
    jobs: int  # of all its steps, those that are done included
    done: int  # of them: their first file is there
    hours: float  # expected of all steps, on one thread of the CPU that costs were measured on
    state: str


def study_names() -> list[str]:
    """The names of the studies in `STUDIES`, in order; none where there is no such folder."""
    return sorted(path.stem for path in STUDIES.glob("*.yaml"))


def list_studies(tracked: Collection[str]) -> list[Listed]:
    """Every study in `STUDIES`, in the order of their names; nothing is computed or loaded.

    Args:
        tracked: names of those whose results DVC keeps.

    Raises:
        ConfigError: there is no ``config.yaml`` here.
    """
    if not study_names():
        read_config()  # says what is wrong with this folder
    return [_listed(name, name in tracked) for name in study_names()]


def _listed(name: str, is_tracked: bool) -> Listed:
    try:
        layout = Layout(*read_config(name))
    except ConfigError:
        if not Path("config.yaml").is_file():
            raise
        return Listed(name, "", 0, 0, 0.0, f"has faults; `sharpminima plan {name}` names them")
    steps = all_steps(layout, Costs(layout))
    done = sum(Path(step.output).exists() for step in steps)
    hours = sum(step.cost.expected_s for step in steps) / 3600
    return Listed(name, layout.study.title, len(steps), done, hours, _state(layout, done, len(steps), is_tracked))


def _state(layout: Layout, done: int, jobs: int, is_tracked: bool) -> str:
    recorded = any(Path(f"{layout.stage_folder(stage)}.dvc").is_file() for stage in STAGES)
    kept = "tracked" if is_tracked else "tracked as far as it is" if recorded else ""
    if done == jobs:
        return "done, tracked" if is_tracked else "done"
    if done:
        return f"begun ({done} of {jobs})" + (f", {kept}" if kept else "")
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
