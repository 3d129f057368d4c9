import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from sharpminima.base.errors import SharpminimaError
from sharpminima.base.files import write_text
from sharpminima.tracking import dvc_at_work
from sharpminima.tracking._locks import refuse_if_dvc_is_at_work, refuse_if_snakemake_is_at_work


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_STAGE", raising=False)


def hold(kind: str, pid: int) -> None:
    info = {"pid": pid, "cmd": "dvc repro"}
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
    with pytest.raises(SharpminimaError, match=rf"process {os.getpid()}: dvc repro"):
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
