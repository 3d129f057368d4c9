"""Whether Snakemake or DVC is at work in this checkout."""

import json
import os
from pathlib import Path

from sharpminima.base.errors import SharpminimaError

_SNAKEMAKE = Path(".snakemake/locks")
_DVC = Path(".dvc", "tmp", "rwlock")


def snakemake_is_at_work() -> bool:
    """Whether a Snakemake run holds its lock on this folder."""
    return _SNAKEMAKE.is_dir() and any(_SNAKEMAKE.iterdir())


def refuse_if_snakemake_is_at_work() -> None:
    """Raise while a Snakemake run holds its lock.

    Raises:
        SharpminimaError: there is a lock.
    """
    if snakemake_is_at_work():
        raise SharpminimaError(
            "Snakemake is at work in this folder (its lock is in .snakemake/locks): wait until it has ended; "
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
        if _is_alive(info["pid"]):
            return f"DVC is at work in this folder (process {info['pid']}: {info['cmd']}): wait until it has ended"
    return None


def refuse_if_dvc_is_at_work() -> None:
    """Raise while a DVC command holds files of this checkout (see `dvc_at_work`).

    Raises:
        SharpminimaError: there is such a command.
    """
    if message := dvc_at_work():
        raise SharpminimaError(message)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
