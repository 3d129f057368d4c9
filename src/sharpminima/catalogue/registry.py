"""Entries by name, and how what they name is loaded."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from pkgutil import resolve_name
from typing import Any, Protocol, TypeVar

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, PydanticKnownError, core_schema

from sharpminima.base.errors import ConfigError

Code = str | Callable[..., Any]
"""What computes: an import string, ``package.module:name``, or the thing itself."""


class Named(Protocol):
    """What a registry holds."""

    @property
    def name(self) -> str:
        """Its name, verbatim in configs, paths and plots."""


Entry = TypeVar("Entry", bound=Named)


class Registry(dict[str, Entry]):
    """Name -> entry, in the order in which they were registered.

    Args:
        kind: what the entries are, in the singular.
        entries: the built-in ones.
    """

    def __init__(self, kind: str, entries: Iterable[Entry]) -> None:
        super().__init__()
        self.kind = kind
        for entry in entries:
            self.register(entry)

    def register(self, entry: Entry) -> None:
        """Add an entry; a study that is read from now on may name it.

        Raises:
            ConfigError: the name is taken.
        """
        if entry.name in self:
            raise ConfigError(f"there is a {self.kind} {entry.name!r} already; choose another name")
        self[entry.name] = entry


@dataclass(frozen=True, eq=False)  # a registry has no hash, which an optional setting takes of this
class NameIn:
    """Marks a setting that names an entry of a registry as it is when the setting is read; faults are a ``Literal``'s.

    Use: ``Annotated[str, NameIn(MODELS)]``.
    """

    entries: Mapping[str, Any]
    before: tuple[str, ...] = ()  # names that are allowed too

    @property
    def allowed(self) -> tuple[str, ...]:
        """All names, in order."""
        return (*self.before, *self.entries)

    def _checked(self, given: Any) -> str:
        if isinstance(given, str) and given in self.allowed:
            return given
        *first, last = map(repr, self.allowed)
        raise PydanticKnownError("literal_error", {"expected": f"{', '.join(first)} or {last}"})

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """For pydantic."""
        return core_schema.no_info_plain_validator_function(self._checked)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """For pydantic."""
        return {"enum": list(self.allowed), "type": "string"}


@dataclass(frozen=True)
class LabelledNameIn(NameIn):
    """A `NameIn` of entries that may have labels behind their names."""

    label: str = ""  # a pattern

    def _checked(self, given: Any) -> str:
        known = isinstance(given, str) and given in self.entries
        return str(given) if known else super()._checked(given)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """For pydantic."""
        pattern = f"^({'|'.join(self.entries)}){self.label}$"
        return {"anyOf": [{"enum": list(self.allowed)}, {"pattern": pattern}], "type": "string"}


def loaded(code: Code) -> Any:
    """The thing that ``code`` names."""
    return resolve_name(code) if isinstance(code, str) else code


def source_file(module: str) -> str:
    """The file of a module of this package: from the top of a checkout, elsewhere where it is installed."""
    return packaged(f"{module.replace('.', '/')}.py")


def packaged(path: str) -> str:
    """The same of any file of this package, from the folder that holds the package."""
    return f"src/{path}" if Path("src/sharpminima").is_dir() else str(Path(__file__).parents[2] / path)
