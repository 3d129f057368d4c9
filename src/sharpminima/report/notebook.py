"""Figures' notebooks, executed strictly: what papermill only warns of is an error here."""

import ast
import contextlib
import json
import logging
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import nbformat

import sharpminima
from sharpminima.base.errors import FigureError
from sharpminima.base.files import atomic_path
from sharpminima.catalogue import plugins

EXTENSIONS = ("svg", "html", "pdf")  # what a figure's notebook leaves
FAILED = "failed.html"
_KERNEL = "python3"
_SOCKET_NAME = 10  # characters of a kernel's socket name after its folder's
_SOCKET_PATH = 107  # characters that the system allows a socket's path
_ANSI = re.compile(r"\x1b\[[0-9;]*m")


def execute(notebook: str | os.PathLike[str], out: str | os.PathLike[str], parameters: Mapping[str, Any]) -> None:
    """Execute a notebook; it must write its figure to the parameter ``out`` + ``.pdf`` and ``.svg``.

    ``out.html`` is the executed notebook. If a cell fails, it is ``out.failed.html`` and nothing
    else is written.

    Args:
        notebook: with one cell tagged ``parameters``.
        out: path of the figure without extension.
        parameters: values for names which that cell assigns.

    Raises:
        FigureError: unknown parameter, no parameters cell, a failed cell, or a figure that did not appear.
    """
    notebook, out = Path(notebook), Path(out)
    source = _read(notebook)
    known = _parameter_names(notebook, source)
    unknown = sorted(set(parameters) - known - {"out"})
    if unknown or "out" not in known:
        fault = f"no parameter {', '.join(unknown)}" if unknown else "its parameters cell must define `out`"
        raise FigureError(f"{notebook}: {fault}; the parameters cell defines {', '.join(sorted(known)) or 'nothing'}")
    failed = Path(f"{out}.{FAILED}")
    failed.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory(prefix="sharpminima-") as folder:
        figure, executed = Path(folder, "figure", out.name), Path(folder, "executed.ipynb")
        figure.parent.mkdir()
        with _jupyter(Path(folder)):
            failure = _run(notebook, executed, {**parameters, "out": str(figure)}, Path(folder))
            html = _html(executed, str(figure), str(out)) if executed.exists() else None
        if failure is not None:
            if html is not None:
                _write(failed, html)
                failure += f"\nsee {failed}"
            raise FigureError(failure)
        assert html is not None  # papermill has written what it executed
        Path(f"{figure}.html").write_text(html, encoding="utf-8")
        for extension in EXTENSIONS:
            if not Path(f"{figure}.{extension}").exists():
                raise FigureError(f"{notebook}: wrote no .{extension}; it must save its figure to the parameter `out`")
        for extension in EXTENSIONS:
            with atomic_path(f"{out}.{extension}") as scratch:
                shutil.copyfile(f"{figure}.{extension}", scratch)


def _read(notebook: Path) -> nbformat.NotebookNode:
    try:
        return nbformat.read(notebook, as_version=4)
    except OSError as error:
        raise FigureError(f"{notebook}: cannot be read ({error.strerror})") from error
    except (ValueError, nbformat.ValidationError) as error:
        raise FigureError(f"{notebook}: is not a notebook ({error})") from error


def _parameter_names(notebook: Path, source: nbformat.NotebookNode) -> set[str]:
    """Names assigned in the cell tagged ``parameters``."""
    cells = [c for c in source.cells if c.cell_type == "code" and "parameters" in c.metadata.get("tags", [])]
    if len(cells) != 1:
        raise FigureError(f"{notebook}: {len(cells)} cells are tagged `parameters`; one is needed")
    try:
        body = ast.parse(cells[0].source).body
    except SyntaxError as error:
        raise FigureError(f"{notebook}: the parameters cell is not Python ({error})") from error
    targets = [t for node in body if isinstance(node, ast.Assign) for t in node.targets]
    targets += [node.target for node in body if isinstance(node, ast.AnnAssign)]
    return {target.id for target in targets if isinstance(target, ast.Name)}


def _run(notebook: Path, executed: Path, parameters: Mapping[str, Any], runtime: Path) -> str | None:
    """Execute through papermill; what went wrong, or None."""
    import papermill
    from nbclient.exceptions import DeadKernelError
    from papermill.exceptions import PapermillExecutionError
    from traitlets.config import Config

    # Kernels of jobs that run at the same time may draw the same TCP ports. Sockets in a folder of their own cannot
    # be taken for another kernel's; without a path, Jupyter would put them all into the current folder.
    ipc = os.name == "posix" and len(str(runtime)) + _SOCKET_NAME < _SOCKET_PATH
    config = Config({"KernelManager": {"transport": "ipc", "ip": str(runtime / "socket")}}) if ipc else Config()
    try:
        papermill.execute_notebook(
            notebook,
            executed,
            parameters=dict(parameters),
            kernel_name=_KERNEL,
            language="python",
            progress_bar=False,
            start_timeout=300,
            config=config,
        )
    except PapermillExecutionError as error:
        last = [line for line in _ANSI.sub("", f"{error.ename}: {error.evalue}").splitlines() if line.strip()]
        return f"{notebook}: cell In [{error.exec_count}] failed: " + "\n".join([last[0], *last[1:][-3:]])
    except (DeadKernelError, RuntimeError) as error:
        return f"{notebook}: its kernel ended before its cells had ({error}); perhaps memory ran out"
    return None


def _html(executed: Path, scratch: str, out: str) -> str:
    """The executed notebook as HTML, naming the figure's path rather than the scratch one."""
    from nbconvert import HTMLExporter

    node = nbformat.read(executed, as_version=4)
    for number, cell in enumerate(node.cells):
        cell.source = cell.source.replace(scratch, out)
        cell["id"] = f"{number}"  # papermill draws one for the cell that it adds
    body, _ = HTMLExporter().from_notebook_node(node)
    return body


def _write(path: Path, text: str) -> None:
    with atomic_path(path) as scratch:
        scratch.write_text(text, encoding="utf-8")


def _plugged() -> list[str]:
    """Options of a kernel that knows the plug-ins which this process knows."""
    stated = [str(plugin) for plugin in plugins.in_use()]
    line = f"__import__('sharpminima.catalogue.plugins', fromlist=['_']).use_stated({stated!r})"
    return [f"--IPKernelApp.exec_lines={line}"] if stated else []


@contextlib.contextmanager
def _jupyter(folder: Path) -> Iterator[None]:
    """Jupyter without the user's home: its folders lie in ``folder``, and the kernel is this interpreter."""
    package = str(Path(sharpminima.__file__).parents[1])
    paths = [package, *filter(None, [os.environ.get("PYTHONPATH")])]
    spec = {
        # A kernelspec of the user's, or another Python on the path, must not run the notebook.
        # A failed cell is reported by message; its log would only hold the interrupt that ends it.
        "argv": [sys.executable, "-m", "ipykernel_launcher", "--log-level=50", *_plugged(), "-f", "{connection_file}"],
        "display_name": "Python 3",
        "language": "python",
        "env": {
            "PYTHONPATH": os.pathsep.join(paths),
            "PYDEVD_DISABLE_FILE_VALIDATION": "1",  # else the debugger prints a warning
            "MPLBACKEND": "agg",
        },
    }
    kernels = folder / "share" / "kernels" / _KERNEL
    kernels.mkdir(parents=True)
    (kernels / "kernel.json").write_text(json.dumps(spec), encoding="utf-8")
    settings = {
        "JUPYTER_PATH": str(folder / "share"),
        "JUPYTER_DATA_DIR": str(folder / "data"),
        "JUPYTER_CONFIG_DIR": str(folder / "config"),
        "JUPYTER_RUNTIME_DIR": str(folder),
        "JUPYTER_PLATFORM_DIRS": "1",
        "IPYTHONDIR": str(folder / "ipython"),
        "MPLCONFIGDIR": str(folder / "matplotlib"),
    }
    logger = logging.getLogger("papermill")
    level, before = logger.level, {name: os.environ.get(name) for name in settings}
    os.environ.update(settings)
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
