"""SIGTERM and Ctrl-C as requests: a job reads them between two steps, saves its state and stops."""

import signal
from types import FrameType


class Stopped(Exception):
    """The process was asked to stop (SIGTERM, SIGINT); its state is in the resume file."""


class Ended(SystemExit):
    """SIGTERM came where there is no state to save; whoever runs the code of others must not take it for theirs."""


class StopSignal:
    """Turns SIGTERM and SIGINT into a flag, from when a job has read it; before that they end the process as usual.

    A second SIGINT ends it at once.
    """

    def __init__(self) -> None:
        self.signal = signal.SIGTERM
        self._raised = False
        self._read = False

    @property
    def raised(self) -> bool:
        """Whether the process was asked to stop."""
        self._read = True
        return self._raised

    @raised.setter
    def raised(self, raised: bool) -> None:
        self._raised = raised

    def install(self) -> None:
        """Catch both signals in this process (main thread only), but SIGINT where it is ignored: behind a shell's &."""
        signal.signal(signal.SIGTERM, self._catch)
        if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
            signal.signal(signal.SIGINT, self._catch)

    def _catch(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and (self._raised or not self._read):
            raise KeyboardInterrupt
        if not self._read:
            raise Ended(128 + number)
        self.signal, self._raised = signal.Signals(number), True


STOP = StopSignal()
