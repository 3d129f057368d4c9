"""The command line: each step of the pipeline is a command; the rules of Snakemake call these and nothing else."""

import os
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

import sharpminima
from sharpminima.base.errors import ConfigError, SharpminimaError
from sharpminima.base.stop import STOP, Stopped
from sharpminima.catalogue import plugins
from sharpminima.catalogue.analyses import ANALYSES, Analysis
from sharpminima.catalogue.datasets import DATASETS

if TYPE_CHECKING:
    from sharpminima.study.layout import Layout

app = typer.Typer(
    name="sharpminima",
    help="Sharp minima of gradually pruned nets: training, pruning, analysis and figures, step by step.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Every command takes --plugin FILE, repeated: what brings methods, models, datasets, analyses and figures.",
)

DataFile = Annotated[Path, typer.Option("--data", help="Prepared dataset (sharpminima prepare).")]
InitFile = Annotated[Path, typer.Option("--init", help="W0 of the run (sharpminima init).")]
Seed = Annotated[int, typer.Option("--seed", help="Seed of the whole run.")]
OutFile = Annotated[Path, typer.Option("--out", help="File to write.")]
OutFolder = Annotated[Path, typer.Option("--out", help="Folder for checkpoint.safetensors and history.csv.")]
SettingsText = Annotated[str, typer.Option("--settings", help="Settings as YAML or JSON text, or a file of them.")]
Device = Annotated[Literal["auto", "cpu", "cuda"], typer.Option("--device", help="Where it computes.")]


def _ascending(levels: list[float]) -> list[float]:
    if not all(0 < level < 1 for level in levels) or levels != sorted(set(levels)):
        given = ", ".join(f"{level:g}" for level in levels)
        raise typer.BadParameter(f"{given} given; shares in (0, 1) are needed, ascending, such as 0.5 and 0.9")
    return levels


Levels = Annotated[
    list[float], typer.Option("--level", callback=_ascending, help="Requested sparsity in (0, 1); repeat, ascending.")
]
Threads = Annotated[int, typer.Option("--threads", min=1, help="CPU threads; part of the result.")]
Compaction = Annotated[
    bool, typer.Option("--compaction/--no-compaction", help="Train without the dead units of a mask; exact.")
]
ReplicaStrategy = Annotated[
    Literal["auto", "loop", "batched"],
    typer.Option("--replica-strategy", help="Train replicas in a loop, or as one batched model (auto: on CUDA)."),
]
Precision = Annotated[
    Literal["float32", "tf32"], typer.Option("--precision", help="Of training on CUDA; tf32 is faster and coarser.")
]
GradualFile = Annotated[Path, typer.Option("--gradual", help="Checkpoint of the pruning method at the level (G).")]
RewindFile = Annotated[Path, typer.Option("--rewind", help="Checkpoint of the strategy rewind there (1-S).")]

StageName = Annotated[Literal["runs", "analysis"], typer.Argument(help="runs or analysis.")]
StudyName = Annotated[str | None, typer.Option("--study", help="A study; default: the one that config.yaml names.")]
Checkpoints = Annotated[
    list[Path] | None, typer.Argument(help="Checkpoints, in the order of the rows; default: all of the study.")
]
ConfigText = Annotated[str | None, typer.Option("--config", help="YAML or JSON in place of config.yaml.")]


def _layout(study: str | None, config: str | None = None) -> "Layout":
    """The layout of a study."""
    from sharpminima.study.layout import Layout
    from sharpminima.study.read import read_config

    return Layout(*read_config(study, config))


def _checkpoints(study: str | None, config: str | None) -> list[Path]:
    """All checkpoints of a study: too many for a command line, which a system cuts off at 128 KiB."""
    return [Path(path) for path in _layout(study, config).checkpoints()]


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(sharpminima.__version__)
        raise typer.Exit


@app.callback()
def _common(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


@app.command()
def prepare(
    dataset: Annotated[str, typer.Argument(help=f"One of {', '.join(DATASETS)}.")],
    out: OutFile,
    root: Annotated[
        Path | None,
        typer.Option("--root", help="Folder of raw files; default: SHARPMINIMA_DATA, else data/downloads."),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Seed of the validation split.")] = 0,
    validation_share: Annotated[float, typer.Option("--validation-share")] = 0.1,
) -> None:
    """Find or download a dataset, check it, split it, and write it as one file."""
    from sharpminima.data import prepare_dataset

    prepare_dataset(dataset, out, root=root, seed=seed, validation_share=validation_share)


@app.command()
def init(
    data: DataFile,
    model: Annotated[str, typer.Option("--model", help="Name of a model.")],
    seed: Seed,
    out: OutFile,
    batchnorm: Annotated[
        str | None, typer.Option("--batchnorm", help="Its momentum and eps as YAML or JSON; default: the usual ones.")
    ] = None,
) -> None:
    """Draw W0, the initialisation from which everything of a run starts."""
    from sharpminima.catalogue.recipes import BatchNormSettings
    from sharpminima.steps import training
    from sharpminima.study.read import parse_settings

    settings = None if batchnorm is None else parse_settings(BatchNormSettings, batchnorm, "--batchnorm")
    training.init(data, model, seed, out, batchnorm=settings)


@app.command()
def dense(
    data: DataFile,
    init: InitFile,
    out: OutFolder,
    settings: SettingsText = "{}",
    device: Device = "auto",
    threads: Threads = 1,
    precision: Precision = "float32",
    weights: Annotated[
        Literal["all", "none"], typer.Option("--weights", help="none: metrics and predictions are kept alone.")
    ] = "all",
) -> None:
    """Train the dense net from W0."""
    from sharpminima.catalogue.recipes import RecipeSettings
    from sharpminima.steps import training
    from sharpminima.study.read import parse_settings

    recipe = parse_settings(RecipeSettings, settings, "--settings")
    training.dense(data, init, recipe, out, training.Runtime(device, threads, precision=precision), weights=weights)


@app.command()
def prune(
    data: DataFile,
    init: InitFile,
    level: Levels,
    out: Annotated[Path, typer.Option("--out", help="Folder of the method: gets level-L/gradual/seed-S/, run/.")],
    settings: SettingsText = '{"name": "lobster"}',
    device: Device = "auto",
    threads: Threads = 1,
    compaction: Compaction = True,
    precision: Precision = "float32",
    weights: Annotated[
        Literal["all", "highest"], typer.Option("--weights", help="Levels whose weights are kept, beside all masks.")
    ] = "all",
) -> None:
    """Run a pruning method and keep a trained state for each requested level."""
    from sharpminima.steps import training
    from sharpminima.study.read import parse_settings
    from sharpminima.study.schema import MethodChoice

    method = parse_settings(MethodChoice, settings, "--settings").root
    runtime = training.Runtime(device, threads, compaction, precision=precision)
    training.prune(data, init, method, level, out, runtime, weights=weights)


@app.command()
def tune(
    data: DataFile,
    init: InitFile,
    level: Levels,
    out: Annotated[Path, typer.Option("--out", help="Folder for trials.csv and the trials.")],
    grid: Annotated[
        str | None, typer.Option("--grid", help="Settings to try as YAML or JSON: name -> list of values.")
    ] = None,
    settings: SettingsText = '{"name": "lobster"}',
    plan: Annotated[
        str | None, typer.Option("--plan", help="Instead: several methods, each with its grid, as YAML, or a file.")
    ] = None,
    device: Device = "auto",
    threads: Threads = 1,
    compaction: Compaction = True,
    precision: Precision = "float32",
) -> None:
    """Try free settings of one method, or of several, and compare them on the validation split alone."""
    from sharpminima.base.yaml_input import parse_mapping
    from sharpminima.steps import training, tuning
    from sharpminima.study.read import parse_settings
    from sharpminima.study.schema import MethodChoice

    runtime = training.Runtime(device, threads, compaction, precision=precision)
    trials = tuning.Tuning(data, init, level, out, runtime)
    if plan is not None:
        trials.all(parse_settings(tuning.TuningPlan, plan, "--plan"))
    else:
        method = parse_settings(MethodChoice, settings, "--settings").root
        trials.one(method, parse_mapping(grid or "{}", "--grid"))


@app.command()
def retrain(
    data: DataFile,
    init: InitFile,
    pruned: Annotated[Path, typer.Option("--pruned", help="Checkpoint of the pruning method at the level.")],
    strategy: Annotated[str, typer.Option("--strategy", help="rewind, reinit, random-structure, ...")],
    out: OutFolder,
    replicas: Annotated[int, typer.Option("--replicas", min=1)] = 1,
    settings: SettingsText = "{}",
    device: Device = "auto",
    threads: Threads = 1,
    compaction: Compaction = True,
    replica_strategy: ReplicaStrategy = "auto",
    precision: Precision = "float32",
    weights: Annotated[
        Literal["all", "first", "none"],
        typer.Option("--weights", help="Replicas whose weights are kept, beside all masks."),
    ] = "all",
) -> None:
    """Retrain at a method's mask: all replicas of one strategy."""
    from sharpminima.catalogue.recipes import RecipeSettings
    from sharpminima.catalogue.strategies import STRATEGIES
    from sharpminima.steps import training
    from sharpminima.study.read import parse_settings

    if strategy not in STRATEGIES:
        raise ConfigError(f"--strategy: {strategy!r} given, allowed: {', '.join(STRATEGIES)}")
    recipe = parse_settings(RecipeSettings, settings, "--settings")
    runtime = training.Runtime(device, threads, compaction, replica_strategy, precision)
    training.retrain(data, init, pruned, strategy, replicas, recipe, out, runtime, weights=weights)


@app.command()
def transfer(
    data: Annotated[Path, typer.Option("--data", help="Prepared dataset to go to (sharpminima prepare).")],
    source: Annotated[Path, typer.Option("--source", help="Checkpoint of nets trained on another dataset.")],
    settings: Annotated[str, typer.Option("--settings", help="Settings, at least `to`, as YAML or JSON, or a file.")],
    out: OutFile,
    device: Device = "auto",
    threads: Threads = 1,
    compaction: Compaction = True,
    precision: Precision = "float32",
) -> None:
    """What the features of trained nets are worth on another dataset: linear probe and fine-tuning."""
    from sharpminima.steps import training
    from sharpminima.steps import transfer as step
    from sharpminima.study.read import parse_settings
    from sharpminima.study.schema import TransferSettings

    chosen = parse_settings(TransferSettings, settings, "--settings")
    step.transfer(data, source, chosen, out, training.Runtime(device, threads, compaction, precision=precision))


def _analysis(analysis: Analysis) -> Callable[..., None]:
    """The command of one analysis; all have the same options."""

    def command(
        data: DataFile,
        gradual: GradualFile,
        rewind: RewindFile,
        out: OutFile,
        settings: SettingsText = "{}",
        device: Device = "auto",
        threads: Threads = 1,
    ) -> None:
        from sharpminima.steps import training
        from sharpminima.study.read import parse_settings

        chosen = parse_settings(analysis.settings, settings, "--settings")
        analysis.load()(data, gradual, rewind, chosen, out, training.Runtime(device, threads))

    return command


def _add_analyses() -> None:
    """A command for each analysis that is known and has none."""
    there = {command.name for command in app.registered_commands}
    for entry in ANALYSES.values():
        if entry.name not in there:
            app.command(entry.name, help=entry.help)(_analysis(entry))


_add_analyses()


@app.command()
def table(
    out: OutFile,
    density: Annotated[Path, typer.Option("--density", help="Table of per-layer densities to write.")],
    checkpoint: Checkpoints = None,
    study: StudyName = None,
    config: ConfigText = None,
) -> None:
    """Collect the results of trained nets: errors, losses, sparsity and counts."""
    from sharpminima.steps import tables

    tables.results(checkpoint or _checkpoints(study, config), out, density)


@app.command()
def measures(
    out: OutFile,
    checkpoint: Checkpoints = None,
    study: StudyName = None,
    config: ConfigText = None,
) -> None:
    """Collect all that methods report: counts over both denominators, errors, epochs, seconds and memory."""
    from sharpminima.steps import tables

    tables.measures(checkpoint or _checkpoints(study, config), out)


@app.command()
def ranking(
    results: Annotated[Path, typer.Option("--results", help="Table of results.")],
    out: OutFile,
) -> None:
    """Rank methods at each level by their own nets' mean test error, with its interval over runs."""
    from sharpminima.base.files import write_csv
    from sharpminima.catalogue.columns import RANKING_COLUMNS
    from sharpminima.report import tables

    ranked = tables.ranking(tables.read_table("results", results))
    write_csv(out, ranked.astype(object).where(ranked.notna(), None).to_dict("records"), RANKING_COLUMNS)


@app.command()
def figure(
    notebook: Annotated[Path, typer.Argument(help="Notebook with a cell tagged `parameters`.")],
    out: Annotated[Path, typer.Option("--out", help="Figure without extension: gets .pdf, .svg, .html.")],
    parameters: Annotated[str, typer.Option("--parameters", help="Parameters as YAML or JSON.")] = "{}",
) -> None:
    """Execute a figure's notebook; a failed cell or an unknown parameter is an error."""
    from sharpminima.base.yaml_input import parse_mapping
    from sharpminima.report.notebook import execute

    execute(notebook, out, parse_mapping(parameters, "--parameters"))


@app.command()
def numbers(
    results: Annotated[Path, typer.Option("--results", help="Table of results.")],
    out: OutFile,
    claims: Annotated[Path, typer.Option("--claims", help="The claims ledger.")] = Path("paper/claims.yaml"),
    psp: Annotated[list[Path] | None, typer.Option("--psp", help="PSP tables; repeat.")] = None,
    hessian: Annotated[list[Path] | None, typer.Option("--hessian", help="Hessian tables; repeat.")] = None,
    surface: Annotated[list[Path] | None, typer.Option("--surface", help="Surface tables; repeat.")] = None,
    barrier: Annotated[list[Path] | None, typer.Option("--barrier", help="Barrier tables; repeat.")] = None,
    line: Annotated[list[Path] | None, typer.Option("--line", help="Tables of lines; repeat.")] = None,
    transfer: Annotated[list[Path] | None, typer.Option("--transfer", help="Transfer tables; repeat.")] = None,
    study: Annotated[str, typer.Option("--study", help="Facts of the study as JSON.")] = "{}",
    metrics: Annotated[Path | None, typer.Option("--metrics", help="The main ones, for `dvc metrics`.")] = None,
) -> None:
    """Summarise the tables as the numbers that the paper's text and tables show."""
    from sharpminima.base.files import read_json, write_json
    from sharpminima.base.yaml_input import parse_mapping
    from sharpminima.report.metrics import main_numbers
    from sharpminima.report.numbers import summarise

    facts = parse_mapping(study, "--study")
    more = {"barrier": barrier or [], "line": line or [], "transfer": transfer or []}
    summarise(results, psp or [], hessian or [], surface or [], claims, facts, out, **more)
    if metrics is not None:
        write_json(metrics, main_numbers(read_json(out)))


@app.command()
def claims(
    study: StudyName = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="A table, without the other readings.")] = False,
) -> None:
    """Print the paper's claims, what a study measured, and the verdicts."""
    from sharpminima.base.files import read_json

    layout = _layout(study)
    numbers = Path(layout.numbers())
    if not numbers.is_file():
        raise ConfigError(
            f"{numbers}: is missing; `snakemake --cores all --config study={layout.name} -- numbers` makes it"
        )
    from sharpminima.report.claims import as_markdown, as_text  # once there is a checkout, and a study in it

    judged = read_json(numbers)["claims"]
    typer.echo(as_markdown(judged) if markdown else as_text(judged))


@app.command()
def paper(
    source: Annotated[Path, typer.Argument(help="Typst source of the paper.")],
    numbers: Annotated[Path, typer.Option("--numbers", help="Numbers (sharpminima numbers).")],
    out: OutFile,
    figure: Annotated[list[Path] | None, typer.Option("--figure", help="SVG figures; repeat.")] = None,
    provenance: Annotated[
        list[Path] | None, typer.Option("--provenance", help="What they come from (sharpminima provenance); repeat.")
    ] = None,
) -> None:
    """Compile the paper from its source, the figures and the numbers."""
    from sharpminima.report.paper import compile_paper

    compile_paper(source, numbers, figure or [], out, provenance=provenance or [])


@app.command()
def provenance(
    figure: Annotated[list[str], typer.Argument(help="Figures of the study: fig1 ...")],
    study: StudyName = None,
    config: ConfigText = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    write: Annotated[bool, typer.Option("--write", help="Write JSON beside each figure; print nothing.")] = False,
) -> None:
    """What a figure comes from: notebook, tables, checkpoints and masks, settings, data, version."""
    import json

    layout = _layout(study, config)
    from sharpminima.report.provenance import chain, lines, write_chains  # once there is a checkout

    if write:
        write_chains(layout, figure)
        return
    for name in figure:
        found = chain(layout, name)
        typer.echo(json.dumps(found, indent=2, sort_keys=True) if as_json else "\n".join(lines(found)))


@app.command()
def settings(study: StudyName = None) -> None:
    """Write the settings of training and of analysis, on which DVC's stages depend."""
    from sharpminima.study.layout import STAGES
    from sharpminima.tracking import write_settings

    for stage in STAGES:
        write_settings(_layout(study), stage)


@app.command()
def restore(stage: StageName, study: StudyName = None) -> None:
    """Bring back what DVC tracks of a stage, check it, and let Snakemake take it as made."""
    from sharpminima.tracking import restore as restore_stage

    restore_stage(_layout(study), stage)


@app.command()
def record(stage: StageName, study: StudyName = None) -> None:
    """Record what made each file of a stage, beside the files."""
    from sharpminima.tracking import write_record

    write_record(_layout(study), stage)


@app.command()
def track(
    push: Annotated[bool, typer.Option("--push/--no-push", help="Push to the default remote.")] = True,
    finished: Annotated[
        str | None,
        typer.Option("--finished", metavar="STUDY", help="Record the finished jobs of a study under way instead."),
    ] = None,
) -> None:
    """After a Snakemake run: record the tracked studies in DVC."""
    from sharpminima.tracking import track as track_studies
    from sharpminima.tracking import track_finished

    if finished is not None:
        jobs, files = track_finished(_layout(finished), push=push)
        typer.echo(f"recorded {jobs} finished jobs of {finished}; commit {', '.join(files)} and data/store together")
        return
    studies = track_studies(push=push)
    typer.echo(f"recorded {', '.join(studies)}; commit dvc.lock, workflow/studies/*.sha256 and data/store together")


_REMOVES = {
    "weights": "single weights, to exactly the number asked for",
    "units": "filters and hidden units, to the number asked for within one; the model must have such",
    "none": "what its strengths or thresholds find; levels have what was reached",
}


@app.command()
def methods() -> None:
    """List the pruning methods: name, kind, paper, what they remove, and settings with their defaults."""
    from sharpminima.catalogue.methods import METHODS

    for name, method in METHODS.items():
        defaults = method.settings().model_dump(mode="json", by_alias=True, exclude={"revision", "dense", "recipe"})
        typer.echo(f"{name} ({method.kind}): {method.paper}")
        typer.echo(f"  removes {_REMOVES[method.dial]}")
        typer.echo("  " + ", ".join(f"{key}: {value}" for key, value in defaults.items()))


@app.command()
def plan(
    study: Annotated[str, typer.Argument(help="A study in workflow/studies, or the path of one.")],
    throughput: Annotated[
        Path | None,
        typer.Option("--throughput", help="Of your machine: a file that python -m benchmarks.training --json wrote."),
    ] = None,
    profile: Annotated[
        Path, typer.Option("--profile", help="The profile whose group-components say what shares a job.")
    ] = Path("profiles/slurm"),
) -> None:
    """Tell how many jobs a cluster gets from a study, how long they take, and the disk they need."""
    from sharpminima.study.costs import MEASURED, Costs, Throughput
    from sharpminima.study.plan import describe, make_plan, read_components

    layout = _layout(study)
    costs = Costs(layout, Throughput.from_benchmark(throughput) if throughput else MEASURED)
    typer.echo(describe(make_plan(layout, costs, read_components(profile)), layout, costs))


@app.command()
def schema(
    folder: Annotated[Path, typer.Argument(help="Folder for config.schema.json and study.schema.json.")],
) -> None:
    """Write the JSON schemas of the config and the studies."""
    from sharpminima.base.files import write_json
    from sharpminima.study.read import study_schema
    from sharpminima.study.schema import Config

    write_json(folder / "config.schema.json", Config.model_json_schema())
    write_json(folder / "study.schema.json", study_schema())


_EXTRAS = {
    "dvc": "pipeline",
    "dvc_data": "pipeline",
    "matplotlib": "report",
    "nbclient": "report",
    "nbconvert": "report",
    "nbformat": "report",
    "pandas": "report",
    "papermill": "report",
    "scipy": "report",
    "sklearn": "data",
    "snakemake": "pipeline",
    "torchvision": "data",
    "traitlets": "report",
    "typst": "report",
}
"""Module that the library does without -> the extra of the package that brings it."""


def main() -> None:
    """Run the command line; an error that a user can cure is one line, exit status 1."""
    # Libraries read these when they load; the recorded setting is applied by each step.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    warnings.showwarning = _show_warning
    STOP.install()
    try:
        arguments, stated = _without_plugins(sys.argv[1:])
        plugins.use_stated(stated)
        _add_analyses()
        app(arguments)
    except SharpminimaError as error:
        sys.exit(f"error: {error}")
    except ModuleNotFoundError as error:
        name = (error.name or "").partition(".")[0]
        if name not in _EXTRAS:
            raise
        sys.exit(f"error: {name} is not installed; pip install 'sharpminima[{_EXTRAS[name]}]' brings it")
    except Stopped as stopped:
        typer.echo(f"sharpminima: {stopped}", err=True)
        sys.exit(143)


def _without_plugins(arguments: list[str]) -> tuple[list[str], list[str]]:
    """A command line without ``--plugin``, and what it gave: an analysis that a plug-in brings is a command."""
    kept, stated = [], []
    given = iter(arguments)
    for argument in given:
        name, equals, value = argument.partition("=")
        if name != "--plugin":
            kept.append(argument)
        elif value := value if equals else next(given, ""):
            stated.append(value)
        else:
            raise ConfigError("--plugin: a file is missing")
    return kept, stated


def _show_warning(message: Warning | str, *_: object, **__: object) -> None:
    typer.echo(f"warning: {message}", err=True)
