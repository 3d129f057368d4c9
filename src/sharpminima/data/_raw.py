"""Raw files: found under a root or downloaded into it; used only when their SHA-256 is the expected one."""

import gzip
import hashlib
import http.client
import math
import socket
import zlib
from collections.abc import Mapping
from pathlib import Path

from sharpminima.base.errors import DataError
from sharpminima.catalogue.datasets import Dataset, Report
from sharpminima.data._torchvision import import_torchvision_datasets

_TIMEOUT_S = 30.0  # of one network operation; torchvision sets none
_BESIDE_AN_IMAGE, _HEADER = 64, 4096  # bytes
_CURE = "copy the raw files there, or name the folder that holds them in SHARPMINIMA_DATA or data.root"


def read_raw_files(
    root: Path, sha256: Mapping[str, str], *, at_most: int, torchvision_class: str, download: bool, report: Report
) -> dict[str, bytes]:
    """The decompressed bytes of every raw file, checked.

    A file counts as found when it, or its name with ``.gz``, is under ``root``, which may be read-only. What
    is missing is left to torchvision, which takes an archive of the right MD5 that is there, else downloads.

    Args:
        root: a torchvision root.
        sha256: file, relative to ``root`` -> SHA-256 of its decompressed bytes.
        at_most: bytes of the largest of them; of a larger one, or an archive that unpacks to more, no more is read.
        torchvision_class: the class of ``torchvision.datasets`` that downloads them.
        download: whether torchvision may be asked.
        report: takes lines of progress.

    Raises:
        DataError: a file is damaged, or missing and not to be had.
    """
    contents = {name: _read(root / name, digest, at_most) for name, digest in sha256.items()}
    missing = [name for name, content in contents.items() if content is None]
    if missing:
        what = f"{root}: {', '.join(missing)} missing or incomplete"
        if not download:
            raise DataError(f"{what}, and downloads are off; {_CURE}")
        report(f"{what}; torchvision fetches {torchvision_class} into it")
        _fetch(root, torchvision_class, what)
        contents |= {name: _read(root / name, sha256[name], at_most) for name in missing}
    complete = {name: content for name, content in contents.items() if content is not None}
    if len(complete) < len(contents):
        raise DataError(f"{what} even after torchvision's download; {_CURE}")
    return complete


def _read(path: Path, sha256: str, at_most: int) -> bytes | None:
    """The bytes of ``path``, or of the archive beside it; None if there is none or a broken one."""
    archive = path.with_name(path.name + ".gz")
    try:
        if path.exists():
            with path.open("rb") as file:
                content = file.read(at_most + 1)
        elif archive.exists():
            path = archive
            with gzip.open(archive) as unpacked:
                content = unpacked.read(at_most + 1)
        else:
            return None
    except (EOFError, zlib.error, gzip.BadGzipFile):
        return None  # what an interrupted download leaves: torchvision replaces it
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); check its permissions") from error
    if len(content) > at_most:
        raise DataError(
            f"{path}: is damaged (more than {at_most:,} bytes, which the published file has not); remove it and run "
            "again, or copy it again"
        )
    if hashlib.sha256(content).hexdigest() != sha256:
        raise DataError(
            f"{path}: is damaged ({len(content):,} bytes whose SHA-256 is not that of the published file); "
            "remove it and run again, or copy it again"
        )
    return content


def _fetch(root: Path, torchvision_class: str, what: str) -> None:
    datasets = import_torchvision_datasets()
    timeout = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_TIMEOUT_S)
    try:
        getattr(datasets, torchvision_class)(root, download=True)
    except (OSError, RuntimeError, EOFError, http.client.HTTPException) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"{what}, and the download of {torchvision_class} failed ({reason}); {_CURE}") from error
    finally:
        socket.setdefaulttimeout(timeout)


def largest_file(dataset: Dataset) -> int:
    """Bytes that no raw file of a dataset exceeds: all images of the larger part, each with its label and its name."""
    return max(dataset.sizes) * (math.prod(dataset.shape) + _BESIDE_AN_IMAGE) + _HEADER
