"""Copies of the checkout, and Snakemake in them."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[2]
PARTS = ("Snakefile", "config.yaml", "workflow", "profiles", "notebooks", "paper", "src")
PATIENCE_S = 300  # for what takes seconds, on a machine that does other things too
TINY = "tests/studies/tiny.yaml"


def command(*arguments: str, study: str = TINY) -> list[str]:
    """Snakemake's command line."""
    return [sys.executable, "-m", "snakemake", "--config", f"study={study}", *arguments]


def environment() -> dict[str, str]:
    """Where this Python's programs are found first, and no raw data."""
    found = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    found.pop("SHARPMINIMA_DATA", None)
    return found


def snakemake(folder: Path, *arguments: str, study: str = TINY) -> str:
    """Run Snakemake in ``folder`` and return what it printed."""
    done = subprocess.run(
        command(*arguments, study=study), cwd=folder, env=environment(), capture_output=True, text=True, check=False
    )
    printed = done.stdout + done.stderr
    assert done.returncode == 0, printed[-4000:]
    return printed


def checkout(folder: Path) -> Path:
    """A copy of what a study needs."""
    ignored = shutil.ignore_patterns("__pycache__", "build", "*.egg-info")
    for part in PARTS:
        if (ROOT / part).is_dir():
            shutil.copytree(ROOT / part, folder / part, ignore=ignored)
        else:
            shutil.copy(ROOT / part, folder / part)
    shutil.copytree(ROOT / "tests/studies", folder / "tests/studies")
    return folder


def wait_until(condition: Callable[[], bool], *, seconds: float = PATIENCE_S, fail: bool = True) -> None:
    """Look twice a second whether a condition holds."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            assert not fail, f"waited {seconds} s in vain for {condition}"
            return
        time.sleep(0.5)
