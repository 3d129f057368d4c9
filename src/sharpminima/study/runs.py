"""Which runs a study has: datasets, seeds, levels, cells, and the nets that are measured."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from sharpminima.base import names
from sharpminima.base.errors import ConfigError
from sharpminima.study.schema import (
    AnalysisSettings,
    Experiment,
    Retraining,
    Study,
    chosen,
    kept_weights,
    measured_runs,
)


@dataclass(frozen=True)
class Cell:
    """One retraining job: all replicas of a strategy at one level of one run."""

    experiment: Experiment
    level_name: str
    strategy: str
    seed: int
    replicas: int

    @property
    def key(self) -> dict[str, Any]:
        """The wildcards of the cell's paths."""
        return {
            **experiment_key(self.experiment),
            "level": self.level_name,
            "strategy": self.strategy,
            "seed": self.seed,
        }


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
        """The experiment of that name; without a method, the first of that dataset and model.

        Raises:
            ConfigError: the study has none.
        """
        for e in self.study.experiments:
            if (e.dataset, e.model) == (dataset, model) and method in (None, e.method.name):
                return e
        there = sorted({f"{e.model} on {e.dataset} by {e.method.name}" for e in self.study.experiments})
        asked = f"{model} on {dataset}" + (f" by {method}" if method else "")
        raise ConfigError(f"the study has no {asked}; it has {', '.join(there)}")

    def seeds(self, experiment: Experiment) -> tuple[int, ...]:
        """The seeds of an experiment's runs."""
        return chosen(experiment.seeds, self.study.seeds)

    def retraining(self, experiment: Experiment, strategy: str, seed: int) -> Retraining | None:
        """How a strategy retrains one run; None where it does not.

        Raises:
            ConfigError: the experiment has no such strategy.
        """
        settings = experiment.strategies.get(strategy)
        if settings is None:
            net = f"{experiment.model} on {experiment.dataset} by {experiment.method.name}"
            raise ConfigError(
                f"{net} is not retrained by {strategy}; add it to the experiment's strategies: "
                f"{', '.join(experiment.strategies) or 'none'}"
            )
        return settings if seed in chosen(settings.seeds, self.seeds(experiment)) else settings.others

    @staticmethod
    def level_names(experiment: Experiment, retraining: Retraining | None = None) -> list[str]:
        """The levels as they stand in paths, ascending."""
        every = [names.level_name(level) for level in experiment.levels]
        return every if retraining is None or retraining.levels == "all" else every[-1:]

    def kept_weights(self, experiment: Experiment, seed: int) -> Literal["all", "highest"]:
        """The levels whose nets keep their weights in one run."""
        return kept_weights(experiment, seed, self.study.runs_of_net(experiment))

    def weights(self, experiment: Experiment, level_name: str, seed: int) -> Literal["all", "first", "none"]:
        """The replicas whose weights a retraining at a level of a run keeps."""
        if self.kept_weights(experiment, seed) == "highest" and level_name != self.level_names(experiment)[-1]:
            return "none"
        lowest = experiment.weights_from
        return "first" if lowest is not None and float(level_name) < 100 * lowest - 1e-9 else "all"

    def cells(self, experiment: Experiment) -> Iterator[Cell]:
        """All retraining jobs of an experiment."""
        for strategy in experiment.strategies:
            for level_name in self.level_names(experiment):
                for seed in self.seeds(experiment):
                    retraining = self.retraining(experiment, strategy, seed)
                    if retraining is not None and level_name in self.level_names(experiment, retraining):
                        yield Cell(experiment, level_name, strategy, seed, retraining.replicas)

    def analyses(self) -> list[tuple[Experiment, AnalysisSettings, dict[str, str]]]:
        """(experiment, settings, wildcards without the seed) of each analysis: always at the highest level."""
        return [
            (e, e.analysis, {**experiment_key(e), "level": self.level_names(e)[-1]})
            for e in self.study.experiments
            if e.analysis is not None
        ]

    def analysis_settings(self, dataset: str, model: str, method: str, analysis: str) -> Any:
        """Settings of one analysis of an experiment, of the class that the analysis names.

        Raises:
            ConfigError: the experiment has no such analysis.
        """
        chosen = getattr(self.experiment(dataset, model, method).analysis, analysis, None)
        if chosen is None:
            raise ConfigError(
                f"the study has no {analysis} of {model} on {dataset} by {method}: add to the experiment "
                f"analysis: {{ {analysis}: {{}} }}"
            )
        return chosen

    def measured(self, experiment: Experiment, analysis: str) -> tuple[int, ...]:
        """The runs of an experiment in which an analysis is made; a figure may ask for the first besides."""
        return measured_runs(experiment, analysis, self.seeds(experiment))

    def focus(self) -> tuple[Experiment, dict[str, str]]:
        """The experiment that Fig. 2-5 show, and the wildcards, without the seed, of its analysis."""
        experiment = self.study.focused()
        assert experiment is not None  # the study model demands it with these figures
        return experiment, {**experiment_key(experiment), "level": self.level_names(experiment)[-1]}
