"""Resume files: what a killed job goes on from, to the same bits."""

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sharpminima.base.errors import CheckpointError
from sharpminima.base.stop import STOP, Stopped
from sharpminima.nets.checkpoint import RESULTS, TREE_BEGINS, fingerprint_in, load_tree, save_tree

_LAYOUT = 3  # raised when the engine saves other keys; files of another layout are ignored


def fingerprint_of(settings: Mapping[str, Any], tensors: Iterable[Tensor]) -> str:
    """Identifies a computation: its settings (JSON values), its tensors, and what else here its bits depend on."""
    device = None
    digest = hashlib.sha256()
    for tensor in tensors:
        device = tensor.device.type
        values = tensor.detach().cpu().contiguous()
        digest.update(f"{values.dtype} {list(values.shape)} ".encode())
        digest.update(values.reshape(-1).view(torch.uint8).numpy().data)
    facts = {**settings, "device": device, "threads": torch.get_num_threads(), "torch": torch.__version__}
    digest.update(json.dumps(facts, sort_keys=True).encode())
    return digest.hexdigest()


def check_path(path: Any) -> Path:
    """Check, before anything is computed, that a file can lie at ``path``; folders that are missing are made later.

    Raises:
        CheckpointError: it is no path, or a folder, or lies in what is a file, or is a file that is no resume file.
    """
    if not isinstance(path, str | os.PathLike):
        raise CheckpointError(f"the resume file is {path!r}; give a path")
    path = Path(path)
    if path.is_dir():
        raise CheckpointError(f"{path}: is a folder; give the name of a resume file in it")
    if path.exists() and not path.is_file():  # to read a pipe waits for ever, and a device is renamed over
        raise CheckpointError(f"{path}: is no ordinary file; give another name to the resume file")
    there = next((folder for folder in path.parents if folder.exists()), None)
    if there is not None and not there.is_dir():
        raise CheckpointError(f"{path}: {there} is a file; give a resume file in a folder")
    _check_own(path)
    return path


def _check_own(path: Path) -> None:
    """Check that what lies at ``path`` may be written over and removed: nothing, or a resume file, be it damaged.

    Raises:
        CheckpointError: it is another file.
    """
    try:
        with path.open("rb") as file:
            start = file.read(8 + len(TREE_BEGINS))
    except FileNotFoundError:
        return
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror}); give a resume file of your own") from error
    if _is_blank(path):  # empty, or what a disk leaves of a file that was never written out
        return
    tree = len(start) > 8 and TREE_BEGINS.startswith(start[8:])
    fingerprint = fingerprint_in(path) if tree else None
    if not tree or (fingerprint is not None and fingerprint.startswith(RESULTS)):
        raise CheckpointError(
            f"{path}: is no resume file, and one would be written over it and removed in the end; give another name, "
            "or remove it"
        )


def _is_blank(path: Path) -> bool:
    """Whether a file holds nothing but zeros: all of it, as others may begin with many."""
    with path.open("rb") as file:
        return not any(piece.strip(b"\0") for piece in iter(lambda: file.read(1 << 20), b""))


class ResumeFile:
    """One file beside a job's output, rewritten now and then, gone when the job is done.

    Args:
        path: the file; a damaged one, or one of other settings, is ignored.
        fingerprint: identifies settings and inputs of the job.
        every_s: seconds between two writes.

    Raises:
        CheckpointError: as for `check_path`.
    """

    def __init__(self, path: str | os.PathLike[str], *, fingerprint: str, every_s: float = 60.0) -> None:
        self.path = check_path(path)
        self._job = fingerprint
        self._fingerprint = f"layout {_LAYOUT} {fingerprint}"
        self._every_s = every_s
        self._last = time.monotonic()

    def load(self) -> Any | None:
        """The last saved tree, or None."""
        return load_tree(self.path, fingerprint=self._fingerprint)

    def beside(self, name: str) -> "ResumeFile":
        """A file of its own for a part of the job."""
        path = self.path.with_name(f"{self.path.stem}-{name}{self.path.suffix}")
        return ResumeFile(path, fingerprint=f"{self._job} {name}", every_s=self._every_s)

    def due(self) -> bool:
        """Whether it is time to write again."""
        return time.monotonic() - self._last >= self._every_s

    def save(self, tree: Any) -> None:
        """Write nested dicts and lists of tensors and JSON values, whole or not at all."""
        save_tree(self.path, tree, fingerprint=self._fingerprint)
        self._last = time.monotonic()

    def remove(self) -> None:
        """Remove the file; the job is done."""
        self.path.unlink(missing_ok=True)


class FinishedParts:
    """The finished parts of a job, on disk while the others run.

    Args:
        path, fingerprint: as for `ResumeFile`.

    Raises:
        CheckpointError: as for `ResumeFile`.
    """

    def __init__(self, path: str | os.PathLike[str], *, fingerprint: str) -> None:
        self._path, self._fingerprint = check_path(path), fingerprint
        self.parts: list[Any] = load_tree(self._path, fingerprint=fingerprint) or []

    def add(self, *parts: Any) -> None:
        """Keep parts: nested dicts and lists of tensors and JSON values."""
        self.parts.extend(parts)
        save_tree(self._path, self.parts, fingerprint=self._fingerprint)

    def remove(self) -> None:
        """Remove the file; the job is done."""
        self._path.unlink(missing_ok=True)


def save_or_stop(resume: ResumeFile | None, state: Callable[[], Any]) -> None:
    """Save a job's state, where there is a file for it; on SIGTERM the job ends there.

    Raises:
        Stopped: SIGTERM came; the resume file, where there is one, holds the state.
    """
    if resume is not None:
        resume.save(state())
    if STOP.raised:
        kept = f"its state is in {resume.path}" if resume is not None else "nothing was kept"
        raise Stopped(f"stopped by {STOP.signal.name}; {kept}")
