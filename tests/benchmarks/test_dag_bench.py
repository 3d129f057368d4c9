"""The generated studies are as large as they say, and go through the real Snakefile."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.dag import A_RUN, ROOT, dry_run, generate, main
from sharpminima.study.jobs import Layout
from sharpminima.study.schema import Config, Study

pytestmark = pytest.mark.bench


@pytest.mark.parametrize("trainings", [1, 10_000])
def test_a_study_has_the_trainings_that_were_asked_for(trainings: int) -> None:
    study = Study.model_validate(generate(trainings))
    layout = Layout(Config(), study)
    cells = sum(1 for experiment in study.experiments for _ in layout.cells(experiment))
    found = cells + 2 * len(study.experiments) * len(study.seeds)
    assert trainings <= found < trainings + found / len(study.seeds)


@pytest.mark.slow
def test_a_dry_run_counts_them() -> None:
    found = dry_run(1, "--workflow-profile", "profiles/slurm")
    study = generate(1)
    assert found.trainings == A_RUN * len(study["experiments"]) * len(study["seeds"])
    assert found.jobs > found.trainings
    assert found.cpu_s > 0
    assert found.seconds > 0
    assert found.peak_mb > 100


@pytest.mark.slow
def test_what_goes_beyond_a_limit_is_a_failure(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--trainings", "1", "--at-most-mb", "1"]) == 1
    assert "more than 1\n" in capsys.readouterr().out


@pytest.mark.slow
def test_a_failure_of_snakemake_is_shown() -> None:
    with pytest.raises(RuntimeError, match="no-such-option"):
        dry_run(1, "--no-such-option")


@pytest.mark.slow
def test_no_command_of_a_large_study_is_longer_than_linux_takes(tmp_path: Path) -> None:
    study = tmp_path / "large.yaml"
    study.write_text(json.dumps(generate(2_000)))
    config = ["--config", f"study={study}", f"results={tmp_path}/results"]
    command = [sys.executable, "-m", "snakemake", "--dry-run", "--printshellcmds", *config]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    commands = re.findall(r"sharpminima (\w+) .*", done.stdout + done.stderr)
    longest = max(map(len, re.findall("sharpminima .*", done.stdout + done.stderr)))
    assert {"table", "numbers", "provenance"} < set(commands)
    assert longest < 128 * 1024  # of one argument: Snakemake gives the whole command to a shell
