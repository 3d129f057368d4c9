"""What a long sum does between its parts: it tells of them, is kept in a file, and stops on SIGTERM."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

from torch import Tensor

from sharpminima.base.stop import STOP, Stopped
from sharpminima.nets.resume import ResumeFile, save_or_stop


@dataclass(frozen=True)
class Steps:
    """Called after each part of a sum.

    >>> import torch
    >>> told = []
    >>> steps = Steps(progress=lambda *at: told.append(at))
    >>> total, done = steps.begin(torch.zeros(2))
    >>> steps.after(total + 1, 3, 6)
    >>> done, told
    (0, [(3, 6)])
    """

    progress: Callable[[int, int], None] | None = None  # (done, in all)
    file: ResumeFile | None = None

    def begin(self, nothing: Tensor) -> tuple[Tensor, int]:
        """The sum so far and what of it is done: as the file has it, else ``nothing`` and 0."""
        kept = None if self.file is None else self.file.load()
        return (nothing, 0) if kept is None else (kept["sum"].to(nothing.device), int(kept["done"]))

    @contextmanager
    def kept(self, sum_: Tensor, done: int) -> Iterator[None]:
        """Save the sum before a part of it that stops halfway."""
        try:
            yield
        except Stopped:
            if self.file is not None:
                self.file.save({"sum": sum_, "done": done})
            raise

    def after(self, sum_: Tensor, done: int, most: int) -> None:
        """Tell, and save where it is time.

        Raises:
            Stopped: SIGTERM came (where `sharpminima.base.stop` catches it).
        """
        if self.progress is not None:
            self.progress(done, most)
        if STOP.raised or (self.file is not None and self.file.due()):
            save_or_stop(self.file, partial(dict, sum=sum_, done=done))

    def end(self) -> None:
        """Remove the file; the sum is complete."""
        if self.file is not None:
            self.file.remove()
