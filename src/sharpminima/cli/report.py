"""Commands that make tables, figures, numbers and the paper."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sharpminima.base.errors import ConfigError
from sharpminima.catalogue.figures import FIGURES
from sharpminima.cli.options import (
    Checkpoints,
    ConfigText,
    OutFile,
    StudyName,
    checkpoints_of,
    layout_of,
    warn_of_stale,
)

if TYPE_CHECKING:
    import pandas as pd

commands = typer.Typer()


@commands.command()
def table(
    out: OutFile,
    density: Annotated[Path, typer.Option("--density", help="Table of per-layer densities to write.")],
    checkpoint: Checkpoints = None,
    study: StudyName = None,
    config: ConfigText = None,
) -> None:
    """Collect the results of trained nets: errors, losses, sparsity and counts."""
    from sharpminima.steps import tables

    tables.results(checkpoint or checkpoints_of(study, config), out, density)


@commands.command()
def measures(
    out: OutFile,
    checkpoint: Checkpoints = None,
    study: StudyName = None,
    config: ConfigText = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print it for a page, a row a method.")] = False,
) -> None:
    """Collect all that methods report: counts over both denominators, errors, epochs, seconds and memory."""
    from sharpminima.steps import tables

    tables.measures(checkpoint or checkpoints_of(study, config), out)
    if markdown:
        from sharpminima.report.methods_table import sizes_as_markdown
        from sharpminima.report.tables import read_table

        typer.echo(sizes_as_markdown(read_table("measures", out)))


@commands.command()
def ranking(
    results: Annotated[Path, typer.Option("--results", help="Table of results.")],
    out: OutFile,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print it for a page, a row a method.")] = False,
) -> None:
    """Rank methods at each level by their own nets' mean test error, with its interval over runs."""
    from sharpminima.base.sums import write_table
    from sharpminima.catalogue.columns import RANKING_COLUMNS
    from sharpminima.report import methods_table, tables

    ranked = tables.ranking(tables.read_table("results", results))
    write_table(out, _rows(ranked), RANKING_COLUMNS)
    if markdown:
        typer.echo(methods_table.as_markdown(ranked))


@commands.command()
def published(
    results: Annotated[Path, typer.Option("--results", help="Table of results.")],
    errors: Annotated[Path, typer.Option("--errors", help="Table of published errors.")],
    out: OutFile,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print it for a page, a row a published error.")] = False,
) -> None:
    """Set methods' nets on MNIST beside what their authors have published, at the nearest density."""
    from sharpminima.base.sums import write_table
    from sharpminima.catalogue.columns import BESIDE_PUBLISHED_COLUMNS
    from sharpminima.report import methods_table, tables
    from sharpminima.report.published import beside_published

    theirs = tables.read_table("published_errors", errors)
    rows = beside_published(tables.read_table("results", results), theirs)
    write_table(out, _rows(rows), BESIDE_PUBLISHED_COLUMNS)
    if markdown:
        typer.echo(methods_table.published_as_markdown(rows))


def _rows(table: "pd.DataFrame") -> list[dict[Any, Any]]:
    """As they are written, with nothing where a value is missing."""
    return table.astype(object).where(table.notna(), None).to_dict("records")


@commands.command()
def figure(
    notebook: Annotated[Path, typer.Argument(help="Notebook with a cell tagged `parameters`.")],
    out: Annotated[Path, typer.Option("--out", help="Figure without extension: gets .pdf, .svg, .html.")],
    parameters: Annotated[str, typer.Option("--parameters", help="Parameters as YAML or JSON.")] = "{}",
) -> None:
    """Execute a figure's notebook; a failed cell or an unknown parameter is an error."""
    from sharpminima.base.yaml_input import parse_mapping
    from sharpminima.report.notebook import execute

    execute(notebook, out, parse_mapping(parameters, "--parameters"))


@commands.command()
def numbers(
    results: Annotated[Path, typer.Option("--results", help="Table of results.")],
    out: OutFile,
    claims: Annotated[Path, typer.Option("--claims", help="The claims ledger.")] = Path("paper/claims.yaml"),
    measured: Annotated[
        list[str] | None,
        typer.Option("--table", metavar="<analysis=path>", help="A table of an analysis, as psp=PATH; repeat."),
    ] = None,
    transfer: Annotated[list[Path] | None, typer.Option("--transfer", help="Transfer tables; repeat.")] = None,
    study: Annotated[str, typer.Option("--study", help="Facts of the study as JSON.")] = "{}",
    metrics: Annotated[Path | None, typer.Option("--metrics", help="The main ones, for `dvc metrics`.")] = None,
) -> None:
    """Summarise the tables as the numbers that the paper's text and tables show."""
    from sharpminima.base.files import read_json, write_json
    from sharpminima.base.sums import note_sum
    from sharpminima.base.yaml_input import parse_mapping
    from sharpminima.report.metrics import main_numbers
    from sharpminima.report.numbers import summarise, tables_by_name

    facts = parse_mapping(study, "--study")
    summarise(results, tables_by_name(measured or []), claims, facts, out, transfer=transfer or [])
    note_sum(out)
    if metrics is not None:
        write_json(metrics, main_numbers(read_json(out)))


@commands.command()
def claims(
    study: StudyName = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="A table, without the other readings.")] = False,
) -> None:
    """Print the paper's claims, what a study measured, and the verdicts.

    A warning names the tables that are not of the study as it is now.
    """
    from sharpminima.base.files import read_json

    layout = layout_of(study)
    numbers = Path(layout.numbers())
    if not numbers.is_file():
        raise ConfigError(
            f"{numbers}: is missing; `snakemake --cores all --config study={layout.config.study} -- numbers` makes it"
        )
    warn_of_stale(layout, [str(numbers), *layout.numbers_job().inputs])
    from sharpminima.report.claims import as_markdown, as_text, settings_text  # once there is a checkout, and a study

    found = read_json(numbers)
    typer.echo(as_markdown(found["claims"]) if markdown else as_text(found["claims"]))
    if not markdown and (settings := found.get("by_settings")):  # numbers made before there were settings have none
        typer.echo(settings_text(settings))


@commands.command()
def explore(
    study: Annotated[str, typer.Argument(help="A study in workflow/studies, or the path of one.")],
    config: ConfigText = None,
) -> None:
    """Write one HTML file of a finished study, to look through: charts that filter and turn, claims, origins."""
    layout = layout_of(study, config)
    warn_of_stale(layout, layout.explore_job().inputs, config)
    from sharpminima.explore import write_page  # once there is a checkout, and a study in it

    typer.echo(write_page(layout))


@commands.command()
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


@commands.command()
def provenance(
    figure: Annotated[
        list[str], typer.Argument(help="Figures of the study: fig1 ...", autocompletion=lambda: [*FIGURES])
    ],
    study: StudyName = None,
    config: ConfigText = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    write: Annotated[bool, typer.Option("--write", help="Write JSON beside each figure; print nothing.")] = False,
) -> None:
    """What a figure comes from: notebook, tables, checkpoints and masks, settings, data, version."""
    import json

    layout = layout_of(study, config)
    from sharpminima.report.provenance import chain, lines, write_chains  # once there is a checkout

    if write:
        write_chains(layout, figure)
        return
    chains = [chain(layout, name) for name in figure]
    warn_of_stale(layout, [path for job in layout.ancestry(*figure) for path in job.outputs], config)
    for origins in chains:
        typer.echo(json.dumps(origins, indent=2, sort_keys=True) if as_json else "\n".join(lines(origins)))
