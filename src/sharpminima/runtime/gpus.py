"""One GPU a process: jobs side by side on a machine with several take different ones.

A cluster's queue gives each job its own device in CUDA_VISIBLE_DEVICES; on a plain machine nobody does.
"""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import TextIO

VARIABLE = "CUDA_VISIBLE_DEVICES"
_held: list[TextIO] = []  # open, and with that locked, until the process ends, however it does


def take_gpu() -> None:
    """Where several GPUs are visible, let this process see one only; to be called before CUDA starts."""
    import torch  # a second of imports, needed here only

    if torch.cuda.is_initialized():
        return
    gpus = visible_gpus()
    if len(gpus) > 1:
        os.environ[VARIABLE] = claim(gpus)


def visible_gpus() -> list[str]:
    """The GPUs as CUDA_VISIBLE_DEVICES names them: its own where it is set, else all that nvidia-smi knows."""
    if VARIABLE in os.environ:
        return [gpu.strip() for gpu in os.environ[VARIABLE].split(",") if gpu.strip()]
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    query = [program, "--query-gpu=uuid", "--format=csv,noheader"]
    answer = subprocess.run(query, capture_output=True, text=True, check=False)
    return answer.stdout.split() if answer.returncode == 0 else []


def claim(gpus: Sequence[str]) -> str:
    """The GPU that the fewest living processes have claimed, the first of them; it is claimed until this one ends.

    Claims are locks on files, one user's on one machine. The system drops them with the process, even a killed one.
    """
    import fcntl  # Unix only; so are the machines with several GPUs

    folder = Path(tempfile.gettempdir()) / f"sharpminima-gpus-{os.getuid()}"
    folder.mkdir(exist_ok=True)
    for place in count():
        for gpu in gpus:
            file = (folder / f"{gpu.replace('/', '-')}.{place}").open("w")
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.close()
                continue
            _held.append(file)
            return gpu
    raise AssertionError  # count() has no end
