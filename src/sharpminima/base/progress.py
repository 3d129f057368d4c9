"""Progress of long steps: a line that redraws itself in a terminal, plain lines elsewhere."""

import sys
import time
from typing import TextIO


class Progress:
    """Report how far a step is; call the object as often as convenient, it prints seldom.

    Args:
        label: what is running, e.g. ``"lobster lenet5/digits seed 0"``.
        stream: where to print (default: standard error, which the rules send to their log).
        every_s: seconds between two lines where the stream is no terminal.
    """

    def __init__(self, label: str, *, stream: TextIO | None = None, every_s: float = 10.0) -> None:
        self._label = label
        self._stream = stream if stream is not None else sys.stderr
        self._terminal = self._stream.isatty()
        self._every_s = 0.2 if self._terminal else every_s
        self._start = time.monotonic()
        self._last = float("-inf")
        self._first_done: int | None = None

    def __call__(self, done: int, total: int, unit: str = "epoch", **fields: float | str) -> None:
        """Report ``done`` of at most ``total`` units; ``fields`` are shown as ``name value``."""
        now = time.monotonic()
        if self._first_done is None:
            # A resumed training starts late; its speed is that of what is done from here on.
            self._first_done, self._start = done, now
        if now - self._last < self._every_s and done < total:
            return
        self._last = now
        shown = "  ".join(f"{k.replace('_', ' ')} {v if isinstance(v, str) else f'{v:.4g}'}" for k, v in fields.items())
        line = f"{self._label}  {unit} {done}/{total}  {shown}  {self._left(done, total, now)}".rstrip()
        self._print(line, final=done >= total)

    def _left(self, done: int, total: int, now: float) -> str:
        fresh = done - (self._first_done or 0)
        if fresh <= 0 or done >= total:
            return ""
        seconds = (now - self._start) / fresh * (total - done)
        return f"at most {_duration(seconds)} left"

    def note(self, text: str) -> None:
        """Print one line of its own, e.g. for a pruning event."""
        self._print(f"{self._label}  {text}", final=True)

    def _print(self, line: str, *, final: bool) -> None:
        if self._terminal:
            self._stream.write(f"\r\x1b[2K{line}" + ("\n" if final else ""))
        else:
            self._stream.write(line + "\n")
        self._stream.flush()


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
