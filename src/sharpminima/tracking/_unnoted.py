"""Files of which nobody knows what made them."""

from pathlib import Path

from sharpminima.study.jobs import Layout
from sharpminima.study.paths import STAGES
from sharpminima.tracking._notes import Notes


def unnoted(layout: Layout) -> str | None:
    """What a user should know of nets and tables that are there, and of which Snakemake has no note.

    It takes such files as up to date whatever the settings are: they may be one's own, or of settings since edited.
    """
    notes = Notes()
    outputs = (path for stage in STAGES for job in layout.stage_jobs(stage) for path in job.outputs)
    found = [path for path in outputs if Path(path).exists() and notes.read(path) is None]
    if not found:
        return None
    named = found[0] + (f" and {len(found) - 1} more" if len(found) > 1 else "")
    return (
        f"{named}: there is no note of what made them (.snakemake was removed, or they were put there by hand), so "
        "they are taken as they are, whatever the settings are now; remove what should be made again"
    )
