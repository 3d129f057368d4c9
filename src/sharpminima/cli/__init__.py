"""The command line: each step of the pipeline is a command; the rules of Snakemake call these and nothing else."""

import errno
import gc
import os
import sys
import warnings
from typing import Annotated, Any

import typer
import typer.core

import sharpminima
from sharpminima.base.errors import ConfigError, SharpminimaError
from sharpminima.base.extras import extra_of
from sharpminima.base.stop import STOP, Stopped
from sharpminima.catalogue import plugins
from sharpminima.catalogue.brought import fault_of
from sharpminima.cli import analysis, report, study, tracking, training


class _Group(typer.core.TyperGroup):
    """The commands; what Typer would print as "Aborted!" says what has happened."""

    def invoke(self, ctx: typer.Context) -> Any:  # type: ignore[override] # typer's own base takes its copy of click's
        """For Typer."""
        try:
            return super().invoke(ctx)
        except EOFError as error:
            raise fault_of(error) or SharpminimaError(
                f"a file that was read ends too early ({error or 'EOFError'}); remove what was written last, so that "
                "it is made again"
            ) from error


app = typer.Typer(
    name="sharpminima",
    cls=_Group,
    help="Sharp minima of gradually pruned nets: training, pruning, analysis and figures, step by step.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Every command takes --plugin FILE, repeated: what brings methods, models, datasets, analyses and figures.",
)
for _part in (training, analysis, report, tracking, study):  # the order of the help text
    app.add_typer(_part.commands)


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


def main() -> None:
    """Run the command line; an error that a user can cure is one line, exit status 1."""
    # Libraries read these when they load; the recorded setting is applied by each step.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    # Loading torch makes 200,000 objects that stay, and to go through them 488 times took an eighth of the loading.
    gc.set_threshold(200_000)
    warnings.showwarning = _show_warning
    STOP.install()
    try:
        arguments, stated = _without_plugins(sys.argv[1:])
        plugins.use_stated(stated)
        analysis.add_commands()
        app(arguments)
    except Stopped as stopped:
        typer.echo(f"sharpminima: {stopped}", err=True)
        sys.exit(128 + STOP.signal)
    except KeyboardInterrupt:  # while plug-ins are read; within a command Typer says the same
        typer.echo("Aborted!", err=True)
        sys.exit(1)
    except (Exception, SystemExit) as error:
        if (said := _said_of(error)) is None:
            raise
        sys.exit(f"error: {said}")


def _said_of(error: BaseException) -> str | None:
    """The line that an error is for its user; None where it is none that a user can cure."""
    if isinstance(error, SharpminimaError):
        return str(error)
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return f"{error.filename or 'a file'}: cannot be written ({error.strerror}); free some space"
    if isinstance(error, ModuleNotFoundError) and (extra := extra_of(error)):
        return f"{str(error.name).partition('.')[0]} is not installed; pip install 'sharpminima[{extra}]' brings it"
    fault = fault_of(error)
    return None if fault is None else str(fault)


def _without_plugins(arguments: list[str]) -> tuple[list[str], list[str]]:
    """A command line without ``--plugin``, and what it gave: an analysis that a plug-in brings is a command."""
    kept: list[str] = []
    stated: list[str] = []
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
