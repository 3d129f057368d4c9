"""The errors that a user can cause and cure; the command line prints them as one line, without a traceback."""

from collections.abc import Iterator
from contextlib import contextmanager


class SharpminimaError(Exception):
    """What went wrong, which file or setting it concerns, and the cure, in one message."""


class ConfigError(SharpminimaError):
    """A config or a study does not hold what it must."""


class PluginError(ConfigError):
    """Code of a plug-in raises, or gives what cannot be used; its own line is named where there is one."""


class DataError(SharpminimaError):
    """A dataset is missing, damaged or not of the expected shape."""


class CheckpointError(SharpminimaError):
    """A checkpoint, mask or resume file cannot be used."""


class TrainingError(SharpminimaError):
    """A training cannot go on (diverged, no such device, ...)."""


class MethodError(SharpminimaError):
    """What a pruning method or criterion gives, masks, scores or survivors, is not what its entry promises."""


class RankingError(MethodError, TrainingError):
    """Scores are NaN, and have no rank: most often a training before them has diverged, which is a trial's result."""


class AnalysisError(SharpminimaError):
    """A model or a set of images cannot be analysed."""


class FigureError(SharpminimaError):
    """A notebook or the paper could not be built."""


@contextmanager
def blamed_on(whose: str) -> Iterator[None]:
    """Name the method or criterion of which a `MethodError` within is.

    >>> with blamed_on("method mine"):
    ...     raise MethodError("the masks are a list; give a dictionary")
    Traceback (most recent call last):
    sharpminima.base.errors.MethodError: method mine: the masks are a list; give a dictionary
    """
    try:
        yield
    except MethodError as error:
        raise type(error)(f"{whose}: {error}") from error


def stated_in(log: str) -> str:
    r"""The error that the log of a failed job states; its last line where it states none.

    >>> stated_in("reading\nerror: fig1.ipynb: cell In [2] failed: KeyError: 'x'\nsee fig1.failed.html\n")
    "error: fig1.ipynb: cell In [2] failed: KeyError: 'x'"
    >>> stated_in("")
    'is empty'
    """
    lines = log.splitlines() or ["is empty"]
    return next((line for line in reversed(lines) if line.startswith("error: ")), lines[-1])
