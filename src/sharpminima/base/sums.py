"""SHA-256 of the tables that jobs have made here, so that one that was cut off or edited since is not read as made.

They lie in Snakemake's folder, not beside the tables: what DVC tracks, and what a step leaves, stay the same. A table
that DVC has brought is known by the record of its stage.
"""

import hashlib
import os
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from sharpminima.base.errors import SharpminimaError
from sharpminima.base.files import read_json, sha256_file, write_csv, write_text

_SNAKEMAKE = Path(".snakemake")
_SUMS = _SNAKEMAKE / "sharpminima" / "sums"
_RECORDS = ("analysis/record.json", "runs/record.json")  # below a study's folder


def note_sum(path: str | os.PathLike[str]) -> None:
    """Note the SHA-256 of a file that was made just now; nothing outside a folder in which Snakemake runs."""
    if _SNAKEMAKE.is_dir():
        write_text(_note(path), f"{sha256_file(path)}\n")


def write_table(path: str | os.PathLike[str], rows: Iterable[Mapping[str, Any]], columns: list[str]) -> None:
    """A table as `sharpminima.base.files.write_csv` writes it, and its SHA-256 noted.

    Raises:
        ValueError: a row lacks a column or has one that ``columns`` does not name.
    """
    write_csv(path, rows, columns)
    note_sum(path)


def check_sum(path: str | os.PathLike[str]) -> None:
    """Refuse a file that is neither as it was made here nor as it was recorded; one that nobody has noted is taken.

    Raises:
        SharpminimaError: it was cut off or edited.
    """
    known = _recorded(Path(path))
    if (note := _note(path)).is_file():
        known = [*known, note.read_text(encoding="utf-8").strip()]
    if known and Path(path).is_file() and sha256_file(path) not in known:
        raise SharpminimaError(
            f"{path}: was cut off or edited after it was made; `dvc pull --force {path}` brings back what DVC tracks, "
            "or remove it, so that it is made again"
        )


def _note(path: str | os.PathLike[str]) -> Path:
    return _SUMS / hashlib.sha256(os.path.relpath(path).encode()).hexdigest()


def _recorded(path: Path) -> list[str]:
    """The SHA-256 that the record of a study's stage has for a file."""
    for folder in path.absolute().parents:
        records = [folder / name for name in _RECORDS if (folder / name).is_file()]
        if records:
            ending = f"{folder.name}/{path.absolute().relative_to(folder).as_posix()}"
            return [
                digest
                for record in records
                for made, digest in _outputs(record, record.stat().st_mtime_ns)
                if made == ending or made.endswith(f"/{ending}")
            ]
    return []


@lru_cache(maxsize=8)
def _outputs(record: Path, mtime_ns: int) -> list[tuple[str, str]]:
    try:
        return [pair for job in read_json(record)["jobs"] for pair in job["outputs"].items()]
    except (AttributeError, KeyError, TypeError) as error:
        raise SharpminimaError(
            f"{record}: is no record of a stage; `dvc pull --force {record}` brings it back"
        ) from error
