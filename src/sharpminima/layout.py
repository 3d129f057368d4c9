"""Where everything lies: ``results/<study>/dataset/model/method/level/strategy/...``; one function a kind of file.

Snakemake's rules, DVC's stages and the command line take their paths from here. The functions accept either
values or wildcards (``"{seed}"``), so that a rule's pattern and a target's path are one and the same line.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sharpminima.config import AnalysisSettings, Config, Experiment, StrategySettings, Study, study_name

CHECKPOINT = "checkpoint.safetensors"
GRADUAL = "gradual"  # the strategy name of a method's own states
CELL = "level-{level}/{strategy}/seed-{seed}"  # under a method's folder
RUN = "run/seed-{seed}"


def level_name(level: float) -> str:
    """A level as it stands in paths: 0.9957 is ``99.57`` (percent)."""
    return f"{100 * level:.6g}"


@dataclass(frozen=True)
class Cell:
    """One retraining job: all replicas of a strategy at one level of one run."""

    experiment: Experiment
    level: str
    strategy: str
    seed: int

    @property
    def key(self) -> dict[str, Any]:
        """The wildcards of the cell's paths."""
        return {**experiment_key(self.experiment), "level": self.level, "strategy": self.strategy, "seed": self.seed}


def experiment_key(experiment: Experiment) -> dict[str, str]:
    """The wildcards that name an experiment."""
    return {"dataset": experiment.dataset, "model": experiment.model, "method": experiment.method.name}


@dataclass(frozen=True)
class Layout:
    """The paths and the jobs of one study."""

    config: Config
    study: Study

    @property
    def name(self) -> str:
        """The study's name."""
        return study_name(self.config)

    @property
    def root(self) -> str:
        """The study's folder."""
        return f"{self.config.results}/{self.name}"

    # Paths ------------------------------------------------------------------------------------------------------

    def prepared(self, dataset: str = "{dataset}") -> str:
        """The prepared dataset."""
        return f"{self.root}/data/{dataset}.safetensors"

    def init(self, dataset: str = "{dataset}", model: str = "{model}", seed: int | str = "{seed}", **_: Any) -> str:
        """W0 of a run."""
        return f"{self.root}/{dataset}/{model}/init/seed-{seed}.safetensors"

    def dense(
        self,
        file: str = CHECKPOINT,
        dataset: str = "{dataset}",
        model: str = "{model}",
        seed: int | str = "{seed}",
        **_: Any,
    ) -> str:
        """A file of a dense training."""
        return f"{self.root}/{dataset}/{model}/dense/seed-{seed}/{file}"

    def method(self, dataset: str = "{dataset}", model: str = "{model}", method: str = "{method}", **_: Any) -> str:
        """Folder of a method."""
        return f"{self.root}/{dataset}/{model}/{method}"

    def run(self, file: str, seed: int | str = "{seed}", **key: Any) -> str:
        """A file that a method's run writes beside its states."""
        return f"{self.method(**key)}/{RUN.format(seed=seed)}/{file}"

    def cell(
        self,
        file: str = CHECKPOINT,
        level: str = "{level}",
        strategy: str = "{strategy}",
        seed: int | str = "{seed}",
        **key: Any,
    ) -> str:
        """A file of one cell; the strategy ``gradual`` is the method's own state."""
        return f"{self.method(**key)}/{CELL.format(level=level, strategy=strategy, seed=seed)}/{file}"

    def analysis(self, name: str = "{analysis}", **key: Any) -> str:
        """The table of one analysis of G and 1-S at one level of one run."""
        return self.cell(file=f"{name}.csv", strategy="analysis", **key)

    def table(self, name: str) -> str:
        """A table of the study."""
        return f"{self.root}/tables/{name}.csv"

    def figure(self, name: str) -> str:
        """A figure of the study, without its extension."""
        return f"{self.root}/figures/{name}"

    def figure_tables(self, name: str) -> dict[str, str | list[str]]:
        """The tables that a figure's notebook reads, by the names of its parameters."""
        if name == "fig1":
            return {"results": self.table("results")}
        tables: dict[str, str | list[str]] = {
            "surface": self.analysis("surface", **self.focus(), seed=self.study.seeds[0])
        }
        if name == "fig2":
            tables["hessian"] = [self.analysis("hessian", **self.focus(), seed=seed) for seed in self.study.seeds]
        return tables

    # Jobs -------------------------------------------------------------------------------------------------------

    def experiment(self, dataset: str, model: str, method: str | None = None) -> Experiment:
        """The experiment of that name; without a method, the first of that dataset and model."""
        return next(
            e
            for e in self.study.experiments
            if (e.dataset, e.model) == (dataset, model) and method in (None, e.method.name)
        )

    def cells(self, experiment: Experiment) -> Iterator[Cell]:
        """All retraining jobs of an experiment."""
        for strategy, settings in experiment.strategies.items():
            for level in self.levels(experiment, settings):
                for seed in self.study.seeds if settings.seeds == "all" else self.study.seeds[:1]:
                    yield Cell(experiment, level, strategy, seed)

    @staticmethod
    def levels(experiment: Experiment, settings: StrategySettings | None = None) -> list[str]:
        """Level names, ascending."""
        names = [level_name(level) for level in experiment.levels]
        return names if settings is None or settings.levels == "all" else names[-1:]

    def checkpoints(self) -> list[str]:
        """Every checkpoint that the results table reads, in the order of its rows."""
        paths = []
        for experiment in self.study.experiments:
            key = experiment_key(experiment)
            paths += [self.dense(**key, seed=seed) for seed in self.study.seeds]
            paths += [
                self.cell(**key, level=level, strategy=GRADUAL, seed=seed)
                for level in self.levels(experiment)
                for seed in self.study.seeds
            ]
            paths += [self.cell(**cell.key) for cell in self.cells(experiment)]
        return list(dict.fromkeys(paths))  # methods share the dense nets of their dataset and model

    def analyses(self) -> list[tuple[Experiment, AnalysisSettings, dict[str, str]]]:
        """(experiment, settings, wildcards without the seed) of each analysis: always at the highest level."""
        return [
            (e, e.analysis, {**experiment_key(e), "level": self.levels(e)[-1]})
            for e in self.study.experiments
            if e.analysis is not None
        ]

    def focus(self) -> dict[str, str]:
        """Wildcards, without the seed, of the analysis that Fig. 2-4 show."""
        assert self.study.focus is not None  # the study model demands it with these figures
        experiment = self.experiment(self.study.focus.dataset, self.study.focus.model)
        return {**experiment_key(experiment), "level": self.levels(experiment)[-1]}
