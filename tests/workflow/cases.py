"""Copies of the checkout, and Snakemake in them."""

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock

from sharpminima.tracking import tracked_studies

ROOT = Path(__file__).parents[2]
PARTS = (
    ".dvc",
    ".dvcignore",
    ".gitignore",
    "Snakefile",
    "config.yaml",
    "data",
    "dvc.yaml",
    "notebooks",
    "paper",
    "profiles",
    "src",
    "workflow",
)
PATIENCE_S = 300  # for what takes seconds, on a machine that does other things too
TINY = "workflow/studies/tiny.yaml"


def command(*arguments: str, study: str) -> list[str]:
    """Snakemake's command line."""
    return [sys.executable, "-m", "snakemake", "--config", f"study={study}", *arguments]


def environment() -> dict[str, str]:
    """Where this Python's programs are found first, and no raw data."""
    found = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    found.pop("SHARPMINIMA_DATA", None)
    return found


def snakemake(folder: Path, *arguments: str, study: str = "tiny") -> str:
    """Run Snakemake in ``folder`` and return what it printed."""
    done = subprocess.run(
        command(*arguments, study=study), cwd=folder, env=environment(), capture_output=True, text=True, check=False
    )
    printed = done.stdout + done.stderr
    assert done.returncode == 0, printed[-4000:]
    return printed


def rules(printed: str) -> dict[str, int]:
    """The job statistics of a dry run: rule -> jobs."""
    table = printed.partition("Job stats:")[2].partition("total")[0]
    return {rule: int(count) for rule, count in re.findall(r"^(\w+) +(\d+)$", table, flags=re.MULTILINE)}


def checkout(folder: Path) -> Path:
    """A copy of what a study needs, in which the tiny study is the default, and the one that DVC tracks."""
    ignored = shutil.ignore_patterns(
        "__pycache__", "build", "*.egg-info", "tmp", "cache", "store", "downloads", "config.local"
    )
    for part in PARTS:
        if (ROOT / part).is_dir():
            shutil.copytree(ROOT / part, folder / part, ignore=ignored)
        else:
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / part, folder / part)
    shutil.copytree(ROOT / "tests/studies", folder / "tests/studies")
    shutil.copy(ROOT / "tests/studies/tiny.yaml", folder / TINY)
    edit(folder / "dvc.yaml", f"tracked: [{', '.join(tracked_studies())}]", "tracked: [tiny]")
    edit(folder / "config.yaml", "study: demo", "study: tiny")
    return folder


def edit(file: Path, before: str, after: str) -> None:
    """Replace a text that must be in a file."""
    text = file.read_text()
    assert before in text, f"{file}: {before}"
    file.write_text(text.replace(before, after))


class Shared:
    """Folders that are built once a test run, by the worker that asks first; tests copy them, and change the copies.

    Args:
        root: a folder that is the same to all workers of this run, and to no other run.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        root.mkdir(exist_ok=True)

    def folder(self, name: str, build: Callable[[Path], object]) -> Path:
        """The folder of that name; ``build`` gets it empty.

        Raises:
            AssertionError: another worker has failed to build it.
        """
        folder, done, failed = (self._root / f"{name}{ending}" for ending in ("", ".done", ".failed"))
        with FileLock(self._root / f"{name}.lock"):
            assert not failed.exists(), f"{name}: {failed.read_text()}"
            if not done.exists():
                folder.mkdir()
                try:
                    build(folder)
                except Exception as error:
                    failed.write_text(str(error))
                    raise
                done.touch()
        return folder


def wait_until(condition: Callable[[], bool], *, seconds: float = PATIENCE_S, fail: bool = True) -> None:
    """Look twice a second whether a condition holds."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            assert not fail, f"waited {seconds} s in vain for {condition}"
            return
        time.sleep(0.5)
