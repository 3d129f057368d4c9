"""Git repositories with DVC in them.

Their commands go through a `sharpminima` that notes every call and fails when a training is called, unless the test
expects one.
"""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from sharpminima.base.files import sha256_file
from sharpminima.study.schema import PAPER_FIGURES

from .cases import edit, rules

TRAINING = {"dense", "prune", "retrain", "transfer"}
WRAPPER = """#!/bin/sh
echo "$@" >> "{calls}"
case "$1" in dense|prune|retrain|transfer)
  [ -z "$NO_TRAINING" ] || {{ echo "a training was called" >&2; exit 1; }} ;;
esac
exec "{python}" -m sharpminima "$@"
"""


FIGURE_STAGES = {f"{name}@tiny" for name in PAPER_FIGURES}
REINIT = "results/tiny/runs/digits/lenet300/lobster/level-95/reinit/seed-0/checkpoint.safetensors"


@dataclass(frozen=True)
class Repository:
    """A git repository with DVC in it.

    Attributes:
        own_package: commands run the package that lies in it, not the installed one, whose bytes are the same until a
            test edits them, and which is compiled already.
    """

    folder: Path
    own_package: bool = False

    def __post_init__(self) -> None:
        bin_folder = self.folder.with_name(f"{self.folder.name}-bin")
        bin_folder.mkdir()
        wrapper = bin_folder / "sharpminima"
        wrapper.write_text(WRAPPER.format(calls=self._calls, python=sys.executable))
        wrapper.chmod(0o755)

    @property
    def _calls(self) -> Path:
        return self.folder.with_name(f"{self.folder.name}-calls")

    def environment(self, *, training: bool = False) -> dict[str, str]:
        """Variables of every command: no user's configuration, no datasets."""
        home = self.folder.parent
        path = [f"{self.folder}-bin", str(Path(sys.executable).parent), os.environ["PATH"]]
        found = os.environ | {"PATH": os.pathsep.join(path), "HOME": str(home)}
        found |= {"DVC_SITE_CACHE_DIR": str(home / "site"), "DVC_GLOBAL_CONFIG_DIR": str(home / "dvc"), "DVC_TEST": "1"}
        found |= {"NO_TRAINING": "" if training else "1", "GIT_CONFIG_GLOBAL": os.devnull}
        if self.own_package:
            found["PYTHONPATH"] = str(self.folder / "src")
        for role in ("AUTHOR", "COMMITTER"):
            found |= {f"GIT_{role}_NAME": "Tester", f"GIT_{role}_EMAIL": "tester@example.org"}
        found.pop("SHARPMINIMA_DATA", None)
        return found

    def run(self, *command: str, training: bool = False) -> subprocess.CompletedProcess[str]:
        """Run a command here; its two streams come as one."""
        return subprocess.run(
            command,
            cwd=self.folder,
            env=self.environment(training=training),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )

    def do(self, *command: str, training: bool = False) -> str:
        """What a command prints that must succeed."""
        done = self.run(*command, training=training)
        assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout[-4000:]}"
        return done.stdout

    def refuse(self, *command: str) -> str:
        """What a command prints that must fail, as one line."""
        done = self.run(*command)
        assert done.returncode != 0, f"{' '.join(command)}\n{done.stdout[-4000:]}"
        return " ".join(done.stdout.split())

    def calls(self) -> list[str]:
        """The calls of `sharpminima` since the last question."""
        found = self._calls.read_text().splitlines() if self._calls.exists() else []
        self._calls.unlink(missing_ok=True)
        return found

    def changed(self) -> set[str]:
        """The stages that `dvc status` names."""
        return set(json.loads(self.do("dvc", "status", "--json")))

    def planned(self, *arguments: str) -> dict[str, int]:
        """What Snakemake would run: rule -> jobs."""
        return rules(self.do("snakemake", "--dry-run", *arguments))

    def commit(self, message: str) -> str:
        """Commit everything; the commit's name."""
        self.do("git", "add", "--all")
        self.do("git", "commit", "--quiet", "--message", message)
        return self.do("git", "rev-parse", "HEAD").strip()

    def wrong_sums(self, study: str = "tiny") -> list[str]:
        """The files of a study's list of sums that do not have theirs."""
        lines = (self.folder / f"workflow/studies/{study}.sha256").read_text().splitlines()
        pairs = [line.split("  ") for line in lines]
        return [path for digest, path in pairs if digest != sha256_file(self.folder / path)]

    def edit(self, path: str, before: str, after: str) -> None:
        """Replace a text that must be in a file."""
        edit(self.folder / path, before, after)

    def assert_only_drawing_is_left(self) -> None:
        """Both tools know of the tiny study that its figures and its paper are not there, and of nothing else."""
        assert self.changed() == {*FIGURE_STAGES, "paper@tiny", "explore@tiny"}
        assert self.planned().keys() == {*PAPER_FIGURES, "provenance", "explore", "paper", "all"}


def clone(source: Path, folder: Path, *, pull: bool = True) -> Repository:
    """A fresh clone, with what its remote holds unless told otherwise."""
    subprocess.run(["git", "clone", "--quiet", str(source), str(folder)], check=True)
    found = Repository(folder)
    if pull:
        found.do("dvc", "pull")
    return found


def copy(source: Path, folder: Path, *, own_package: bool = False) -> Repository:
    """A copy that keeps times, as a move does."""
    shutil.copytree(source, folder, symlinks=True)
    return Repository(folder, own_package)
