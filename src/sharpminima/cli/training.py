"""Commands that make data and trained nets."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from sharpminima.base.errors import ConfigError
from sharpminima.base.settings import HIGHEST_SEED, MOST_REPLICAS
from sharpminima.catalogue.datasets import DATASETS
from sharpminima.catalogue.models import MODELS
from sharpminima.catalogue.strategies import STRATEGIES
from sharpminima.cli.options import (
    Compaction,
    DataFile,
    Device,
    Entropy,
    InitFile,
    Levels,
    OutFile,
    OutFolder,
    Precision,
    ReplicaStrategy,
    Seed,
    SettingsText,
    Threads,
    entropy_of,
    out_folder,
)

commands = typer.Typer()
_LOBSTER = '{"name": "lobster"}'


@commands.command()
def prepare(
    dataset: Annotated[str, typer.Argument(help=f"One of {', '.join(DATASETS)}.", autocompletion=lambda: [*DATASETS])],
    out: OutFile,
    root: Annotated[
        Path | None,
        typer.Option("--root", help="Folder of raw files; default: SHARPMINIMA_DATA, else data/downloads."),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, max=HIGHEST_SEED, help="Seed of the validation split.")] = 0,
    validation_share: Annotated[float, typer.Option("--validation-share")] = 0.1,
) -> None:
    """Find or download a dataset, check it, split it, and write it as one file."""
    from sharpminima.data import prepare_dataset

    prepare_dataset(dataset, out, root=root, seed=seed, validation_share=validation_share)


@commands.command()
def init(
    data: DataFile,
    model: Annotated[str, typer.Option("--model", help="Name of a model.", autocompletion=lambda: [*MODELS])],
    seed: Seed,
    out: OutFile,
    batchnorm: Annotated[
        str | None, typer.Option("--batchnorm", help="Its momentum and eps as YAML or JSON; default: the usual ones.")
    ] = None,
) -> None:
    """Draw W0, the initialisation from which everything of a run starts."""
    from sharpminima.catalogue.recipes import BatchNormSettings
    from sharpminima.steps.init import init as init_step
    from sharpminima.study.read import parse_settings

    settings = None if batchnorm is None else parse_settings(BatchNormSettings, batchnorm, "--batchnorm")
    init_step(data, model, seed, out, batchnorm=settings)


@commands.command()
def dense(
    data: DataFile,
    init: InitFile,
    out: OutFolder,
    settings: SettingsText = "{}",
    device: Device = "auto",
    threads: Threads = 1,
    precision: Precision = "float32",
    psp_entropy: Entropy = None,
    weights: Annotated[
        Literal["all", "none"], typer.Option("--weights", help="none: metrics and predictions are kept alone.")
    ] = "all",
) -> None:
    """Train the dense net from W0."""
    from sharpminima.catalogue.recipes import RecipeSettings
    from sharpminima.steps.dense import dense as dense_step
    from sharpminima.steps.job import Runtime
    from sharpminima.study.read import parse_settings

    recipe = parse_settings(RecipeSettings, settings, "--settings")
    runtime = Runtime(device, threads, precision=precision)
    dense_step(data, init, recipe, out, runtime, psp_entropy=entropy_of(psp_entropy), weights=weights)


@commands.command()
def prune(
    data: DataFile,
    init: InitFile,
    level: Levels,
    out: Annotated[Path, out_folder("Folder of the method: gets level-L/gradual/seed-S/, run/.")],
    settings: SettingsText = _LOBSTER,
    device: Device = "auto",
    threads: Threads = 1,
    compaction: Compaction = True,
    precision: Precision = "float32",
    psp_entropy: Entropy = None,
    weights: Annotated[
        Literal["all", "highest"], typer.Option("--weights", help="Levels whose weights are kept, beside all masks.")
    ] = "all",
) -> None:
    """Run a pruning method and keep a trained state for each requested level."""
    from sharpminima.steps.job import Runtime
    from sharpminima.steps.prune import prune as prune_step
    from sharpminima.study.read import parse_settings
    from sharpminima.study.schema import MethodChoice

    method = parse_settings(MethodChoice, settings, "--settings").root
    runtime = Runtime(device, threads, compaction, precision=precision)
    prune_step(data, init, method, level, out, runtime, psp_entropy=entropy_of(psp_entropy), weights=weights)


@commands.command()
def tune(
    data: DataFile,
    init: InitFile,
    level: Levels,
    out: Annotated[Path, out_folder("Folder for trials.csv and the trials.")],
    grid: Annotated[
        str | None, typer.Option("--grid", help="Settings to try as YAML or JSON: name -> list of values.")
    ] = None,
    settings: SettingsText = _LOBSTER,
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
    from sharpminima.steps import tuning
    from sharpminima.steps.job import Runtime
    from sharpminima.study.read import parse_settings
    from sharpminima.study.schema import MethodChoice

    runtime = Runtime(device, threads, compaction, precision=precision)
    trials = tuning.Tuning(data, init, level, out, runtime)
    if plan is not None:
        if given := [name for name, one in (("--grid", grid), ("--settings", settings)) if one not in (None, _LOBSTER)]:
            raise ConfigError(
                f"{' and '.join(given)} beside --plan, which has settings and grids of its own; leave one out"
            )
        trials.all(parse_settings(tuning.TuningPlan, plan, "--plan"))
    else:
        method = parse_settings(MethodChoice, settings, "--settings").root
        trials.one(method, parse_mapping(grid or "{}", "--grid"))


@commands.command()
def tune_entropy(
    data: DataFile,
    init: InitFile,
    out: Annotated[Path, out_folder("Folder for trials.csv and the trials.")],
    grid: Annotated[str, typer.Option("--grid", help="Values of beta and tau as YAML or JSON: name -> list.")],
    settings: SettingsText = "{}",
    device: Device = "auto",
    threads: Threads = 1,
    precision: Precision = "float32",
) -> None:
    """Train dense nets with PSP-entropy of several weights, and compare them on the validation split alone."""
    from sharpminima.catalogue.recipes import RecipeSettings
    from sharpminima.steps.entropy_trials import EntropyGrid, entropy_trials
    from sharpminima.steps.job import Runtime
    from sharpminima.study.read import parse_settings

    recipe = parse_settings(RecipeSettings, settings, "--settings")
    chosen = parse_settings(EntropyGrid, grid, "--grid")
    entropy_trials(data, init, recipe, chosen, out, Runtime(device, threads, precision=precision))


@commands.command()
def retrain(
    data: DataFile,
    init: InitFile,
    pruned: Annotated[Path, typer.Option("--pruned", help="Checkpoint of the pruning method at the level.")],
    strategy: Annotated[
        str,
        typer.Option("--strategy", help="rewind, reinit, random-structure, ...", autocompletion=lambda: [*STRATEGIES]),
    ],
    out: OutFolder,
    replicas: Annotated[int, typer.Option("--replicas", min=1, max=MOST_REPLICAS)] = 1,
    settings: SettingsText = "{}",
    device: Device = "auto",
    threads: Threads = 1,
    compaction: Compaction = True,
    replica_strategy: ReplicaStrategy = "auto",
    precision: Precision = "float32",
    psp_entropy: Entropy = None,
    weights: Annotated[
        Literal["all", "first", "none"],
        typer.Option("--weights", help="Replicas whose weights are kept, beside all masks."),
    ] = "all",
) -> None:
    """Retrain at a method's mask: all replicas of one strategy."""
    from sharpminima.catalogue.recipes import RecipeSettings
    from sharpminima.steps.job import Runtime
    from sharpminima.steps.retrain import retrain as retrain_step
    from sharpminima.study.read import parse_settings

    if strategy not in STRATEGIES:
        raise ConfigError(f"--strategy: {strategy!r} given, allowed: {', '.join(STRATEGIES)}")
    if replicas > 1 and not STRATEGIES[strategy].draws:
        raise ConfigError(f"--replicas: {replicas} given; {strategy} draws nothing, so 1 is all")
    recipe = parse_settings(RecipeSettings, settings, "--settings")
    runtime = Runtime(device, threads, compaction, replica_strategy, precision)
    entropy = entropy_of(psp_entropy)
    retrain_step(data, init, pruned, strategy, replicas, recipe, out, runtime, psp_entropy=entropy, weights=weights)


@commands.command()
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
    from sharpminima.steps import transfer as step
    from sharpminima.steps.job import Runtime
    from sharpminima.study.read import parse_settings
    from sharpminima.study.schema import TransferSettings

    chosen = parse_settings(TransferSettings, settings, "--settings")
    step.transfer(data, source, chosen, out, Runtime(device, threads, compaction, precision=precision))
