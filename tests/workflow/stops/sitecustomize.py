"""On PYTHONPATH of the studies that tests break: a step stops itself at its first epoch, where the test wants it.

From outside, a quick training is over before one who looks for it has found it. A stopped one does not end before Slurm
ends it (SIGCONT, SIGTERM), and has a state to go on from. It then takes as long to save it as one of a big net on a
network drive.
"""

import io
import os
import signal
import sys
import time
from pathlib import Path

SAVING_S = 3.0


class _Stopping(io.TextIOWrapper):
    """Standard error of a step; after the first line of an epoch, the process stops.

    Args:
        command: of the step.
        wanted: a file of lines ``command text-in-the-log's-path``, read when the time has come.
    """

    def __init__(self, command: str, wanted: Path) -> None:
        super().__init__(sys.stderr.buffer, encoding="utf-8", line_buffering=True)
        self._command, self._wanted = command, wanted
        self._asked = False

    def write(self, text: str) -> int:
        written = super().write(text)
        # Two spaces: "goes on from resume.safetensors at epoch 7" is none.
        if "  epoch " in text and not self._asked:
            self._asked = True
            self.flush()
            log = str(Path("/proc/self/fd/2").readlink())
            for line in self._wanted.read_text().splitlines():
                command, _, part = line.partition(" ")
                if command == self._command and part in log:
                    os.kill(os.getpid(), signal.SIGSTOP)
                    self._wait_if_told_to_end()
        return written

    @staticmethod
    def _wait_if_told_to_end() -> None:
        from sharpminima.base.stop import STOP  # here: most who load this file are other programs

        time.sleep(0.2)  # SIGTERM may come after SIGCONT
        if STOP.raised:
            time.sleep(SAVING_S)


if "STOPS" in os.environ and len(sys.orig_argv) > 2 and Path(sys.orig_argv[1]).name == "sharpminima":
    sys.stderr = _Stopping(sys.orig_argv[2], Path(os.environ["STOPS"]))
