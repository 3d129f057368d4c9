"""Snakemake's notes on what made a file, through its own persistence layer."""

from collections.abc import Iterable
from typing import Any, Literal, TypedDict

from sharpminima.base.errors import SharpminimaError

COMPARED: tuple[Literal["rule", "params", "input", "code"], ...] = ("rule", "params", "input", "code")
"""What of a note decides whether a file is made again, beside times."""
TIME_TOLERANCE_S = 1e-3
"""Of Snakemake's times, which are floating-point seconds."""


class Made(TypedDict):
    """How a job made a file, as Snakemake notes it."""

    rule: str
    params: list[Any]
    input: list[str]  # paths
    code: Any
    shellcmd: str | None


class Note(Made):
    """What stands in a note."""

    endtime: float  # the file's time of modification then, s


class Notes:
    """The notes in ``.snakemake`` of the current folder."""

    def __init__(self) -> None:
        try:
            from snakemake.persistence import RECORD_FORMAT_VERSION, MetadataRecord
            from snakemake.persistence.file import FilePersistence
        except ImportError as error:
            raise SharpminimaError(f"Snakemake 9.27 is needed ({error}); install requirements.lock") from error
        self._record, self._version = MetadataRecord, RECORD_FORMAT_VERSION
        self._files = FilePersistence(nolock=True)

    def read(self, path: str) -> Note | None:
        """What made ``path``; None without a note."""
        note = self._files._read_record(path)
        if note is None:
            return None
        return {
            "rule": note["rule"],
            "params": note["params"],
            "input": note["input"],
            "code": note["code"],
            "shellcmd": note["shellcmd"],
            "endtime": note["endtime"],
        }

    def interrupted(self, paths: Iterable[str]) -> list[str]:
        """Those of the paths that a job has begun to make, and not ended."""
        return sorted(self._files._filter_incomplete_keys(paths))

    def write(self, path: str, made: Made, checksums: dict[str, str], mtime_ns: int) -> None:
        """Note that ``path``, of that time, was made so, out of inputs with these SHA-256."""
        note = self._record(
            **{name: made[name] for name in COMPARED},
            shellcmd=made["shellcmd"],
            record_format_version=self._version,
            incomplete=False,
            starttime=mtime_ns / 1e9,
            endtime=mtime_ns / 1e9,
            input_checksums={name: f"sha256:{digest}" for name, digest in checksums.items()},
        )
        self._files._write_record(path, note)
        self._files._clear_cache()
