"""What commands share: their options, and the study that these name."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from sharpminima.base.names import checked_level
from sharpminima.base.settings import HIGHEST_SEED, MOST_THREADS

if TYPE_CHECKING:
    from sharpminima.catalogue.recipes import PspEntropySettings
    from sharpminima.study.jobs import Layout


def known_studies() -> list[str]:
    """For the completion of a shell: the studies of this checkout."""
    from sharpminima.study.listing import study_names

    return study_names()


DataFile = Annotated[Path, typer.Option("--data", help="Prepared dataset (sharpminima prepare).")]
InitFile = Annotated[Path, typer.Option("--init", help="W0 of the run (sharpminima init).")]
Seed = Annotated[int, typer.Option("--seed", min=0, max=HIGHEST_SEED, help="Seed of the whole run.")]


def _writable(out: Path) -> Path:
    """An output's path, looked at before hours of work: its folder, or the one that it will be made in."""
    above = next(folder for folder in (out.absolute(), *out.absolute().parents) if folder.exists())
    if above == out.absolute() and not out.is_dir():
        above = above.parent
    if not above.is_dir() or not os.access(above, os.W_OK | os.X_OK):
        raise typer.BadParameter(f"{out} cannot be written ({above} is no folder you may write to); choose another")
    return out


def _writable_file(out: Path) -> Path:
    if out.is_dir():
        raise typer.BadParameter(f"{out} is a folder; name a file in it")
    return _writable(out)


def _writable_folder(out: Path) -> Path:
    if out.exists() and not out.is_dir():
        raise typer.BadParameter(f"{out} is a file; name a folder")
    return _writable(out)


def out_folder(help_text: str) -> Any:
    """The option of a folder that a command writes into."""
    return typer.Option("--out", callback=_writable_folder, help=help_text)


OutFile = Annotated[Path, typer.Option("--out", callback=_writable_file, help="File to write.")]
OutFolder = Annotated[Path, out_folder("Folder for checkpoint.safetensors and history.csv.")]
SettingsText = Annotated[str, typer.Option("--settings", help="Settings as YAML or JSON text, or a file of them.")]
Device = Annotated[Literal["auto", "cpu", "cuda"], typer.Option("--device", help="Where it computes.")]


def _ascending(levels: list[float]) -> list[float]:
    if not all(0 < level < 1 for level in levels) or levels != sorted(set(levels)):
        given = ", ".join(f"{level:g}" for level in levels)
        raise typer.BadParameter(f"{given} given; shares in (0, 1) are needed, ascending, such as 0.5 and 0.9")
    try:
        return [checked_level(level) for level in levels]
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


Levels = Annotated[
    list[float], typer.Option("--level", callback=_ascending, help="Requested sparsity in (0, 1); repeat, ascending.")
]
Threads = Annotated[int, typer.Option("--threads", min=1, max=MOST_THREADS, help="CPU threads; part of the result.")]
Compaction = Annotated[
    bool,
    typer.Option("--compaction/--no-compaction", help="Train without the dead units of a mask; exact up to rounding."),
]
ReplicaStrategy = Annotated[
    Literal["auto", "loop", "batched"],
    typer.Option("--replica-strategy", help="Train replicas in a loop, or as one batched model (auto: on CUDA)."),
]
Precision = Annotated[
    Literal["float32", "tf32", "bfloat16"],
    typer.Option("--precision", help="Of training; tf32 (CUDA) and bfloat16 are faster and coarser."),
]
Entropy = Annotated[
    str | None,
    typer.Option("--psp-entropy", help="PSP-entropy in what is minimised: beta, tau, order, as YAML or JSON."),
]
GradualFile = Annotated[Path, typer.Option("--gradual", help="Checkpoint of the pruning method at the level (G).")]
RewindFile = Annotated[Path, typer.Option("--rewind", help="Checkpoint of the strategy rewind there (1-S).")]
DenseNetFile = Annotated[
    Path | None,
    typer.Option("--dense", help="Checkpoint of the run's dense net, where the settings have dense: true."),
]
StageName = Annotated[Literal["runs", "analysis"], typer.Argument(help="runs or analysis.")]
StudyName = Annotated[
    str | None,
    typer.Option("--study", help="A study; default: the one that config.yaml names.", autocompletion=known_studies),
]
Checkpoints = Annotated[
    list[Path] | None, typer.Argument(help="Checkpoints, in the order of the rows; default: all of the study.")
]
ConfigText = Annotated[str | None, typer.Option("--config", help="YAML or JSON in place of config.yaml.")]


def entropy_of(text: str | None) -> "PspEntropySettings | None":
    """The settings that `--psp-entropy` holds."""
    from sharpminima.catalogue.recipes import PspEntropySettings
    from sharpminima.study.read import parse_settings

    return None if text is None else parse_settings(PspEntropySettings, text, "--psp-entropy")


def layout_of(study: str | None, config: str | None = None) -> "Layout":
    """The layout of a study."""
    from sharpminima.study.jobs import Layout
    from sharpminima.study.read import read_config

    return Layout(*read_config(study, config))


def warn_of_stale(layout: "Layout", read: Iterable[str], config: str | None = None) -> None:
    """Say which of the results that a command is about to read are not of the study as it is now.

    Args:
        read: their paths.
        config: what a rule of Snakemake has handed to the command, which then reads what has just been made.
    """
    from sharpminima.tracking import stale

    if config is None and (message := stale(layout, read)):
        typer.echo(f"warning: {message}", err=True)


def checkpoints_of(study: str | None, config: str | None) -> list[Path]:
    """All checkpoints of a study: too many for a command line, which a system cuts off at 128 KiB."""
    layout = layout_of(study, config)
    paths = layout.checkpoints()
    warn_of_stale(layout, paths, config)
    return [Path(path) for path in paths]
