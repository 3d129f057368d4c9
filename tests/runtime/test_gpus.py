"""Processes side by side take different GPUs; here the GPUs are names only."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from sharpminima.runtime.gpus import take_gpu, visible_gpus

JOB = "import sys; from sharpminima.runtime.gpus import claim; print(claim(sys.argv[1:]), flush=True); sys.stdin.read()"


class Job:
    """A process that claims a GPU and waits."""

    def __init__(self, folder: Path, *gpus: str) -> None:
        environment = os.environ | {"TMPDIR": str(folder)}
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(
            [sys.executable, "-c", JOB, *gpus], env=environment, stdin=pipe, stdout=pipe, text=True
        )
        assert self.process.stdout is not None
        self.gpu = self.process.stdout.readline().strip()

    def end(self) -> None:
        """SIGKILL: nothing of its own cleans up."""
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Job]]:
    """Starts jobs, and ends them with the test."""
    jobs: list[Job] = []

    def start_job(*gpus: str) -> Job:
        jobs.append(Job(tmp_path, *gpus))
        return jobs[-1]

    yield start_job
    for job in jobs:
        job.end()


def test_jobs_take_different_gpus_and_share_only_where_there_are_more_jobs(start: Callable[..., Job]) -> None:
    assert [start("GPU-a", "GPU-b").gpu for _ in range(4)] == ["GPU-a", "GPU-b", "GPU-a", "GPU-b"]


def test_the_gpu_of_a_killed_job_is_free_again(start: Callable[..., Job]) -> None:
    first, second = start("0", "1"), start("0", "1")
    first.end()
    assert (first.gpu, second.gpu, start("0", "1").gpu) == ("0", "1", "0")


def test_gpus_are_those_of_the_variable_else_those_of_the_driver(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text('#!/bin/sh\n[ "$1" = --query-gpu=uuid ] && printf "GPU-1\\nGPU-2\\n"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3, 5")
    assert visible_gpus() == ["3", "5"]
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert visible_gpus() == ["GPU-1", "GPU-2"]
    program.write_text("#!/bin/sh\necho 'Failed to initialize NVML'\nexit 9\n")
    assert visible_gpus() == []


@pytest.mark.parametrize(("visible", "left"), [("7,8", "7"), ("8", "8"), ("", "")])
def test_a_process_leaves_itself_one_gpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, visible: str, left: str
) -> None:
    if torch.cuda.is_initialized():
        pytest.skip("CUDA has started in this process")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr("sharpminima.runtime.gpus._held", held := [])
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    take_gpu()
    for file in held:
        file.close()
    assert os.environ["CUDA_VISIBLE_DEVICES"] == left
