"""The paper's PDF: Typst source, numbers and figures in, the same bytes out."""

import os
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path

import typst

from sharpminima.base.errors import FigureError
from sharpminima.base.files import atomic_path
from sharpminima.base.sums import check_sum

_SOURCES = ("*.typ", "*.bib", "published/*.csv")


def compile_paper(
    source: str | os.PathLike[str],
    numbers: str | os.PathLike[str],
    figures: Iterable[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    *,
    provenance: Iterable[str | os.PathLike[str]] = (),
) -> None:
    """Compile a paper to PDF, with the fonts inside Typst and no date.

    The source finds its siblings (other Typst files, references, tables in ``published/``), ``numbers.json``,
    ``figures/<name>.svg`` and ``provenance/<name>.json`` beside itself, and in ``sys.inputs`` the names of the
    ``figures`` and of those that have a ``provenance``, separated by commas.

    Raises:
        FigureError: a file is missing, or the source does not compile.
        SharpminimaError: the numbers were cut off or edited after they were made.
    """
    source = Path(source)
    check_sum(numbers)
    with tempfile.TemporaryDirectory(prefix="sharpminima-") as folder:
        root = Path(folder)
        given = {"figures": [Path(path) for path in figures], "provenance": [Path(path) for path in provenance]}
        try:
            for pattern in _SOURCES:
                for path in source.parent.glob(pattern):
                    copy = root / path.relative_to(source.parent)
                    copy.parent.mkdir(exist_ok=True)
                    shutil.copyfile(path, copy)
            shutil.copyfile(numbers, root / "numbers.json")
            for kind, paths in given.items():
                (root / kind).mkdir()
                for path in paths:
                    shutil.copyfile(path, root / kind / path.name)
        except OSError as error:
            raise FigureError(f"{error.filename}: cannot be read ({error.strerror})") from error
        if not (root / source.name).exists():
            raise FigureError(f"{source}: is missing, or does not end in .typ")
        try:
            compiler = typst.Compiler(
                input=root / source.name,
                root=root,
                ignore_system_fonts=True,
                sys_inputs={kind: ",".join(path.stem for path in paths) for kind, paths in given.items()},
            )
            pdf, faults = compiler.compile_with_warnings(format="pdf", timestamp=0)
        except typst.TypstError as error:
            raise FigureError(f"{source}: {_one_line(error)}") from error
    if faults:
        # A missing font or figure only warns; the paper would differ from machine to machine.
        raise FigureError(f"{source}: " + "; ".join(_one_line(fault) for fault in faults))
    with atomic_path(out) as scratch:
        assert isinstance(pdf, bytes)  # of one file
        scratch.write_bytes(pdf)


def _one_line(fault: typst.TypstError | typst.TypstWarning) -> str:
    hints = f" ({'; '.join(fault.hints)})" if fault.hints else ""
    return f"{fault.message}{hints}"
