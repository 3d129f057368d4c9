"""Which runs a study has: datasets, seeds, levels, cells, and the nets that are measured."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from sharpminima.base.names import level_name
from sharpminima.study.schema import AnalysisSettings, Experiment, StrategySettings, Study


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
class Runs:
    """The runs of a study."""

    study: Study

    def datasets(self) -> list[str]:
        """The datasets that the study reads."""
        going = [e.transfer.to for e in self.study.experiments if e.transfer]
        return sorted({*(experiment.dataset for experiment in self.study.experiments), *going})

    def experiment(self, dataset: str, model: str, method: str | None = None) -> Experiment:
        """The experiment of that name; without a method, the first of that dataset and model."""
        return next(
            e
            for e in self.study.experiments
            if (e.dataset, e.model) == (dataset, model) and method in (None, e.method.name)
        )

    def seeds(self, experiment: Experiment, settings: StrategySettings | None = None) -> tuple[int, ...]:
        """The seeds of an experiment's runs, or of those that a strategy retrains."""
        seeds = self._first(experiment.seeds, self.study.seeds)
        return seeds if settings is None else self._first(settings.seeds, seeds)

    @staticmethod
    def _first(runs: int | str, seeds: tuple[int, ...]) -> tuple[int, ...]:
        return {"all": seeds, "first": seeds[:1]}[runs] if isinstance(runs, str) else seeds[:runs]

    @staticmethod
    def levels(experiment: Experiment, settings: StrategySettings | None = None) -> list[str]:
        """Level names, ascending."""
        names = [level_name(level) for level in experiment.levels]
        return names if settings is None or settings.levels == "all" else names[-1:]

    def weights(self, experiment: Experiment, level: str) -> Literal["all", "first", "none"]:
        """The replicas whose weights a retraining at a level keeps."""
        if experiment.weights == "highest" and level != self.levels(experiment)[-1]:
            return "none"
        lowest = experiment.weights_from
        return "first" if lowest is not None and float(level) < 100 * lowest - 1e-9 else "all"

    def cells(self, experiment: Experiment) -> Iterator[Cell]:
        """All retraining jobs of an experiment."""
        for strategy, settings in experiment.strategies.items():
            for level in self.levels(experiment, settings):
                for seed in self.seeds(experiment, settings):
                    yield Cell(experiment, level, strategy, seed)

    def analyses(self) -> list[tuple[Experiment, AnalysisSettings, dict[str, str]]]:
        """(experiment, settings, wildcards without the seed) of each analysis: always at the highest level."""
        return [
            (e, e.analysis, {**experiment_key(e), "level": self.levels(e)[-1]})
            for e in self.study.experiments
            if e.analysis is not None
        ]

    def focus(self) -> tuple[Experiment, dict[str, str]]:
        """The experiment that Fig. 2-5 show, and the wildcards, without the seed, of its analysis."""
        assert self.study.focus is not None  # the study model demands it with these figures
        net = (self.study.focus.dataset, self.study.focus.model)
        experiment = next(e for e in self.study.experiments if (e.dataset, e.model) == net and e.analysis)
        return experiment, {**experiment_key(experiment), "level": self.levels(experiment)[-1]}
