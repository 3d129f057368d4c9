"""What Snakemake removes before a job runs, kept for the job: cells whose draws it may take over."""

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path

from sharpminima.base.names import aside


def set_aside(outputs: Iterable[str]) -> None:
    """Give the files of a cell that is to be made again a second name, under which its job finds them.

    Links, which take no space. On a drive without them the job makes all anew.
    """
    paths = [Path(output) for output in outputs]
    if not all(path.is_file() for path in paths):  # what a killed run has set aside, of files removed since, stays
        return
    second = [path.with_name(aside(path.name)) for path in paths]
    for name in second:
        name.unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        for path, name in zip(paths, second, strict=True):
            os.link(path, name)
