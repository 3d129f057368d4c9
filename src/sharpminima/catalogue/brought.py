"""Who brings an entry that is not built in, and what its code raises as one error that names the plug-in's line."""

import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import CodeType

import sharpminima
from sharpminima.base.errors import PluginError, SharpminimaError
from sharpminima.base.extras import extra_of
from sharpminima.base.stop import Ended, Stopped

_OURS = Path(sharpminima.__file__).parent
_THERE = "mend it there"


@dataclass(frozen=True)
class Plugin:
    """Who brings entries."""

    name: str  # a path from the current folder, or a distribution
    version: str  # SHA-256 of a file, version of a distribution
    is_file: bool

    def __str__(self) -> str:
        return f"{self.name}@{self.version}" if self.is_file else f"{self.name}=={self.version}"


BROUGHT: dict[tuple[str, str], Plugin] = {}
"""Kind and name of each entry that is known now and not built in -> whose it is."""
MODULES: dict[str, Plugin] = {}
"""Module, or package of modules, that holds the code of a plug-in -> whose it is."""


def in_use() -> list[Plugin]:
    """All plug-ins whose entries are known now."""
    return list(dict.fromkeys(BROUGHT.values()))


def bringing(*entries: tuple[str, str]) -> list[Plugin]:
    """The plug-ins that bring some of these entries (kind and name); none for built-in ones."""
    return list(dict.fromkeys(BROUGHT[entry] for entry in entries if entry in BROUGHT))


def described(kind: str, name: str) -> str:
    """An entry as a message names it: with whose it is, where it is not built in.

    >>> described("model", "lenet300")
    "model 'lenet300'"
    """
    entry = f"{kind} {name!r}"
    return f"{BROUGHT[kind, name].name}: {entry}" if (kind, name) in BROUGHT else entry


@contextmanager
def running(kind: str, name: str, contract: str, *, there: str = _THERE) -> Iterator[None]:
    """Run code of an entry: where a plug-in brings it, what is raised within is told as the plug-in's fault.

    Built-in entries, and those of who adds them to a registry by hand, raise as they are. So do errors that are known
    already, requests to stop, and what the machine lacks: room on a disk, a library. A plug-in may only have met those.

    Args:
        contract: what such code takes and returns: the cure where no line of the plug-in raised.
        there: the cure where one did.

    Raises:
        PluginError: the code raised, or ended the process by ``sys.exit``; or it cannot be called, or what it returned
            cannot be used.
    """
    try:
        yield
    except (Exception, SystemExit) as error:
        if (kind, name) not in BROUGHT or _is_of_the_machine(error) or not _may_be_blamed(error):
            raise
        line = _line_of(error, MODULES)
        cure = contract if line is None else there
        raise PluginError(f"{described(kind, name)}: raises {_raised(error, line)}; {cure}") from error


def fault_of(error: BaseException) -> PluginError | None:
    """An error that went through a line of a plug-in, told as its fault; None where it did not, or is none.

    Whatever calls a plug-in's code again and again, as a training does a net's, need not wrap it: what nothing else
    tells of is asked this in the end.
    """
    line = _line_of(error, MODULES) if _may_be_blamed(error) else None
    return None if line is None else PluginError(f"{line.plugin.name}: raises {_raised(error, line)}; {_THERE}")


def raised_by(module: str, plugin: Plugin, error: BaseException) -> str:
    """What a plug-in's module raised while it was imported, with its own line that did."""
    return _raised(error, _line_of(error, {module: plugin}))


def is_fault(error: BaseException) -> bool:
    """Whether an error is one that code has made: not Ctrl-C, nor a request to stop."""
    return isinstance(error, Exception | SystemExit) and not isinstance(error, Ended | Stopped)


def _may_be_blamed(error: BaseException) -> bool:
    return is_fault(error) and not isinstance(error, SharpminimaError)


def _is_of_the_machine(error: BaseException) -> bool:
    return isinstance(error, OSError) or (isinstance(error, ModuleNotFoundError) and extra_of(error) is not None)


@dataclass(frozen=True)
class _Line:
    """The innermost line of a plug-in in a traceback."""

    plugin: Plugin
    place: str  # the line, in its function; with the file, where the plug-in is none
    calls: str | None = None  # the innermost line of this package that it called; None: its own, or other libraries'


def _line_of(error: BaseException, modules: Mapping[str, Plugin]) -> _Line | None:
    found = None
    for frame, number in traceback.walk_tb(error.__traceback__):
        code = frame.f_code
        plugin = modules.get(str(frame.f_globals.get("__name__")).partition(".")[0])
        if plugin is not None:
            function = "" if code.co_name == "<module>" else f" in {code.co_qualname}"
            found = _Line(plugin, f"{'' if plugin.is_file else f'{code.co_filename} '}line {number}{function}")
        elif found is not None and (ours := _of_ours(code, number)):
            found = replace(found, calls=ours)
    return found


def _of_ours(code: CodeType, number: int) -> str | None:
    path = Path(code.co_filename)
    return f"sharpminima/{path.relative_to(_OURS)} line {number}" if path.is_relative_to(_OURS) else None


def _raised(error: BaseException, line: _Line | None) -> str:
    said = f"{type(error).__name__}: {' '.join(str(error).split())}".rstrip(": ")
    if line is not None:
        return f"{said} ({line.place}{f', which calls {line.calls}' if line.calls else ''})"
    places = [_of_ours(frame.f_code, number) for frame, number in traceback.walk_tb(error.__traceback__)]
    # The catalogue only makes the call, which the contract tells of.
    innermost = next((at for at in reversed(places) if at and not at.startswith("sharpminima/catalogue/")), None)
    return f"{said} ({innermost})" if innermost else said
