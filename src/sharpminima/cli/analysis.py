"""Commands that measure trained nets: one an analysis of the catalogue."""

from collections.abc import Callable
from inspect import signature

import typer

from sharpminima.base.errors import ConfigError, PluginError
from sharpminima.catalogue.analyses import ANALYSES, Analysis, of_dense
from sharpminima.catalogue.brought import described, running
from sharpminima.cli.options import (
    DataFile,
    DenseNetFile,
    Device,
    GradualFile,
    OutFile,
    RewindFile,
    SettingsText,
    Threads,
)

commands = typer.Typer()
_CONTRACT = "its code takes (data, gradual, rewind, settings, out, runtime) and writes its table to out"


def _analysis(analysis: Analysis) -> Callable[..., None]:
    """The command of one analysis; all have the same options, but for the dense net that few measure."""

    def command(
        data: DataFile,
        gradual: GradualFile,
        rewind: RewindFile,
        out: OutFile,
        dense: DenseNetFile = None,
        settings: SettingsText = "{}",
        device: Device = "auto",
        threads: Threads = 1,
    ) -> None:
        from sharpminima.steps.job import Runtime
        from sharpminima.study.read import parse_settings

        chosen = parse_settings(analysis.settings, settings, "--settings")
        if of_dense(chosen) != (dense is not None):
            cure = "give the dense net by --dense" if dense is None else "leave --dense out, or say dense: true"
            raise ConfigError(f"--settings: dense: {str(of_dense(chosen)).lower()}; {cure}")
        more = {} if dense is None else {"dense": dense}
        with running("analysis", analysis.name, _CONTRACT):
            analysis.load()(data, gradual, rewind, chosen, out, Runtime(device, threads), **more)
        if not out.exists():
            raise PluginError(f"{described('analysis', analysis.name)}: has not written {out}; {_CONTRACT}")

    if "dense" not in analysis.settings.model_fields:
        known = signature(command)
        left = [parameter for name, parameter in known.parameters.items() if name != "dense"]
        command.__signature__ = known.replace(parameters=left)  # type: ignore[attr-defined] # which typer reads
    return command


def add_commands() -> None:
    """Add a command for each analysis that is known and has none."""
    there = {command.name for command in commands.registered_commands}
    for entry in ANALYSES.values():
        if entry.name not in there:
            commands.command(entry.name, help=entry.help)(_analysis(entry))


add_commands()
