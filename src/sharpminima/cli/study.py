"""Commands about studies: what one may name, and what one will take."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sharpminima.base.errors import ConfigError
from sharpminima.cli.options import known_studies, layout_of, warn_of_stale

if TYPE_CHECKING:
    from sharpminima.doctor import Finding
    from sharpminima.study.jobs import Layout

commands = typer.Typer()

_REMOVES = {
    "weights": "single weights, to exactly the number asked for",
    "at most": "single weights, to the number asked for or beyond it",
    "units": "filters and hidden units, to the number asked for within one; the model must have such",
    "structures": "kernels, or positions within them, and weights of linear layers, to the number asked for within one",
    "none": "what its strengths or thresholds find; levels have what was reached",
}


@commands.command()
def methods() -> None:
    """List the pruning methods: name, kind, paper, what they remove, settings with their defaults, published recipe.

    Below that what the recipe came to: in the study methods-published where it is done here, else as that was measured.
    """
    from sharpminima.catalogue.methods import METHODS

    came_to = _came_to()
    for name, method in METHODS.items():
        settings = method.settings()
        # Not their dump, which leaves out what was added to settings since and is at its default.
        shown = type(settings).model_fields.keys() - {"revision", "dense", "recipe"}
        fields = [(key, field) for key, field in type(settings).model_fields.items() if key in shown]
        defaults = ", ".join(f"{field.alias or key}: {_shown(getattr(settings, key))}" for key, field in fields)
        typer.echo(f"{name} ({method.kind}): {method.paper}")
        typer.echo(f"  removes {_REMOVES[method.dial]}")
        typer.echo(f"  {defaults}")
        published = settings.published
        source = f"({published.source})" if published else f"is not offered: {settings.not_offered}"
        typer.echo(f"  recipe: published {source}")
        for line in came_to.get(name, []):
            typer.echo(f"    {line}")


def _came_to() -> dict[str, list[str]]:
    """Method -> what its nets by the published recipe came to; nothing outside a checkout."""
    import csv

    from sharpminima.base.sums import check_sum
    from sharpminima.report.rounding import fixed
    from sharpminima.study.paths import BY_PUBLISHED_RECIPES, MEASURED_BY_PUBLISHED_RECIPES
    from sharpminima.study.read import CONFIG_FILE, STUDIES

    if not CONFIG_FILE.is_file() or not (STUDIES / f"{BY_PUBLISHED_RECIPES}.yaml").is_file():
        return {}
    layout = layout_of(BY_PUBLISHED_RECIPES)
    table = Path(layout.table("published"))
    if table.is_file():
        warn_of_stale(layout, [str(table)])
        check_sum(table)
    else:
        table = Path(MEASURED_BY_PUBLISHED_RECIPES)
    if not table.is_file():
        return {}
    lines: dict[str, list[str]] = {}
    with table.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            spread = f" ± {fixed(float(row['error_sd']), 2)}" if row["error_sd"] else ""
            ours = f"{fixed(float(row['error_mean']), 2)}{spread} % error at {float(row['density_mean']):.3g} % left"
            theirs, left = row["published_error_percent"], row["published_density_percent"]
            beside = f"published: {float(theirs):.2f} at {float(left):.3g}, " if theirs else ""
            lines.setdefault(row["method"], []).append(f"{ours}; {beside}{row['outcome']}")
    return lines


def _shown(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value


@commands.command()
def studies(
    study: Annotated[
        list[str] | None,
        typer.Argument(
            help="Those to list: a study in workflow/studies, or the path of one.  [default: all in workflow/studies]",
            autocompletion=known_studies,
        ),
    ] = None,
) -> None:
    """List the studies: jobs, hours, whether they are done, begun or tracked, and what each is about.

    Done is what Snakemake would not do again; of one that is begun, a few seconds go into asking it.
    """
    from sharpminima.study.listing import describe_studies, list_studies
    from sharpminima.tracking import due, tracked_studies

    tracked = tracked_studies() if Path("dvc.yaml").is_file() else []
    typer.echo(describe_studies(list_studies(tracked, study or (), due=due)))


@commands.command()
def plan(
    study: Annotated[
        str,
        typer.Argument(help="A study in workflow/studies, or the path of one.", autocompletion=known_studies),
    ],
    throughput: Annotated[
        Path | None,
        typer.Option("--throughput", help="Of your machine: a file that python -m benchmarks.training --json wrote."),
    ] = None,
    profile: Annotated[
        Path, typer.Option("--profile", help="The profile whose group-components say what shares a job.")
    ] = Path("profiles/slurm"),
) -> None:
    """Tell how many jobs a cluster gets from a study, how long they take, and the disk they need.

    To do is what Snakemake would do: results of settings since edited, and of interrupted jobs, are to be made again.
    """
    from sharpminima.report.claims import read_ledger
    from sharpminima.study.costs import MEASURED, Costs, Throughput
    from sharpminima.study.plan import describe, make_plan, read_components
    from sharpminima.tracking import due

    layout = layout_of(study)
    read_ledger(layout.study.ledger)
    costs = Costs(layout, Throughput.from_benchmark(throughput) if throughput else MEASURED)
    components = read_components(profile)
    typer.echo(describe(make_plan(layout, costs, components, due(layout)), layout, costs))


@commands.command()
def doctor(
    study: Annotated[
        str | None,
        typer.Argument(help="The study that is to run; default: that of config.yaml.", autocompletion=known_studies),
    ] = None,
) -> None:
    """Say what this machine lacks for a study, each with its cure; exit status 1 where something needed is missing."""
    from sharpminima.doctor import describe, examine_checkout, examine_machine
    from sharpminima.study.read import CONFIG_FILE

    layout = layout_of(study) if study is not None or CONFIG_FILE.is_file() else None
    if layout is None:
        what, findings = "the library (no config.yaml here, so no study)", [*examine_machine(pipeline=False)]
    else:
        what = f"the study {layout.name}"
        findings = [*examine_machine(layout.config.device), *examine_checkout(layout), *_faults_of_ledger(layout)]
    missing = sum(finding.grade == "missing" for finding in findings)
    typer.echo(describe(findings))
    typer.echo(f"for {what} {missing or 'nothing'} missing")
    if missing:
        raise typer.Exit(1)


def _faults_of_ledger(layout: "Layout") -> list["Finding"]:
    """A ledger of a study's own that cannot be read, which it needs after all else; the paper's is the checkout's."""
    from sharpminima.doctor import Finding
    from sharpminima.report.claims import read_ledger
    from sharpminima.study.schema import CLAIMS

    if layout.study.ledger == CLAIMS:
        return []
    try:
        read_ledger(layout.study.ledger)
    except ConfigError as error:
        return [Finding("ledger", "missing", str(error), "mend it, or name another: ledger, in the study's file")]
    return []


@commands.command()
def schema(
    folder: Annotated[Path, typer.Argument(help="Folder for config.schema.json and study.schema.json.")],
) -> None:
    """Write the JSON schemas of the config and the studies."""
    from sharpminima.base.files import write_json
    from sharpminima.study.read import study_schema
    from sharpminima.study.schema import Config

    write_json(folder / "config.schema.json", Config.model_json_schema())
    write_json(folder / "study.schema.json", study_schema())
