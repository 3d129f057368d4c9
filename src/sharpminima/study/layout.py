"""Where everything lies; one function a kind of file.

``results/<study>/runs/dataset/model/method/level/strategy/...`` holds what training makes, ``analysis/`` what is
measured at it, beside ``data/``, ``tables/`` and ``figures/``: whole folders, so that DVC tracks ``runs`` and
``analysis`` as one output each. Snakemake's rules, DVC's stages and the command line take their paths from here. The
functions accept either values or wildcards (``"{seed}"``), so that a rule's pattern and a target's path are one and
the same line.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from sharpminima.base.files import COMPRESSED
from sharpminima.base.names import CELL, CHECKPOINT, DENSE, EVENTS, GRADUAL, HISTORY, REWIND, RUN, level_name
from sharpminima.catalogue.analyses import ANALYSES
from sharpminima.catalogue.figures import FIGURES, File, OfFocus, PathEvents, Source, Table, Transfers
from sharpminima.catalogue.registry import source_file
from sharpminima.study.plugged import as_settings, files_of, used_by, used_by_figure, used_by_numbers
from sharpminima.study.schema import (
    AnalysisSettings,
    Config,
    Experiment,
    StrategySettings,
    Study,
    TransferSettings,
    study_name,
)

STAGES = ("runs", "analysis")
"""The stages of DVC that hold tracked files: what training makes, what is measured at it."""
CLAIMS = "paper/claims.yaml"
NUMBERS_CODE = (
    source_file("sharpminima.report.tables"),
    source_file("sharpminima.report.titles"),
    source_file("sharpminima.report.numbers"),
    source_file("sharpminima.report.metrics"),
    source_file("sharpminima.report.compute"),
    source_file("sharpminima.report.claims._ledger"),
    source_file("sharpminima.report.claims._judge"),
    source_file("sharpminima.report.claims._verdict"),
    source_file("sharpminima.report.intervals"),
)
"""The code that the paper's numbers come from."""
RANKING_CODE = (source_file("sharpminima.report.tables"), source_file("sharpminima.report.intervals"))
"""The code that the ranking of methods comes from."""

# Groups: on a cluster, steps of one group that depend on each other are one job, and so are as many others of the
# group as the profile's `group-components` says.
DENSE_GROUP = "dense-{dataset}-{model}"
PRUNE_GROUP = "prune-{dataset}-{model}-{method}"
TRANSFER_GROUP = "transfer-{dataset}-{model}-{seed}"
RETRAIN_GROUP = "retrain-{dataset}-{model}-{method}-{seed}"  # the cells of one run
ANALYSIS_GROUP = "analysis-{dataset}-{model}-{method}-{level}-{seed}"
FIGURES_GROUP = "figures"


@dataclass(frozen=True)
class Job:
    """One job: what it reads and makes, and the settings on which its numbers depend."""

    rule: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    settings: dict[str, Any]

    @property
    def plugin_files(self) -> list[str]:
        """The plug-ins beside the study that it uses."""
        return files_of(self.settings)


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

    @cached_property
    def root(self) -> str:
        """The study's folder."""
        return f"{self.config.results}/{self.name}"

    # Paths ------------------------------------------------------------------------------------------------------

    @property
    def runs_folder(self) -> str:
        """Folder of all that training makes: W0, checkpoints with their masks, histories."""
        return f"{self.root}/runs"

    @property
    def analysis_folder(self) -> str:
        """Folder of the tables that are measured at the checkpoints."""
        return f"{self.root}/analysis"

    def prepared(self, dataset: str = "{dataset}") -> str:
        """The prepared dataset."""
        return f"{self.root}/data/{dataset}.safetensors"

    def init(self, dataset: str = "{dataset}", model: str = "{model}", seed: int | str = "{seed}", **_: Any) -> str:
        """W0 of a run."""
        return f"{self.runs_folder}/{dataset}/{model}/init/seed-{seed}.safetensors"

    def dense(
        self,
        file: str = CHECKPOINT,
        dataset: str = "{dataset}",
        model: str = "{model}",
        seed: int | str = "{seed}",
        **_: Any,
    ) -> str:
        """A file of a dense training."""
        return f"{self.runs_folder}/{dataset}/{model}/dense/seed-{seed}/{file}"

    def method(self, dataset: str = "{dataset}", model: str = "{model}", method: str = "{method}", **_: Any) -> str:
        """Folder of a method."""
        return f"{self.runs_folder}/{dataset}/{model}/{method}"

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

    def analysis(
        self,
        name: str = "{analysis}",
        dataset: str = "{dataset}",
        model: str = "{model}",
        method: str = "{method}",
        level: str = "{level}",
        seed: int | str = "{seed}",
    ) -> str:
        """The table of one analysis of G and 1-S at one level of one run."""
        table = f"{self.analysis_folder}/{name}/{dataset}/{model}/{method}/level-{level}/seed-{seed}.csv"
        return f"{table}{COMPRESSED}" if name in ANALYSES and ANALYSES[name].large else table

    def transfer(self, to: str = "{to}", strategy: str = "{strategy}", **key: Any) -> str:
        """What the nets of one cell, or the dense net of one run, are worth on another dataset; lies beside them."""
        file = f"transfer-{to}.csv"
        return self.dense(file, **key) if strategy == DENSE else self.cell(file, strategy=strategy, **key)

    def table(self, name: str) -> str:
        """A table of the study."""
        return f"{self.root}/tables/{name}.csv"

    def tables(self) -> list[str]:
        """The tables of all trained nets that the study ends with.

        One that compares methods has two more, which any other has by request: what jobs took is not tracked, and in a
        clone of a tracked study all should be there without it.
        """
        compared = ("measures", "ranking") if "methods" in self.study.figures else ()
        return [self.table(name) for name in ("results", *compared)]

    def paper(self) -> str:
        """The paper of the study."""
        return f"paper/build/{self.name}.pdf"

    def numbers(self) -> str:
        """All numbers of the paper's text and tables."""
        return f"{self.root}/tables/numbers.json"

    def metrics(self) -> str:
        """The main numbers of the study, one a key: what ``dvc metrics`` shows."""
        return f"{self.root}/tables/metrics.json"

    def figure(self, name: str) -> str:
        """A figure of the study, without its extension."""
        return f"{self.root}/figures/{name}"

    def figure_tables(self, name: str) -> dict[str, str | list[str]]:
        """The tables that a figure's notebook reads, by the names of its parameters."""
        return {parameter: self._read(source) for parameter, source in FIGURES[name].reads.items()}

    def _read(self, source: Source) -> str | list[str]:
        """The files of one parameter of a notebook."""
        match source:
            case Table(name):
                return self.table(name)
            case File(path):
                return path
            case Transfers():
                return self.transfer_tables()
            case PathEvents():
                experiment = self.study.path_experiment()
                assert experiment is not None  # the study model demands it with such a figure
                key = experiment_key(experiment)
                return [self.run(EVENTS, **key, seed=seed) for seed in self.seeds(experiment)]
            case OfFocus(analysis, runs):
                found = self._of_runs(analysis, *self.focus(), runs)
                return found[0] if runs == "first" else found

    def figure_code(self, name: str) -> tuple[str, ...]:
        """The code that a figure is drawn by."""
        plugins = used_by_figure(self.study, name)
        return (*FIGURES[name].code, *(plugin.name for plugin in plugins if plugin.is_file))

    def tables_of(self, name: str) -> list[str]:
        """The tables of `figure_tables`, as one list."""
        tables = self.figure_tables(name).values()
        return [path for value in tables for path in (value if isinstance(value, list) else [value])]

    def provenance(self, name: str) -> str:
        """The record of all that a figure comes from, beside it."""
        return f"{self.figure(name)}.json"

    def analysis_tables(self, name: str) -> list[str]:
        """The tables of one analysis, of every run that has it."""
        match ANALYSES[name].when:
            case "shown":
                return self.drawn_tables(name)
            case "mapped":
                return self.map_tables(name)
        return [self.analysis(name, **key, seed=seed) for e, _, key in self.analyses() for seed in self.seeds(e)]

    def datasets(self) -> list[str]:
        """The datasets that the study reads."""
        going = [e.transfer.to for e in self.study.experiments if e.transfer]
        return sorted({*(experiment.dataset for experiment in self.study.experiments), *going})

    def transfers(self) -> Iterator[tuple[dict[str, Any], str, str, TransferSettings]]:
        """(wildcards, checkpoint, table, settings) of each transfer, at the highest level."""
        for experiment in self.study.experiments:
            if experiment.transfer is None:
                continue
            settings = experiment.transfer.resolved(experiment.dense)
            key = {**experiment_key(experiment), "level": self.levels(experiment)[-1]}
            for source in settings.sources:
                if source == DENSE and experiment.weights != "all":
                    continue
                for seed in self.seeds(experiment, experiment.strategies.get(source)):
                    cell = {**key, "strategy": source, "seed": seed}
                    nets = self.dense(**cell) if source == DENSE else self.cell(**cell)
                    yield {**cell, "to": settings.to}, nets, self.transfer(settings.to, **cell), settings

    def transfer_tables(self) -> list[str]:
        """The tables of all transfers; methods share those of the dense nets of their dataset and model."""
        return list(dict.fromkeys(table for _, _, table, _ in self.transfers()))

    def drawn_tables(self, name: str) -> list[str]:
        """The tables of one analysis that the figures show."""
        sources = [source for figure in self.study.figures for source in FIGURES[figure].reads.values()]
        found = [self._read(source) for source in sources if isinstance(source, OfFocus) and source.analysis == name]
        return sorted({path for tables in found for path in (tables if isinstance(tables, list) else [tables])})

    def map_tables(self, name: str) -> list[str]:
        """The tables of an analysis that figures show or an experiment's ``maps`` ask for; first those shown."""
        asked_for = (
            table
            for experiment, _, key in self.analyses()
            if experiment.maps is not None
            for table in self._of_runs(name, experiment, key, experiment.maps)
        )
        return list(dict.fromkeys([*self.drawn_tables(name), *asked_for]))

    def _of_runs(self, kind: str, experiment: Experiment, key: dict[str, str], runs: int | str) -> list[str]:
        return [self.analysis(kind, **key, seed=seed) for seed in self._first(runs, self.seeds(experiment))]

    def settings(self, stage: str) -> str:
        """The settings of a stage, on which its DVC stage depends."""
        return f"{self.root}/settings/{stage}.json"

    def stage_folder(self, stage: str) -> str:
        """The folder that a stage of DVC tracks (see `STAGES`)."""
        return self.runs_folder if stage == "runs" else self.analysis_folder

    def record(self, stage: str) -> str:
        """What made each file of a stage: tracked with the files."""
        return f"{self.stage_folder(stage)}/record.json"

    def stage_jobs(self, stage: str) -> list[Job]:
        """The jobs whose files a stage of DVC tracks (see `STAGES`): prepared data are not among them."""
        jobs = self.training_jobs() if stage == "runs" else self.analysis_jobs()
        return [job for job in jobs if job.rule != "prepare"]

    def jobs(self) -> list[Job]:
        """Every job of the study up to its tables, each after those whose files it reads."""
        return [*self.training_jobs(), *self.analysis_jobs()]

    def training_jobs(self) -> list[Job]:
        """The jobs that make data, W0, checkpoints and masks."""
        jobs: dict[tuple[str, ...], Job] = {}  # by outputs: experiments share data, W0 and dense nets

        def add(rule: str, inputs: list[str], outputs: list[str], **settings: Any) -> None:
            jobs.setdefault(tuple(outputs), Job(rule, tuple(inputs), tuple(outputs), settings))

        for experiment in self.study.experiments:
            key = experiment_key(experiment)
            data = self.prepared(experiment.dataset)
            first = self.experiment(experiment.dataset, experiment.model)
            dense = first.dense.model_dump(mode="json")
            add("prepare", [], [data], **self._preparation(experiment.dataset))
            for seed in self.seeds(experiment):
                init = self.init(**key, seed=seed)
                batchnorm = experiment.batchnorm
                net = {} if batchnorm is None else {"batchnorm": batchnorm.model_dump(mode="json")}
                add("init", [data], [init], **net, **as_settings(used_by("init", **key)))
                add(
                    "dense",
                    [data, init],
                    [self.dense(file, **key, seed=seed) for file in (CHECKPOINT, HISTORY)],
                    **({} if first.weights == "all" else {"weights": "none"}),
                    **dense,
                    **as_settings(used_by("dense", **key)),
                )
                gradual = {
                    level: self.cell(**key, level=level, strategy=GRADUAL, seed=seed)
                    for level in self.levels(experiment)
                }
                record = [self.run(file, **key, seed=seed) for file in (HISTORY, EVENTS)]
                method = experiment.method.model_dump(mode="json", by_alias=True)
                kept = {} if experiment.weights == "all" else {"weights": experiment.weights}
                add(
                    "prune",
                    [data, init],
                    [*gradual.values(), *record],
                    **method,
                    levels=list(experiment.levels),
                    **kept,
                    **as_settings(used_by("prune", **key)),
                )
            for cell in self.cells(experiment):
                inputs = [
                    data,
                    self.init(**key, seed=cell.seed),
                    self.cell(**key, level=cell.level, strategy=GRADUAL, seed=cell.seed),
                ]
                outputs = [self.cell(file, **cell.key) for file in (CHECKPOINT, HISTORY)]
                replicas = experiment.strategies[cell.strategy].replicas
                # The default is not spelled out: it came later, and what was trained before has it.
                weights = self.weights(experiment, cell.level)
                kept = {} if weights == "all" else {"weights": weights}
                plugins = as_settings(used_by("retrain", **key))
                add("retrain", inputs, outputs, strategy=cell.strategy, replicas=replicas, **kept, **dense, **plugins)
        for dataset in self.datasets():
            add("prepare", [], [self.prepared(dataset)], **self._preparation(dataset))
        for key, nets, table, settings in self.transfers():
            add(
                "transfer",
                [self.prepared(key["to"]), nets],
                [table],
                **settings.model_dump(mode="json", exclude={"sources"}),
                **as_settings(used_by("transfer", **key)),
            )
        return list(jobs.values())

    def _preparation(self, dataset: str) -> dict[str, Any]:
        """The settings of preparing a dataset."""
        plugins = as_settings(used_by("prepare", dataset=dataset))
        return {"dataset": dataset, **self.study.data.model_dump(mode="json"), **plugins}

    def measurements(self) -> Iterator[tuple[dict[str, Any], Job]]:
        """Each job that measures a G and a 1-S, with the wildcards of its table."""
        wanted = {name: set(self.analysis_tables(name)) for name in ANALYSES}
        for experiment, analysis, experiment_level in self.analyses():
            for seed in self.seeds(experiment):
                key = {**experiment_level, "seed": seed}
                ends = [self.cell(**key, strategy=strategy) for strategy in (GRADUAL, REWIND)]
                for name, settings in analysis:
                    table = self.analysis(name, **key)
                    if settings is not None and table in wanted[name]:
                        inputs = (self.prepared(experiment.dataset), *ends)
                        wildcards = {**key, "analysis": name}
                        plugins = as_settings(used_by("analyse", **wildcards))
                        yield wildcards, Job(name, inputs, (table,), settings.model_dump(mode="json") | plugins)

    def analysis_jobs(self) -> list[Job]:
        """The jobs that make the tables."""
        jobs = [job for _, job in self.measurements()]
        measured = tuple(path for job in jobs if ANALYSES[job.rule].summarised for path in job.outputs)
        results = self.table("results")
        jobs.append(Job("table", tuple(self.checkpoints()), (results, self.table("density")), {}))
        read = (results, *measured, *self.transfer_tables(), CLAIMS)
        jobs.append(Job("numbers", read, (self.numbers(), self.metrics()), self.facts()))
        return jobs

    def figure_job(self, name: str) -> Job:
        """The job that draws a figure."""
        outputs = [f"{self.figure(name)}.{extension}" for extension in ("pdf", "svg")]
        return Job(
            "figure",
            (FIGURES[name].notebook, *self.figure_code(name), *self.tables_of(name)),
            tuple(outputs),
            as_settings(used_by_figure(self.study, name)),
        )

    def ancestry(self, *figures: str) -> list[Job]:
        """The jobs whose files figures come from, and those that draw them, each after those whose files it reads."""
        drawing = [self.figure_job(name) for name in figures]
        wanted, found = {path for job in drawing for path in job.inputs}, []
        for job in reversed(self.jobs()):
            if wanted.intersection(job.outputs):
                wanted.update(job.inputs)
                found.append(job)
        return [*reversed(found), *drawing]

    def origins(self, *figures: str) -> list[str]:
        """The files that figures come from, without the prepared data: checkpoints hold the hash of theirs."""
        jobs = self.ancestry(*figures)
        data = {path for job in jobs if job.rule == "prepare" for path in job.outputs}
        plugins = {path for job in jobs for path in job.plugin_files}
        return sorted({path for job in jobs for path in job.inputs} - data | plugins)

    def facts(self) -> dict[str, Any]:
        """The study as the paper states it."""
        study = self.study.model_dump(mode="json", by_alias=True, exclude={"plugins"})
        return {"name": self.name, **study, **as_settings(used_by_numbers(self.study))}

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
                for seed in self.seeds(experiment, settings):
                    yield Cell(experiment, level, strategy, seed)

    def seeds(self, experiment: Experiment, settings: StrategySettings | None = None) -> tuple[int, ...]:
        """The seeds of an experiment's runs, or of those that a strategy retrains."""
        found = self._first(experiment.seeds, self.study.seeds)
        return found if settings is None else self._first(settings.seeds, found)

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

    def checkpoints(self) -> list[str]:
        """Every checkpoint that the results table reads, in the order of its rows."""
        paths = []
        for experiment in self.study.experiments:
            key = experiment_key(experiment)
            paths += [self.dense(**key, seed=seed) for seed in self.seeds(experiment)]
            paths += [
                self.cell(**key, level=level, strategy=GRADUAL, seed=seed)
                for level in self.levels(experiment)
                for seed in self.seeds(experiment)
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

    def focus(self) -> tuple[Experiment, dict[str, str]]:
        """The experiment that Fig. 2-5 show, and the wildcards, without the seed, of its analysis."""
        assert self.study.focus is not None  # the study model demands it with these figures
        net = (self.study.focus.dataset, self.study.focus.model)
        experiment = next(e for e in self.study.experiments if (e.dataset, e.model) == net and e.analysis)
        return experiment, {**experiment_key(experiment), "level": self.levels(experiment)[-1]}
