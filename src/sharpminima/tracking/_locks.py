"""Whether Snakemake or DVC is at work in this checkout."""

import contextlib
import fcntl
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote

from sharpminima.base.errors import SharpminimaError

_SNAKEMAKE = Path(".snakemake/locks")
_DVC = Path(".dvc", "tmp", "rwlock")
_OWN = Path(".snakemake/sharpminima")  # a file a study: Snakemake removes all its locks when any run ends
_LATER_S = 1.0  # a process that began so long after a lock was written has not written it
_held: list[IO[str]] = []  # until the process ends, however it does


def hold(root: str) -> str | None:
    """Hold a study for the Snakemake run that is this process.

    Args:
        root: the study's folder.

    Returns:
        What a user should know where another run holds it; nothing is held then.
    """
    path = _OWN / f"{quote(root, safe='')}.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    file = path.open("a+", encoding="utf-8")
    if not _locked(file):
        file.seek(0)
        obstacle = (
            f"another Snakemake run ({file.read().strip() or 'unknown'}) is at work on {root}: wait until it has ended"
        )
        file.close()
        return obstacle
    file.truncate(0)
    file.write(f"process {os.getpid()} on {os.uname().nodename}\n")
    file.flush()
    _held.append(file)
    return None


def _locked(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a drive without locks: Snakemake's own must do
        return True
    return True


def _is_held(path: Path) -> bool:
    with contextlib.suppress(OSError), path.open("a+", encoding="utf-8") as file:
        return not _locked(file)
    return False


def snakemake_is_at_work() -> bool:
    """Whether a Snakemake run holds its lock, or ours, on this folder."""
    return (_SNAKEMAKE.is_dir() and any(_SNAKEMAKE.iterdir())) or any(map(_is_held, _OWN.glob("*.lock")))


def refuse_if_snakemake_is_at_work() -> None:
    """Raise while a Snakemake run holds its lock.

    Raises:
        SharpminimaError: there is a lock.
    """
    if snakemake_is_at_work():
        raise SharpminimaError(
            f"Snakemake is at work in this folder (its lock is in {_SNAKEMAKE} or {_OWN}): wait until it has ended; "
            "if it was killed, `snakemake --unlock` removes its lock"
        )


def dvc_at_work() -> str | None:
    """What a user should know while a DVC command, other than one that started this process, holds files here."""
    if "DVC_STAGE" in os.environ:
        return None
    try:
        locks = json.loads(_DVC.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    infos = [info for held in locks.get("read", {}).values() for info in held]
    infos += [info for info in locks.get("write", {}).values() if info]
    for info in infos:
        if _is_alive(info):
            return (
                f"DVC is at work in this folder (process {info['pid']}: {info['cmd']}; {_DVC}): wait until it has ended"
            )
    return None


def refuse_if_dvc_is_at_work() -> None:
    """Raise while a DVC command holds files of this checkout (see `dvc_at_work`).

    Raises:
        SharpminimaError: there is such a command.
    """
    if message := dvc_at_work():
        raise SharpminimaError(message)


def _is_alive(info: Mapping[str, Any]) -> bool:
    """Whether the process that wrote a lock runs, and not another one that has its number by now.

    DVC does not note the machine: the number of a process of another one is no process here, or a later one.
    """
    import psutil  # type: ignore[import-untyped] # it has none; Snakemake and DVC bring it

    try:
        process = psutil.Process(info["pid"])
        began, command = process.create_time(), process.cmdline()
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:
        return True
    last = str(info["cmd"]).split()[-1:]
    return began <= _DVC.stat().st_mtime + _LATER_S and (not last or last[0] in " ".join(command))
