"""What a study will take on a cluster: jobs, hours and disk, known from its config and from measurements."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sharpminima.base.errors import ConfigError
from sharpminima.base.names import GRADUAL
from sharpminima.base.yaml_input import read_yaml
from sharpminima.study.costs import Cost, Costs
from sharpminima.study.jobs import (
    ANALYSIS_GROUP,
    DENSE_GROUP,
    FIGURES_GROUP,
    PRUNE_GROUP,
    RETRAIN_GROUP,
    TRANSFER_GROUP,
    Layout,
)
from sharpminima.study.runs import experiment_key

LOCAL = "local"  # the group of what runs where Snakemake itself runs


@dataclass(frozen=True)
class Step:
    """One rule's job."""

    kind: str  # as the plan names it
    group: str  # its name in `sharpminima.study.jobs`, with wildcards
    key: dict[str, Any]  # their values
    cost: Cost
    output: str  # one of its files


@dataclass(frozen=True)
class Plan:
    """The steps of a study that are not done, and the jobs that they make."""

    steps: list[Step]
    done: int  # steps whose output is there
    jobs: Counter[str]  # kind -> jobs to submit

    def hours(self, kind: str | None = None, *, gpu: bool | None = None) -> tuple[float, float]:
        """Expected and at most, of one kind or all, of those that hold a GPU slot, do not, or all."""
        chosen = [s.cost for s in self.steps if kind in (None, s.kind) and gpu in (None, s.cost.gpu)]
        return sum(cost.expected_s for cost in chosen) / 3600, sum(cost.at_most_s for cost in chosen) / 3600


def all_steps(layout: Layout, costs: Costs) -> Iterator[Step]:
    """Every step of the study: what the rules of Snakemake name, in their order."""
    study = layout.study
    trained = {  # experiments share the dense nets of their dataset and model
        (experiment.dataset, experiment.model, seed): experiment_key(experiment)
        for experiment in study.experiments
        for seed in layout.seeds(experiment)
    }
    for dataset in layout.datasets():
        yield Step("prepare", LOCAL, {}, costs.prepare(dataset), layout.prepared(dataset))
    for (_, _, seed), key in trained.items():
        yield Step("init", LOCAL, {}, costs.init(**key), layout.init(**key, seed=seed))
        yield Step("dense", DENSE_GROUP, key, costs.dense(**key), layout.dense(**key, seed=seed))
    for experiment in study.experiments:
        key, highest = experiment_key(experiment), layout.levels(experiment)[-1]
        for seed in layout.seeds(experiment):
            output = layout.cell(**key, level=highest, strategy=GRADUAL, seed=seed)
            yield Step("prune", PRUNE_GROUP, key, costs.prune(**key), output)
        for cell in layout.cells(experiment):
            yield Step("retrain", RETRAIN_GROUP, cell.key, costs.retrain(**cell.key), layout.cell(**cell.key))
    shown = set()  # methods share the transfers of dense nets
    for key, _, table, _ in layout.transfers():
        if table not in shown:
            shown.add(table)
            yield Step("transfer", TRANSFER_GROUP, key, costs.transfer(**key), table)
    for key, job in layout.measurements():
        yield Step("analyse", ANALYSIS_GROUP, key, costs.analyse(**key), job.outputs[0])
    for table in layout.tables():
        yield Step("report", LOCAL, {}, costs.table(), table)
    for name in study.figures:
        yield Step("figures", FIGURES_GROUP, {}, costs.draw(), f"{layout.figure(name)}.pdf")
    last = [layout.metrics(), *(layout.provenance(name) for name in study.figures[:1])]
    for output in [*last, layout.paper()] if study.paper else last:
        yield Step("report", LOCAL, {}, costs.draw(), output)


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


def make_plan(layout: Layout, costs: Costs, components: Mapping[str, int]) -> Plan:
    """The plan of what is left to do; a file that is there counts as done, however old.

    Args:
        components: see `read_components`.
    """
    every = list(all_steps(layout, costs))
    left = [step for step in every if not Path(step.output).exists()]
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
    lines = [
        f"{layout.name}: {plan.jobs.total()} jobs to submit, {plan.done} of {plan.done + len(plan.steps)} steps done"
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
