"""SHA-256 of files, computed again only where size or time have changed."""

import os
from pathlib import Path

from sharpminima.base.errors import SharpminimaError
from sharpminima.base.files import read_json, sha256_file, write_json

_CACHE = Path(".snakemake/sharpminima.json")


def _read() -> dict[str, list[int | str]]:
    """What was seen the last time; nothing where the file is damaged, so that all files are hashed anew."""
    try:
        cached = read_json(_CACHE) if _CACHE.is_file() else {}
    except SharpminimaError:
        return {}
    fits = isinstance(cached, dict) and all(
        isinstance(facts, list) and [type(fact) for fact in facts] == [int, int, str] for facts in cached.values()
    )
    return cached if fits else {}


class Known:
    """The files of this checkout as they were last seen."""

    def __init__(self) -> None:
        self._seen = _read()
        self._earlier: dict[str, int] = {}
        self._before = {path: list(facts) for path, facts in self._seen.items()}

    def sha256(self, path: str) -> str | None:
        """Hash of a file, None where there is none."""
        try:
            stat = Path(path).stat()
        except FileNotFoundError:
            return None
        size, mtime_ns, digest = self._seen.get(path, (None, None, None))
        if (stat.st_size, stat.st_mtime_ns) == (size, mtime_ns):
            return str(digest)
        current = sha256_file(path)
        if current == digest:
            self._earlier[path] = int(str(mtime_ns))
        self._seen[path] = [stat.st_size, stat.st_mtime_ns, current]
        return current

    def earlier_mtime_ns(self, path: str) -> int | None:
        """The time that a hashed file had before the same bytes were written again (deleted and fetched, say)."""
        return self._earlier.get(path)

    def mtime_ns(self, path: str) -> int:
        """Time of modification of a file that was hashed."""
        return int(self._seen[path][1])

    def set_mtime_ns(self, path: str, mtime_ns: int) -> None:
        """Change the time of a file that was hashed."""
        os.utime(path, ns=(mtime_ns, mtime_ns))
        self._seen[path][1] = mtime_ns

    def save(self) -> None:
        """Keep what was seen for the next time."""
        if self._seen != self._before:
            write_json(_CACHE, self._seen)
