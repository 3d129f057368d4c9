"""What the results of all analyses can do: print in three lines, become a table or a figure, be saved and read."""

import dataclasses
import os
from abc import ABC, abstractmethod
from importlib import import_module
from pathlib import Path
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any, ClassVar, Self

from torch import Tensor

from sharpminima.base.errors import AnalysisError
from sharpminima.base.files import atomic_path
from sharpminima.nets.checkpoint import RESULTS, load_tree, save_tree

if TYPE_CHECKING:
    import pandas
    from matplotlib.figure import Figure

_TABLES = {".csv"}
_WHOLE = {".safetensors"}


class Result(ABC):
    """A frozen dataclass of tensors and JSON values, also in dictionaries and dataclasses.

    Of dataclasses in it, files hold dictionaries, which its ``__post_init__`` takes as well.

    Tables and figures need pandas and matplotlib, of the extra ``report``; they are loaded when asked for.
    """

    drawn_by: ClassVar[str]
    """The function that draws a result, by import string: it stands above the analyses."""

    @abstractmethod
    def _lines(self) -> tuple[str, str, str]:
        """What it prints."""

    @abstractmethod
    def _columns(self) -> dict[str, Any]:
        """Its table: name -> values of one length, tensors or lists."""

    def __str__(self) -> str:
        return "\n".join(self._lines())

    __repr__ = __str__

    def to_frame(self) -> "pandas.DataFrame":
        """The result's table; names and units of the columns are those of the fields, of the loss ``.attrs["unit"]``.

        Raises:
            AnalysisError: pandas is not installed.
        """
        _needed("pandas")
        columns = self._columns()
        values = {name: each.tolist() if isinstance(each, Tensor) else each for name, each in columns.items()}
        frame: pandas.DataFrame = import_module("pandas").DataFrame(values)
        frame.attrs["unit"] = getattr(self, "unit", "nats")
        return frame

    def plot(self) -> "Figure":
        """The result as a figure, in the style of the study's; ``.savefig`` of it writes a file.

        Raises:
            AnalysisError: pandas or matplotlib is not installed.
        """
        for package in ("pandas", "matplotlib"):
            _needed(package)
        figure: Figure = resolve_name(self.drawn_by)(self.to_frame(), self._lines()[0])
        return figure

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the result into a file: its table as ``.csv``, or all of it, to the bit, as ``.safetensors``.

        Raises:
            AnalysisError: a file of another kind; pandas is not installed (``.csv``).
        """
        path = Path(path)
        if path.suffix in _TABLES:
            frame = self.to_frame()
            with atomic_path(path) as scratch:
                frame.to_csv(scratch, index=False)
        elif path.suffix in _WHOLE:
            save_tree(path, _stored(self), fingerprint=_kind(type(self)))
        else:
            offered = " or ".join(sorted(_TABLES | _WHOLE))
            raise AnalysisError(f"{path.name} is no file of a result; give a name that ends in {offered}")

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read what `save` wrote as ``.safetensors``.

        Raises:
            AnalysisError: there is no such file, it is damaged, or holds another kind of result.
        """
        fields = load_tree(path, fingerprint=_kind(cls))
        if fields is None:
            raise AnalysisError(f"{os.fspath(path)} holds no whole {cls.__name__}; give a file that its save() wrote")
        return cls(**fields)


def _stored(value: Any) -> Any:
    """A value as a file holds it."""
    if dataclasses.is_dataclass(value):
        return {field.name: _stored(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {name: _stored(part) for name, part in value.items()}
    return value


def _kind(cls: type) -> str:
    return f"{RESULTS}{cls.__name__}"


def _needed(package: str) -> None:
    try:
        import_module(package)
    except ImportError as error:
        raise AnalysisError(f"{package} is not installed; pip install 'sharpminima[report]' brings it") from error


def numbers(values: Tensor, most: int = 5) -> str:
    """The first few of some numbers."""
    some = " ".join(f"{value:.4g}" for value in values[:most].tolist())
    return some + (f" ... ({len(values)} in all)" if len(values) > most else "")
