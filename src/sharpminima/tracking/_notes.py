"""Snakemake's notes on what made a file, through its own persistence layer."""

from typing import Any

from sharpminima.base.errors import SharpminimaError

COMPARED = ("rule", "params", "input", "code")
"""What of a note decides whether a file is made again, beside times."""
TIME_TOLERANCE_S = 1e-3
"""Of Snakemake's times, which are floating-point seconds."""
_KEPT = (*COMPARED, "shellcmd")


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

    def read(self, path: str) -> dict[str, Any] | None:
        """What made ``path``, and its time of modification then (``endtime``, seconds); None without a note."""
        note = self._files._read_record(path)
        return None if note is None else {name: note[name] for name in (*_KEPT, "endtime")}

    def write(self, path: str, made: dict[str, Any], checksums: dict[str, str], mtime_ns: int) -> None:
        """Note that ``path``, of that time, was made so, out of inputs with these SHA-256."""
        note = self._record(
            **{name: made[name] for name in _KEPT},
            record_format_version=self._version,
            incomplete=False,
            starttime=mtime_ns / 1e9,
            endtime=mtime_ns / 1e9,
            input_checksums={name: f"sha256:{digest}" for name, digest in checksums.items()},
        )
        self._files._write_record(path, note)
        self._files._clear_cache()
