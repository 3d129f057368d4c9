"""The jobs of a study, each with what it reads, what it makes, and the settings on which that depends.

They are enumerated here, and nowhere else: Snakemake's rules, DVC's stages, the plan and provenance take theirs from
here.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from sharpminima.base.names import CHECKPOINT, DENSE, EVENTS, GRADUAL, HISTORY, REWIND
from sharpminima.catalogue.analyses import ANALYSES, of_dense
from sharpminima.catalogue.figures import (
    FIGURES,
    EntropyWays,
    File,
    Numbers,
    OfFocus,
    PathEvents,
    Source,
    Table,
    Transfers,
)
from sharpminima.catalogue.registry import packaged, source_file
from sharpminima.study.paths import PAPER_SOURCES, PUBLISHED_DATASET, PUBLISHED_ERRORS, Paths
from sharpminima.study.plugged import as_settings, files_of, used_by, used_by_figure, used_by_numbers
from sharpminima.study.runs import Runs, experiment_key
from sharpminima.study.schema import MADE_OF, Experiment, Precision, RunChoice, TransferSettings, chosen

NUMBERS_CODE = (
    source_file("sharpminima.report.tables"),
    source_file("sharpminima.report.titles"),
    source_file("sharpminima.report.numbers"),
    source_file("sharpminima.report.outcome"),
    source_file("sharpminima.report.rounding"),
    source_file("sharpminima.report.summaries"),
    source_file("sharpminima.report.ways"),
    source_file("sharpminima.report.metrics"),
    source_file("sharpminima.report.compute"),
    source_file("sharpminima.report.claims._ledger"),
    source_file("sharpminima.report.claims._judge"),
    source_file("sharpminima.report.claims._results"),
    source_file("sharpminima.report.claims._settings"),
    source_file("sharpminima.report.claims._verdict"),
    source_file("sharpminima.report.intervals"),
)
"""The code that the paper's numbers come from."""
RANKING_CODE = (source_file("sharpminima.report.tables"), source_file("sharpminima.report.intervals"))
"""The code that the ranking of methods comes from."""
PUBLISHED_CODE = (*RANKING_CODE, source_file("sharpminima.report.published"))
"""The code that the table of methods beside published errors comes from."""
PAPER_CODE = source_file("sharpminima.report.paper")
EXPLORE = "explore"
"""What the page of a study is called where figures have names."""
_EXPLORE = ["chart", "claims", "curves", "document", "errors", "names", "origins", "planes", "spectra"]
EXPLORE_CODE = (
    *(source_file(f"sharpminima.explore.{name}") for name in _EXPLORE),
    *(packaged(f"sharpminima/explore/page/{name}") for name in ("charts.js", "page.css", "page.html", "page.js")),
    source_file("sharpminima.figures.fig1"),
    source_file("sharpminima.figures.scales"),
    source_file("sharpminima.figures.style"),
    source_file("sharpminima.report.claims._text"),
    source_file("sharpminima.report.rounding"),
    source_file("sharpminima.report.tables"),
    source_file("sharpminima.report.titles"),
)
"""The code that the page of a study comes from."""

# Groups: on a cluster, steps of one group that depend on each other are one job, and so are as many others of the
# group as the profile's `group-components` says.
DENSE_GROUP = "dense-{dataset}-{model}"
PRUNE_GROUP = "prune-{dataset}-{model}-{method}"
TRANSFER_GROUP = "transfer-{dataset}-{model}-{seed}"
RETRAIN_GROUP = "retrain-{dataset}-{model}-{method}-{seed}"  # the cells of one run
ANALYSIS_GROUP = "analysis-{dataset}-{model}-{method}-{level}-{seed}"
FIGURES_GROUP = "figures"
_GROUPS = {
    "dense": DENSE_GROUP,
    "prune": PRUNE_GROUP,
    "retrain": RETRAIN_GROUP,
    "transfer": TRANSFER_GROUP,
    "figure": FIGURES_GROUP,
}


@dataclass(frozen=True)
class Job:
    """One job: what it reads and makes, and the settings on which its numbers depend."""

    rule: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    settings: dict[str, Any] = field(default_factory=dict)
    key: dict[str, Any] = field(default_factory=dict)  # the wildcards of its paths

    @property
    def group(self) -> str | None:
        """The name of its group, with wildcards; None: it runs where Snakemake itself runs."""
        return ANALYSIS_GROUP if self.rule in ANALYSES else _GROUPS.get(self.rule)

    @property
    def plugin_files(self) -> list[str]:
        """The plug-ins beside the study that it uses."""
        return files_of(self.settings)


@dataclass(frozen=True)
class Layout(Runs, Paths):
    """The paths, the runs and the jobs of one study: ``Layout(config, study)``."""

    def jobs(self) -> list[Job]:
        """Every job of the study up to its tables, each after those whose files it reads."""
        return [*self.training_jobs(), *self.analysis_jobs()]

    def all_jobs(self) -> list[Job]:
        """Every job of the study up to its paper, each after those whose files it reads."""
        return [*self.jobs(), *self.comparing_jobs(), *self.drawing_jobs()]

    def stage_jobs(self, stage: str) -> list[Job]:
        """The jobs whose files a stage of DVC tracks (see `STAGES`): prepared data are not among them."""
        jobs = self.training_jobs() if stage == "runs" else self.analysis_jobs()
        return [job for job in jobs if job.rule != "prepare"]

    def precision(self, experiment: Experiment) -> Precision:
        """What the trainings of an experiment compute in."""
        return experiment.precision or self.config.precision

    def training_jobs(self) -> list[Job]:
        """The jobs that make data, W0, checkpoints and masks."""
        jobs: dict[tuple[str, ...], Job] = {}  # by outputs: experiments share data, W0 and dense nets

        def add(rule: str, key: dict[str, Any], inputs: list[str], outputs: list[str], **settings: Any) -> None:
            jobs.setdefault(tuple(outputs), Job(rule, tuple(inputs), tuple(outputs), settings, key))

        def add_data(dataset: str) -> None:
            plugins = as_settings(used_by("prepare", dataset=dataset))
            add("prepare", {"dataset": dataset}, [], [self.prepared(dataset)], dataset=dataset, **split, **plugins)

        split = self.study.data.model_dump(mode="json")
        for experiment in self.study.experiments:
            key = experiment_key(experiment)
            data = self.prepared(experiment.dataset)
            first = self.experiment(experiment.dataset, experiment.model)
            entropy: dict[str, Any] = {}
            if experiment.psp_entropy is not None:
                entropy["psp_entropy"] = experiment.psp_entropy.model_dump(mode="json")
            coarser = _spelled_out(self.precision(experiment))
            dense = first.dense.model_dump(mode="json") | entropy | coarser
            add_data(experiment.dataset)
            for seed in self.seeds(experiment):
                run: dict[str, Any] = {**key, "seed": seed}
                init = self.init(**run)
                batchnorm = experiment.batchnorm
                net = {} if batchnorm is None else {"batchnorm": batchnorm.model_dump(mode="json")}
                add("init", run, [data], [init], **net, **as_settings(used_by("init", **run)))
                add(
                    "dense",
                    run,
                    [data, init],
                    [self.dense(file, **run) for file in (CHECKPOINT, HISTORY)],
                    **({} if self.kept_weights(experiment, seed) == "all" else {"weights": "none"}),
                    **dense,
                    **as_settings(used_by("dense", **run)),
                )
                states = [self.cell(**run, level=name, strategy=GRADUAL) for name in self.level_names(experiment)]
                record = [self.run_file(file, **run) for file in (HISTORY, EVENTS)]
                method = experiment.method.model_dump(mode="json", by_alias=True)
                levels_kept = self.kept_weights(experiment, seed)
                kept: dict[str, Any] = {} if levels_kept == "all" else {"weights": levels_kept}
                add(
                    "prune",
                    run,
                    [data, init],
                    [*states, *record],
                    **method,
                    **entropy,
                    **coarser,
                    levels=list(experiment.levels),
                    **kept,
                    **as_settings(used_by("prune", **run)),
                )
            for cell in self.cells(experiment):
                inputs = [
                    data,
                    self.init(**key, seed=cell.seed),
                    self.cell(**key, level=cell.level_name, strategy=GRADUAL, seed=cell.seed),
                ]
                outputs = [self.cell(file, **cell.key) for file in (CHECKPOINT, HISTORY)]
                # The default is not spelled out: it came later, and what was trained before has it.
                weights = self.weights(experiment, cell.level_name, cell.seed)
                kept = {} if weights == "all" else {"weights": weights}
                plugins = as_settings(used_by("retrain", **cell.key))
                asked = {"strategy": cell.strategy, "replicas": cell.replicas, **kept, **dense, **plugins}
                add("retrain", cell.key, inputs, outputs, **asked)
        for dataset in self.datasets():
            add_data(dataset)
        for key, nets, table, settings in self.transfers():
            add(
                "transfer",
                key,
                [self.prepared(key["to"]), nets],
                [table],
                **settings.model_dump(mode="json", exclude={"sources"}),
                **_spelled_out(self.precision(self.experiment(key["dataset"], key["model"]))),
                **as_settings(used_by("transfer", **key)),
            )
        return list(jobs.values())

    def analysis_jobs(self) -> list[Job]:
        """The jobs that make the tables."""
        tables = Job("table", tuple(self.checkpoints()), (self.table("results"), self.table("density")))
        return [*self.measurements(), tables, self.numbers_job()]

    def numbers_job(self) -> Job:
        """The job that draws the numbers of the study from its tables."""
        measured = [path for tables in self.summarised_tables().values() for path in tables]
        read = (self.table("results"), *measured, *self.transfer_tables(), self.study.ledger)
        return Job("numbers", read, (self.numbers(), self.metrics()), self.facts())

    def measurements(self) -> Iterator[Job]:
        """Each job that measures a G and a 1-S, and maybe the dense net of their run."""
        wanted = {name: set(self.analysis_tables(name)) for name in ANALYSES}
        for experiment, analysis, experiment_level in self.analyses():
            for seed in self.seeds(experiment):
                key: dict[str, Any] = {**experiment_level, "seed": seed}
                ends = [self.cell(**key, strategy=strategy) for strategy in (GRADUAL, REWIND)]
                for name, settings in analysis:
                    table = self.analysis(name, **key)
                    if settings is not None and table in wanted[name]:
                        dense = [self.dense(**key)] if of_dense(settings) else []
                        inputs = (self.prepared(experiment.dataset), *ends, *dense)
                        wildcards = {**key, "analysis": name}
                        asked = settings.model_dump(mode="json", exclude={MADE_OF}) | as_settings(
                            used_by("analyse", **wildcards)
                        )
                        yield Job(name, inputs, (table,), asked, wildcards)

    def summarised_tables(self) -> dict[str, list[str]]:
        """Analysis -> the tables of which the numbers say something."""
        return {name: self.analysis_tables(name) for name, analysis in ANALYSES.items() if analysis.summary}

    def comparing_jobs(self) -> list[Job]:
        """The jobs that make more tables of a study that compares methods; any other has them by request.

        That of published errors, which are of MNIST, is of a study that has it.

        What jobs took is not tracked, and in a clone of a tracked study all should be there without it.
        """
        if "methods" not in self.study.figures:
            return []
        results = self.table("results")
        jobs = [
            Job("measures", tuple(self.checkpoints()), (self.table("measures"),)),
            Job("ranking", (results, *RANKING_CODE), (self.table("ranking"),)),
        ]
        if PUBLISHED_DATASET in self.datasets():
            jobs.append(Job("published", (results, PUBLISHED_ERRORS, *PUBLISHED_CODE), (self.table("published"),)))
        return jobs

    def figure_job(self, name: str) -> Job:
        """The job that draws a figure."""
        outputs = tuple(f"{self.figure(name)}.{extension}" for extension in ("pdf", "svg"))
        inputs = (FIGURES[name].notebook, *self.figure_code(name), *self.tables_of(name))
        return Job("figure", inputs, outputs, as_settings(used_by_figure(self.study, name)))

    def provenance_job(self) -> Job:
        """The job that writes what each figure comes from."""
        figures = self.study.figures
        drawn = [path for name in figures for path in self.figure_job(name).outputs]
        return Job("provenance", (*drawn, *self.origins(*figures)), tuple(self.provenance(name) for name in figures))

    def paper_job(self) -> Job:
        """The job that compiles the paper."""
        figures = self.study.figures
        shown = [path for name in figures for path in (f"{self.figure(name)}.svg", self.provenance(name))]
        return Job("paper", (*PAPER_SOURCES, PAPER_CODE, self.numbers(), *shown), (self.paper(),))

    def explore_job(self) -> Job:
        """The job that writes the page of the study."""
        made = [path for job in self.training_jobs() for path in job.outputs if path.endswith((HISTORY, EVENTS))]
        measured = [path for name in ("surface", "hessian", "line") for path in self.analysis_tables(name)]
        origins = [self.provenance(name) for name in self.study.figures]
        read = (*EXPLORE_CODE, self.table("results"), self.numbers(), *made, *measured, *origins)
        return Job(EXPLORE, read, (self.explorer(),))

    def drawing_jobs(self) -> list[Job]:
        """The jobs that make figures, the page of the study, and the paper."""
        jobs = [self.figure_job(name) for name in self.study.figures]
        if self.study.figures:
            jobs.append(self.provenance_job())
        jobs.append(self.explore_job())
        return [*jobs, self.paper_job()] if self.study.paper else jobs

    def ancestry(self, *figures: str) -> list[Job]:
        """The jobs whose files figures come from, and those that draw them, each after those whose files it reads.

        The page of the study is asked for by the name `EXPLORE`.
        """
        drawing = [job for name in figures for job in self._drawn(name)]
        wanted, makers = {path for job in drawing for path in job.inputs}, []
        for job in reversed(self.jobs()):
            if wanted.intersection(job.outputs):
                wanted.update(job.inputs)
                makers.append(job)
        return [*reversed(makers), *drawing]

    def _drawn(self, name: str) -> list[Job]:
        """The jobs that draw a figure, or the page, which shows what each figure comes from."""
        if name != EXPLORE:
            return [self.figure_job(name)]
        drawn = [self.figure_job(figure) for figure in self.study.figures]
        return [*drawn, *([self.provenance_job()] if drawn else []), self.explore_job()]

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

    def checkpoints(self) -> list[str]:
        """Every checkpoint that the results table reads, in the order of its rows."""
        paths = []
        for experiment in self.study.experiments:
            key = experiment_key(experiment)
            paths += [self.dense(**key, seed=seed) for seed in self.seeds(experiment)]
            paths += [
                self.cell(**key, level=name, strategy=GRADUAL, seed=seed)
                for name in self.level_names(experiment)
                for seed in self.seeds(experiment)
            ]
            paths += [self.cell(**cell.key) for cell in self.cells(experiment)]
        return list(dict.fromkeys(paths))  # methods share the dense nets of their dataset and model

    def transfers(self) -> Iterator[tuple[dict[str, Any], str, str, TransferSettings]]:
        """(wildcards, checkpoint, table, settings) of each transfer, at the highest level."""
        for experiment in self.study.experiments:
            if experiment.transfer is None:
                continue
            settings = experiment.transfer.resolved(experiment.dense)
            key: dict[str, Any] = {**experiment_key(experiment), "level": self.level_names(experiment)[-1]}
            for source in settings.sources:
                for seed in self.seeds(experiment):
                    if not self._goes_elsewhere(experiment, source, seed):
                        continue
                    cell: dict[str, Any] = {**key, "strategy": source, "seed": seed}
                    nets = self.dense(**cell) if source == DENSE else self.cell(**cell)
                    yield {**cell, "to": settings.to}, nets, self.transfer(settings.to, **cell), settings

    def transfer_settings(self, **key: Any) -> TransferSettings:
        """The settings of one transfer, from the wildcards of its rule; those of a dense net name no experiment."""
        table = self.transfer(**{"strategy": DENSE, **key})
        return next(settings for _, _, path, settings in self.transfers() if path == table)

    def _goes_elsewhere(self, experiment: Experiment, source: str, seed: int) -> bool:
        """Whether a run has such nets, with their weights, for a transfer."""
        if source == DENSE:
            return self.kept_weights(experiment, seed) == "all"
        return source == GRADUAL or self.retraining(experiment, source, seed) is not None

    def transfer_tables(self) -> list[str]:
        """The tables of all transfers; methods share those of the dense nets of their dataset and model."""
        return list(dict.fromkeys(table for _, _, table, _ in self.transfers()))

    def analysis_tables(self, name: str) -> list[str]:
        """The tables of one analysis, of every run that has it."""
        match ANALYSES[name].when:
            case "shown":
                return self.drawn_tables(name)
            case "mapped":
                return self.map_tables(name)
        return [
            self.analysis(name, **key, seed=seed)
            for experiment, _, key in self.analyses()
            for seed in self.measured(experiment, name)
        ]

    def drawn_tables(self, name: str) -> list[str]:
        """The tables of one analysis that the figures show."""
        sources = [source for figure in self.study.figures for source in FIGURES[figure].reads.values()]
        shown = [self._read(source) for source in sources if isinstance(source, OfFocus) and source.analysis == name]
        return sorted({path for tables in shown for path in (tables if isinstance(tables, list) else [tables])})

    def map_tables(self, name: str) -> list[str]:
        """The tables of an analysis that figures show or an experiment's ``maps`` ask for; first those shown."""
        asked_for = (
            table
            for experiment, _, key in self.analyses()
            if experiment.maps is not None
            for table in self._of_runs(name, experiment, key, self.measured(experiment, name))
        )
        return list(dict.fromkeys([*self.drawn_tables(name), *asked_for]))

    def _of_runs(self, kind: str, experiment: Experiment, key: dict[str, str], runs: RunChoice) -> list[str]:
        return [self.analysis(kind, **key, seed=seed) for seed in chosen(runs, self.seeds(experiment))]

    def tables(self) -> list[str]:
        """The tables of all trained nets that the study ends with."""
        return [self.table("results"), *(path for job in self.comparing_jobs() for path in job.outputs)]

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
            case Numbers() | EntropyWays():
                return self.numbers()
            case PathEvents():
                experiment = self.study.path_experiment()
                assert experiment is not None  # the study model demands it with such a figure
                key = experiment_key(experiment)
                return [self.run_file(EVENTS, **key, seed=seed) for seed in self.seeds(experiment)]
            case OfFocus(analysis, runs):
                experiment, key = self.focus()
                if runs == "first":
                    return self._of_runs(analysis, experiment, key, runs)[0]
                return self._of_runs(analysis, experiment, key, self.measured(experiment, analysis))

    def tables_of(self, name: str) -> list[str]:
        """The tables of `figure_tables`, as one list."""
        tables = self.figure_tables(name).values()
        return [path for value in tables for path in (value if isinstance(value, list) else [value])]

    def figure_code(self, name: str) -> tuple[str, ...]:
        """The code that a figure is drawn by."""
        plugins = used_by_figure(self.study, name)
        return (*FIGURES[name].code, *(plugin.name for plugin in plugins if plugin.is_file))


def _spelled_out(precision: Precision) -> dict[str, str]:
    """Of a job's settings; the default is left out, since it came later, and what was trained before has it."""
    return {} if precision == "float32" else {"precision": precision}
