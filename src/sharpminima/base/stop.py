"""SIGTERM as a request: a job reads it between two steps, saves its state and stops."""

import signal
from types import FrameType


class Stopped(Exception):
    """The process was asked to stop (SIGTERM); its state is in the resume file."""


class StopSignal:
    """Turns SIGTERM into a flag."""

    def __init__(self) -> None:
        self.raised = False

    def install(self) -> None:
        """Catch SIGTERM in this process (main thread only)."""
        signal.signal(signal.SIGTERM, self._catch)

    def _catch(self, number: int, frame: FrameType | None) -> None:
        self.raised = True


STOP = StopSignal()
