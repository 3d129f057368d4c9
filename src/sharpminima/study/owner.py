"""Whose results a folder holds: studies of one file name, in folders of their own, would share theirs."""

import os
from pathlib import Path

from sharpminima.base.files import write_text

RECORD = "study.txt"
"""The file in a study's folder of results that leads to the study's file."""


def note_owner(study: Path, results: Path) -> None:
    """Note in a folder of results which study they are of.

    The path is one from the folder, so that a project that is moved or copied as a whole finds its own.

    Args:
        study: the study's file.
        results: its folder of results; made where it is missing.

    Raises:
        SharpminimaError: the folder cannot be written.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as project:
    ...     for folder in ("a", "b"):
    ...         Path(project, folder).mkdir()
    ...         Path(project, folder, "mine.yaml").touch()
    ...     note_owner(Path(project, "a/mine.yaml"), Path(project, "results/mine"))
    ...     print(Path(project, "results/mine/study.txt").read_text(), end="")
    ...     other_owner(Path(project, "b/mine.yaml"), Path(project, "results/mine")) is not None
    ../../a/mine.yaml
    True
    """
    line = f"{os.path.relpath(study.resolve(), results.resolve())}\n"
    record = results / RECORD
    if not record.is_file() or record.read_text(encoding="utf-8") != line:
        write_text(record, line)


def other_owner(study: Path, results: Path) -> Path | None:
    """The study that a folder of results is of, where it is another one than ``study``; None: none that is there.

    A study whose file is gone was moved, renamed or given up: its results are of whoever names them now.
    """
    try:
        line = (results / RECORD).read_text(encoding="utf-8").strip()
        owner = Path(os.path.normpath(results.resolve() / line))
        return None if not owner.is_file() or owner.samefile(study) else owner
    except (OSError, ValueError):  # no record, or one that nobody can read
        return None
