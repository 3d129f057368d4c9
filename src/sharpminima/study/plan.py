"""What a study will take on a cluster: jobs, hours and disk, known from its config and from measurements."""

from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sharpminima.base.errors import ConfigError
from sharpminima.base.yaml_input import read_yaml
from sharpminima.study.costs import Cost, Costs
from sharpminima.study.jobs import Layout

LOCAL = "local"  # the group of what runs where Snakemake itself runs
_REPORT_TABLE, _REPORT_DRAWN = ("report", Costs.table), ("report", Costs.draw)
_ANALYSE = ("analyse", Costs.analyse)
_STEPS: Mapping[str, tuple[str, Callable[..., Cost]]] = {
    "prepare": ("prepare", Costs.prepare),
    "init": ("init", Costs.init),
    "dense": ("dense", Costs.dense),
    "prune": ("prune", Costs.prune),
    "retrain": ("retrain", Costs.retrain),
    "transfer": ("transfer", Costs.transfer),
    "table": _REPORT_TABLE,
    "measures": _REPORT_TABLE,
    "ranking": _REPORT_TABLE,
    "published": _REPORT_TABLE,
    "numbers": _REPORT_DRAWN,
    "provenance": _REPORT_DRAWN,
    "paper": _REPORT_DRAWN,
    "explore": _REPORT_DRAWN,
    "figure": ("figures", Costs.draw),
}
"""Rule of a job -> its kind, as the plan names it, and its cost; the other rules are analyses."""


@dataclass(frozen=True)
class PlannedStep:
    """One rule's job."""

    kind: str  # as the plan names it
    group: str  # its name in `sharpminima.study.jobs`, with wildcards
    key: dict[str, Any]  # their values
    cost: Cost
    output: str  # the first of its files

    def is_left(self, due: Collection[str] | None) -> bool:
        """Whether it is to be made.

        Args:
            due: the files that Snakemake would make (`sharpminima.tracking.due`); None: those that are not there.
        """
        return not self.is_made if due is None else self.output in due

    @property
    def is_made(self) -> bool:
        """Whether its file is there, be it of other settings."""
        return Path(self.output).exists()


@dataclass(frozen=True)
class Plan:
    """The steps of a study that are not done, and the jobs that they make."""

    steps: list[PlannedStep]
    done: int  # steps that need not be made
    jobs: Counter[str]  # kind -> jobs to submit

    @property
    def stale(self) -> int:
        """How many of the steps are there, and to be made again."""
        return sum(step.is_made for step in self.steps)

    def hours(self, kind: str | None = None, *, gpu: bool | None = None) -> tuple[float, float]:
        """Expected and at most, of one kind or all, of those that hold a GPU slot, do not, or all."""
        chosen = [s.cost for s in self.steps if kind in (None, s.kind) and gpu in (None, s.cost.gpu)]
        return sum(cost.expected_s for cost in chosen) / 3600, sum(cost.at_most_s for cost in chosen) / 3600


def all_steps(layout: Layout, costs: Costs) -> list[PlannedStep]:
    """Every step of the study, in the order of its jobs."""
    steps = []
    for job in layout.all_jobs():
        kind, cost = _STEPS.get(job.rule, _ANALYSE)
        steps.append(PlannedStep(kind, job.group or LOCAL, job.key, cost(costs, **job.key), job.outputs[0]))
    return steps


def read_components(profile: Path) -> dict[str, int]:
    """How many steps of a group a job may hold, by the name of the group: a profile's ``group-components``.

    Raises:
        ConfigError: there is no such profile, or its entry is not a mapping of names to numbers.
    """
    path = profile / "config.yaml"
    if not path.is_file():
        raise ConfigError(f"{path}: is not here; give the folder of a profile")
    profile_settings = read_yaml(path) or {}
    if not isinstance(profile_settings, dict):
        raise ConfigError(f"{path}: a mapping is needed, {profile_settings!r} given")
    components = profile_settings.get("group-components", {})
    fits = isinstance(components, dict) and all(isinstance(n, int) and n >= 1 for n in components.values())
    if not fits:
        raise ConfigError(
            f"{path}: group-components: {components!r} given; give a number from 1 on for each name of a group"
        )
    return components


def make_plan(layout: Layout, costs: Costs, components: Mapping[str, int], due: Collection[str] | None = None) -> Plan:
    """The plan of what is left to do.

    Args:
        components: see `read_components`.
        due: see `PlannedStep.is_left`.
    """
    every = all_steps(layout, costs)
    left = [step for step in every if step.is_left(due)]
    sizes = Counter((step.kind, step.group, step.group.format(**step.key)) for step in left if step.group != LOCAL)
    jobs: Counter[str] = Counter()
    for (kind, group, _), size in sizes.items():
        jobs[kind] += -(-size // components.get(group, 1))
    return Plan(left, len(every) - len(left), jobs)


def describe(plan: Plan, layout: Layout, costs: Costs) -> str:
    """The plan for a person, with its assumptions."""
    kinds = Counter(step.kind for step in plan.steps)
    rows = [("", "jobs", "steps", "hours", "at most")]
    for kind, count in kinds.items():
        jobs = str(plan.jobs[kind]) if kind in plan.jobs else LOCAL
        rows.append((kind, jobs, str(count), *_hours(plan.hours(kind))))
    stale = f", {plan.stale} stale: of other settings, inputs or code, or interrupted" if plan.stale else ""
    lines = [
        f"{layout.name}: {plan.jobs.total()} jobs to submit, {plan.done} of {plan.done + len(plan.steps)} steps done"
        f"{stale}"
    ]
    lines += [f"  {row[0]:<10}" + "".join(f"{value:>10}" for value in row[1:]) for row in rows]
    for title, gpu in (("with a GPU slot", True), ("without", False)):
        expected, at_most = _hours(plan.hours(gpu=gpu))
        lines.append(f"  hours {title}: {expected}, at most {at_most}")
    kept, resumed = costs.disk_mb()
    lines.append(f"  disk: {_size(kept)} when finished; resume files while it runs, at most {_size(resumed)}")
    lines += ["assumed:", *(f"  - {line}" for line in costs.assumptions())]
    return "\n".join(lines)


def _hours(values: tuple[float, float]) -> tuple[str, str]:
    expected, at_most = (f"{value:,.2f}" if value < 10 else f"{value:,.0f}" for value in values)
    return expected, at_most


def _size(megabytes: float) -> str:
    return f"{megabytes / 1000:.1f} GB" if megabytes >= 1000 else f"{megabytes:.0f} MB"
