"""What code of a plug-in does wrong is one line that names it; being asked to stop is none of its faults."""

import subprocess
import sys
from pathlib import Path

import pytest

from sharpminima.base.errors import PluginError
from sharpminima.catalogue import plugins


def command(folder: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    given = [sys.executable, "-m", "sharpminima", *map(str, arguments), "--plugin", "mine.py"]
    return subprocess.run(given, cwd=folder, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("code", "status", "says"),
    [
        ("import os, signal\nos.kill(os.getpid(), signal.SIGTERM)\n", 143, ""),
        (
            # A test behind a shell's & inherits a Ctrl-C that is ignored.
            "import signal\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"
            "signal.raise_signal(signal.SIGINT)\n",
            1,
            "Aborted!\n",
        ),
        ("import sys\nsys.exit(143)\n", 1, "error: mine.py: raises SystemExit: 143 (line 2)\n"),
        ("import sys\nsys.exit()\n", 1, "error: mine.py: raises SystemExit (line 2)\n"),
    ],
    ids=["SIGTERM", "SIGINT", "exit", "exit without status"],
)
def test_a_request_to_stop_while_a_plugin_is_read_is_no_fault_of_it(
    code: str, status: int, says: str, tmp_path: Path
) -> None:
    (tmp_path / "mine.py").write_text(code)
    done = command(tmp_path, "methods")
    assert (done.returncode, done.stderr) == (status, says)


def test_the_line_that_raises_when_it_is_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text("def half(of):\n    return 1 / of\n\n\nhalf(0)\n")
    with pytest.raises(PluginError, match=r"^mine\.py: raises ZeroDivisionError: division by zero \(line 2 in half\)$"):
        plugins.use(["mine.py"])
    (tmp_path / "mine.py").write_text("from sharpminima.catalogue.models import MODELS\n\nMODELS.register(3)\n")
    with pytest.raises(PluginError, match=r"line 3, which calls sharpminima/catalogue/registry\.py line \d+\)$"):
        plugins.use(["mine.py"])
