"""The benchmark of starts measures what it says."""

import pytest

from benchmarks import start
from benchmarks.start import Start, cpu_seconds, main

pytestmark = pytest.mark.bench

BUSY = "import time\nwhile time.process_time() < {}: pass"


def a_start(code: str, goal: float = 1.0) -> Start:
    return Start("a start", ("-c", code), "9.9", goal)


def test_it_counts_processor_time() -> None:
    assert 0.5 <= cpu_seconds(a_start(BUSY.format(0.7))) < 2.0
    assert cpu_seconds(a_start("import time; time.sleep(0.5)")) < 0.4


def test_a_failure_is_shown() -> None:
    with pytest.raises(RuntimeError, match="ended with 3"):
        cpu_seconds(a_start("import sys; sys.exit(3)"))


def test_a_missed_goal_is_a_failure(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(start, "STARTS", (a_start("", goal=0.0),))
    assert main(["--runs", "1"]) == 1
    monkeypatch.setattr(start, "STARTS", (a_start("", goal=60.0),))
    assert main(["--runs", "1"]) == 0
    assert "a start" in capsys.readouterr().out
