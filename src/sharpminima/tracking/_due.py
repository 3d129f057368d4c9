"""What Snakemake would make now, by its own word: results that are there may be of settings since edited."""

from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path

from sharpminima.study.jobs import Layout
from sharpminima.tracking._notes import Notes
from sharpminima.tracking._restore import named, snakemake

_SNAKEFILES = ("Snakefile", "workflow/Snakefile")  # where Snakemake looks
_PENDING = "update pending"
_COLUMNS = 6  # of a row of `snakemake --summary`: file, date, rule, logs, status, plan


def due(layout: Layout) -> set[str] | None:
    """The files that Snakemake would make, were it run on the study now, those that are there included.

    Stale ones are of other settings, code or inputs than those of today, or of a job that was interrupted. To ask takes
    seconds, and is spared where nothing of the study is there.

    Returns:
        Their paths; None where what is not there is what is to be made: nothing is, or here is no Snakemake to ask.

    Raises:
        SharpminimaError: Snakemake cannot read the rules or the study, or is of another version.
    """
    made = [path for job in layout.all_jobs() for path in job.outputs if Path(path).exists()]
    rules = any(Path(name).is_file() for name in _SNAKEFILES)
    if not made or not rules or find_spec("snakemake") is None:  # to read results, the extra `report` is enough
        return None
    # A summary passes over the marks of interrupted jobs, of which a run makes the files again.
    forced = Notes().interrupted(made)
    printed = snakemake(layout, "--summary", *(["--forcerun", *forced] if forced else []))
    rows = [line.split("\t") for line in printed.splitlines()]
    return {row[0] for row in rows if len(row) == _COLUMNS and row[-1] == _PENDING}


def stale(layout: Layout, read: Iterable[str]) -> str | None:
    """What a user should know of files that are there, about to be read, and that Snakemake would make anew.

    Args:
        read: their paths; those that are not there are for the reader to miss.

    Raises:
        SharpminimaError: as `due`.
    """
    pending = due(layout) or set()
    outdated = [path for path in dict.fromkeys(read) if path in pending and Path(path).exists()]
    if not outdated:
        return None
    return (
        f"{named(outdated)}: not of the study {layout.name} as it is now, but of settings, inputs or code from before "
        f"a change, or of an interrupted job; `snakemake --cores all --config study={layout.config.study}` makes anew "
        "what has changed"
    )
