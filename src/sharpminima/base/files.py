"""Files that appear whole or not at all, and their hashes."""

import bz2
import contextlib
import csv
import errno
import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from sharpminima.base.errors import SharpminimaError

COMPRESSED = ".bz2"  # what the names of compressed tables end in
_UMASK = os.umask(0o077)
os.umask(_UMASK)


@contextlib.contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a scratch path beside ``path``; on success it is flushed to disk and renamed to ``path``.

    Whatever goes wrong meanwhile, ``path`` keeps its old content and the scratch file is removed.

    Raises:
        SharpminimaError: the folder or the file cannot be written (disk full, no permission).
    """
    path = Path(path)
    scratch = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield scratch
        scratch.chmod(0o666 & ~_UMASK)  # some writers create files that only their owner can read
        with scratch.open("rb") as file:
            os.fsync(file.fileno())
        scratch.replace(path)
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        cure = "free some space or choose another folder" if full else "check the folder"
        raise SharpminimaError(f"{path}: cannot be written ({error.strerror or error}); {cure}") from error
    finally:
        with contextlib.suppress(OSError):
            scratch.unlink()


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write a UTF-8 text file with Unix line ends, whole or not at all."""
    with atomic_path(path) as scratch:
        scratch.write_text(text, encoding="utf-8", newline="\n")


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """Write ``value`` as indented JSON with sorted keys; equal values give equal bytes.

    Raises:
        ValueError: a number is NaN or infinite, which JSON does not know.
    """
    write_text(path, json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n")


def read_json(path: str | os.PathLike[str]) -> Any:
    """Read a JSON file.

    Raises:
        SharpminimaError: the file is missing or is not JSON.
    """
    path = Path(path)
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SharpminimaError(f"{path}: cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise SharpminimaError(f"{path}: is not JSON ({error}); remove it, so that it is made again") from error


def write_csv(path: str | os.PathLike[str], rows: Iterable[Mapping[str, Any]], columns: list[str]) -> None:
    """Write tidy rows; floats with the digits that restore their exact bits, None as an empty field.

    Args:
        path: compressed where it ends in `COMPRESSED`, to the same bytes at any time.
        rows: one mapping a row.
        columns: the keys of every row, in the order of the table.

    Raises:
        ValueError: a row lacks a column or has one that ``columns`` does not name.
    """
    opened = bz2.open if Path(path).suffix == COMPRESSED else open
    with atomic_path(path) as scratch, opened(scratch, "wt", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        for row in rows:
            if set(row) != set(columns):
                raise ValueError(f"{path}: a row has {sorted(row)}, the table {sorted(columns)}")
            writer.writerow([row[column] for column in columns])


def sha256_file(path: str | os.PathLike[str]) -> str:
    """SHA-256 of a file's bytes, in hex."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
