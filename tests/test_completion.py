"""A shell completes commands, options and the names that these take."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from sharpminima.catalogue.models import MODELS
from sharpminima.catalogue.strategies import STRATEGIES

ROOT = Path(__file__).parents[1]


def completed(line: str, folder: Path = ROOT) -> list[str]:
    """What bash is offered for the last word of a command line."""
    words = line.split(" ")
    variables = {
        "_SHARPMINIMA_COMPLETE": "complete_bash",
        "COMP_WORDS": line,
        "COMP_CWORD": str(len(words) - 1),
    }
    command = Path(sys.executable).with_name("sharpminima")
    ran = subprocess.run([command], cwd=folder, env=os.environ | variables, capture_output=True, text=True, check=True)
    assert ran.stderr == ""
    return ran.stdout.split()


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("sharpminima doc", ["doctor"]),
        ("sharpminima st", ["studies"]),
        ("sharpminima plan mnist", ["mnist-short"]),
        ("sharpminima claims --study paper-a", ["paper-authors"]),
        ("sharpminima doctor thesis", ["thesis-table31"]),
        ("sharpminima prepare fashion", ["fashion-mnist"]),
        ("sharpminima provenance fig", [f"fig{number}" for number in range(1, 8)]),
        ("sharpminima init --model resnet1", [name for name in MODELS if name.startswith("resnet1")]),
        ("sharpminima retrain --strategy re", [name for name in STRATEGIES if name.startswith("re")]),
        ("sharpminima init --batch", ["--batchnorm"]),
    ],
)
def test_names_are_completed(line: str, offered: list[str]) -> None:
    assert completed(line) == offered


def test_elsewhere_than_in_a_checkout_there_are_no_studies(tmp_path: Path) -> None:
    assert completed("sharpminima plan ", tmp_path) == []


@pytest.mark.parametrize(("shell", "says"), [("bash", "complete -o default -F"), ("zsh", "#compdef sharpminima")])
def test_the_script_of_a_shell_is_shown(shell: str, says: str) -> None:
    from typer._completion_shared import get_completion_script

    script = get_completion_script(prog_name="sharpminima", complete_var="_SHARPMINIMA_COMPLETE", shell=shell)
    assert says in script
    asked = subprocess.run(
        [sys.executable, "-m", "sharpminima", "--help"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert "--install-completion" in asked.stdout
