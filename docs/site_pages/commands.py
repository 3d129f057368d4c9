"""The command line, from typer."""

import click
from typer.main import get_command

from sharpminima.cli import analysis, app
from site_pages.text import prose


def commands() -> str:
    """A section a command: what it is for, its usage, its arguments and options."""
    analysis.add_commands()
    group = get_command(app)
    parts = []
    for name, command in group.commands.items():  # type: ignore[attr-defined]
        context = click.Context(command, info_name=f"sharpminima {name}")
        usage = " ".join([f"sharpminima {name}", *command.collect_usage_pieces(context)])
        parts += [
            name,
            "-" * len(name),
            "",
            prose(command.help or ""),
            "",
            ".. code-block:: text",
            "",
            f"   {usage}",
            "",
        ]
        parts += [row for parameter in command.params for row in _row(parameter, context)]
        parts.append("")
    return "\n".join(parts)


def _row(parameter: click.Parameter, context: click.Context) -> list[str]:
    """An item of a definition list; --help has none."""
    record = parameter.get_help_record(context)
    if record is None or "--help" in record[0]:
        return []
    said = prose(record[1]) or "see above"
    return [f"``{record[0]}``", f"   {said}", ""]
