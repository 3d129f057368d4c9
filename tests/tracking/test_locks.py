import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from sharpminima.base.errors import SharpminimaError
from sharpminima.base.files import write_text
from sharpminima.tracking import dvc_at_work
from sharpminima.tracking._locks import refuse_if_dvc_is_at_work, refuse_if_snakemake_is_at_work, snakemake_is_at_work


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_STAGE", raising=False)


def hold(kind: str, pid: int, cmd: str = " ".join(psutil.Process().cmdline())) -> None:
    info = {"pid": pid, "cmd": cmd}
    write_text(Path(".dvc", "tmp", "rwlock"), json.dumps({kind: {"results": info if kind == "write" else [info]}}))


def test_no_lock_no_refusal() -> None:
    refuse_if_snakemake_is_at_work()
    refuse_if_dvc_is_at_work()
    Path(".snakemake/locks").mkdir(parents=True)
    refuse_if_snakemake_is_at_work()


def test_snakemakes_lock_is_named() -> None:
    write_text(".snakemake/locks/0.output.lock", "a")
    with pytest.raises(SharpminimaError, match=r"Snakemake is at work.*`snakemake --unlock`"):
        refuse_if_snakemake_is_at_work()


@pytest.mark.parametrize("kind", ["read", "write"])
def test_dvcs_lock_is_named(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    hold(kind, os.getpid())
    with pytest.raises(SharpminimaError, match=rf"DVC is at work .*process {os.getpid()}: .*; \.dvc/tmp/rwlock"):
        refuse_if_dvc_is_at_work()
    monkeypatch.setenv("DVC_STAGE", "runs@demo")  # the stage's own commands
    assert dvc_at_work() is None


def test_the_lock_of_a_process_that_ended_does_not_count() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        pass
    hold("write", ended.pid)
    assert dvc_at_work() is None
    write_text(Path(".dvc", "tmp", "rwlock"), "{")
    assert dvc_at_work() is None


def test_a_process_that_has_the_number_of_one_that_ended_does_not_count() -> None:
    hold("write", os.getpid(), cmd="dvc repro some-stage")  # another command
    assert dvc_at_work() is None
    hold("write", os.getpid())
    lock, began = Path(".dvc/tmp/rwlock"), psutil.Process().create_time()
    os.utime(lock, (began - 60, began - 60))  # written before this process began
    assert dvc_at_work() is None
    os.utime(lock, (began + 60, began + 60))
    assert dvc_at_work() is not None


HOLDS = """
import sys, time
from sharpminima.tracking import hold
print(hold(sys.argv[1]), flush=True)
time.sleep(float(sys.argv[2]))
"""


def run(root: str, seconds: float) -> subprocess.Popen[str]:
    """A process that holds a study, or says why it does not, before this function returns."""
    found = subprocess.Popen([sys.executable, "-c", HOLDS, root, str(seconds)], stdout=subprocess.PIPE, text=True)
    assert found.stdout is not None
    found.said = found.stdout.readline().strip()
    return found


@pytest.mark.slow
def test_a_second_run_of_a_study_neither_begins_nor_ends_the_lock_of_the_first() -> None:
    with run("results/demo", 600) as first:
        assert (first.said, snakemake_is_at_work()) == ("None", True)
        with run("results/demo", 0) as second:
            said = (
                f"another Snakemake run (process {first.pid} on {os.uname().nodename}) is at work on results/demo: wait"
            )
            assert second.said.startswith(said)
        with run("results/paper", 0) as other:
            assert other.said == "None"
        # As when a second Snakemake ends.
        shutil.rmtree(".snakemake/locks", ignore_errors=True)
        with pytest.raises(SharpminimaError, match="Snakemake is at work in this folder"):
            refuse_if_snakemake_is_at_work()
        first.kill()
    refuse_if_snakemake_is_at_work()
    with run("results/demo", 0) as again:
        assert again.said == "None"
