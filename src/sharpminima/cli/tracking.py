"""Commands that keep results in DVC."""

from typing import Annotated

import typer

from sharpminima.base.errors import ConfigError
from sharpminima.cli.options import (
    StageName,
    StudyName,
    layout_of,
)

commands = typer.Typer()


@commands.command()
def settings(study: StudyName = None) -> None:
    """Write the settings of training and of analysis, on which DVC's stages depend."""
    from sharpminima.study.paths import STAGES
    from sharpminima.tracking import write_settings

    for stage in STAGES:
        write_settings(layout_of(study), stage)


@commands.command()
def restore(stage: StageName, study: StudyName = None) -> None:
    """Bring back what DVC tracks of a stage, check it, and let Snakemake take it as made."""
    from sharpminima.tracking import restore as restore_stage

    restore_stage(layout_of(study), stage)


@commands.command()
def record(stage: StageName, study: StudyName = None) -> None:
    """Record what made each file of a stage, beside the files."""
    from sharpminima.tracking import write_record

    write_record(layout_of(study), stage)


@commands.command()
def track(
    studies: Annotated[
        list[str] | None, typer.Argument(help="Those to record, of the ones that dvc.yaml tracks.  [default: all]")
    ] = None,
    *,
    push: Annotated[bool, typer.Option("--push/--no-push", help="Push to the default remote.")] = True,
    finished: Annotated[
        str | None,
        typer.Option("--finished", metavar="STUDY", help="Record the finished jobs of a study under way instead."),
    ] = None,
    without_nets: Annotated[
        str | None,
        typer.Option("--without-nets", metavar="STUDY", help="Record a complete study without its nets instead."),
    ] = None,
) -> None:
    """After a Snakemake run: record the tracked studies in DVC."""
    from sharpminima.tracking import track as track_studies
    from sharpminima.tracking import track_finished, track_without_nets

    if bool(studies) + (finished is not None) + (without_nets is not None) > 1:
        raise ConfigError("track: either names of tracked studies, or --finished STUDY, or --without-nets STUDY")
    if finished is not None:
        jobs, files = track_finished(layout_of(finished), push=push)
        typer.echo(f"recorded {jobs} finished jobs of {finished}; commit {', '.join(files)} and data/store together")
        return
    if without_nets is not None:
        layout = layout_of(without_nets)
        files = [*track_without_nets(layout, push=push), ".dvcignore", f"workflow/studies/{layout.name}.sha256"]
        typer.echo(f"recorded {without_nets} without its nets; commit {', '.join(files)} and data/store together")
        return
    recorded = track_studies(studies or (), push=push)
    changed = "dvc.lock, .dvcignore, workflow/studies/*.sha256 and data/store"
    typer.echo(f"recorded {', '.join(recorded)}; commit {changed} together")
