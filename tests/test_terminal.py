"""Snakemake's log of a run: bars on a terminal, its own lines elsewhere."""

import io
import logging
import os
import pty
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from snakemake.logging import DefaultFormatter
from snakemake_interface_logger_plugins.common import LogEvent

from snakemake_logger_plugin_sharpminima import LogHandler

ROOT = Path(__file__).parents[1]
PLAIN = {"dryrun": False, "quiet": None, "verbose": False, "debug_dag": False, "nocolor": False}
SNAKEFILE = """
rule all:
    input: "made", "missing"
rule make:
    output: "made"
    shell: "touch {output}"
rule fail:
    output: "missing"
    log: "fail.log"
    shell: "echo it broke > {log}; exit 1"
onerror:
    from snakemake.logging import logger
    logger.info("what the run comes to")
"""


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def handler(monkeypatch: pytest.MonkeyPatch, stream: io.StringIO, **settings: Any) -> LogHandler:
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setenv("TERM", "xterm")
    made = LogHandler(SimpleNamespace(**(PLAIN | settings)), None)
    made.setFormatter(DefaultFormatter())
    return made


def tell(made: LogHandler, event: str | None, text: str = "", level: int = logging.INFO, **facts: Any) -> None:
    record = logging.LogRecord("snakemake", level, "", 0, text, None, None)
    record.__dict__ |= {"event": event, **facts} if event else facts
    made.emit(record)


def test_bars_follow_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    made = handler(monkeypatch, Terminal())
    tell(made, LogEvent.RUN_INFO, stats={"dense": 2, "fig1": 1, "total": 3})
    for job in (7, 8):
        tell(made, LogEvent.JOB_INFO, jobid=job, rule_name="dense")
    tell(made, LogEvent.JOB_FINISHED, job_id=7)
    shown = {bar.description: bar for bar in made._bars._progress.tasks}
    assert (shown["all jobs"].completed, shown["all jobs"].total, shown["all jobs"].fields["running"]) == (1, 3, 1)
    assert (shown["dense"].completed, shown["dense"].total, shown["dense"].visible) == (1, 2, True)
    assert "fig1" not in shown
    tell(made, LogEvent.JOB_FINISHED, job_id=8)
    assert not next(bar for bar in made._bars._progress.tasks if bar.description == "dense").visible
    made.close()
    made.close()


def test_warnings_and_results_are_printed_above_the_bars_and_chatter_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Terminal()
    made = handler(monkeypatch, stream)
    tell(made, LogEvent.RUN_INFO, stats={"total": 0})
    tell(made, None, "Select jobs to execute...")
    tell(made, None, "no GPU [here]", logging.WARNING)
    tell(made, None, "Study tiny is done:")
    made.close()
    assert "no GPU [here]" in stream.getvalue()
    assert "Study tiny is done:" in stream.getvalue()
    assert "Select jobs" not in stream.getvalue()


@pytest.mark.parametrize("settings", [{"dryrun": True}, {"quiet": {"all"}}, {"nocolor": True}, {"verbose": True}])
def test_a_dry_run_and_whoever_asks_for_other_lines_get_snakemake_s(
    monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any]
) -> None:
    assert not handler(monkeypatch, Terminal(), **settings).writes_to_stream


def test_without_a_terminal_it_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    made = handler(monkeypatch, stream)
    assert not made.writes_to_stream
    tell(made, None, "a line")
    made.close()
    assert stream.getvalue() == ""


@pytest.mark.parametrize("path", sorted((ROOT / "profiles").glob("*/config.yaml")), ids=lambda path: path.parent.name)
def test_every_profile_asks_for_it(path: Path) -> None:
    assert yaml.safe_load(path.read_text())["logger"] == "sharpminima"


@pytest.mark.slow
def test_snakemake_finds_it(tmp_path: Path) -> None:
    (tmp_path / "Snakefile").write_text(SNAKEFILE)
    line = [sys.executable, "-m", "snakemake", "--cores", "1", "--keep-going", "--show-failed-logs"]
    line += ["--logger", "sharpminima"]
    piped = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert piped.returncode == 1
    assert "1 of 3 steps (33%) done" in piped.stderr
    assert "all jobs" not in piped.stderr
    (tmp_path / "made").unlink()
    ours, theirs = pty.openpty()
    with subprocess.Popen(line, cwd=tmp_path, stdin=theirs, stderr=theirs, env=os.environ | {"TERM": "xterm"}) as run:
        os.close(theirs)
        seen = b"".join(iter(lambda: _read(ours), b"")).decode()
        assert run.wait() == 1
    os.close(ours)
    assert "all jobs" in seen
    assert "1/3" in seen
    assert "it broke" in seen  # the failed job's log
    assert "what the run comes to" in seen
    assert "steps (33%) done" not in seen


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 4096)
    except OSError:  # its other end is closed
        return b""
