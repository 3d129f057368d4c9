import json
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from sharpminima.base.errors import FigureError
from sharpminima.report.notebook import EXTENSIONS, execute
from sharpminima.study.schema import FIGURES

from . import cases

NOTEBOOKS = sorted(Path("notebooks").glob("*.ipynb"))


def _notebook(path, *cells, tagged=True):
    found = []
    for index, source in enumerate(cells):
        cell = nbformat.v4.new_code_cell(source, id=f"cell-{index}")
        if tagged and index == 0:
            cell.metadata["tags"] = ["parameters"]
        found.append(cell)
    nbformat.write(nbformat.v4.new_notebook(cells=found), path)
    return path


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_have_parameters_and_no_outputs(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert (notebook.nbformat, notebook.nbformat_minor) == (4, 5)
    assert notebook.metadata.kernelspec.name == "python3"
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.metadata.get("tags") for cell in code].count(["parameters"]) == 1
    assert all(cell.outputs == [] and cell.execution_count is None for cell in code)
    assert [cell.id for cell in notebook.cells] == ["about", "parameters", "figure", "values"]


def test_there_is_a_notebook_a_figure():
    assert sorted(path.stem for path in NOTEBOOKS) == sorted(FIGURES)


@pytest.mark.parametrize(
    ("cells", "parameters", "fault"),
    [
        (
            ("out = ''\nwidth = 1",),
            {"widht": 2},
            "no parameter widht; the parameters cell defines out, width",
        ),
        (("width = 1",), {}, "must define `out`"),
        (("out = (",), {}, "is not Python"),
    ],
)
def test_parameters_are_checked_before_anything_runs(tmp_path, cells, parameters, fault):
    path = _notebook(tmp_path / "n.ipynb", *cells)
    with pytest.raises(FigureError, match=fault):
        execute(path, tmp_path / "n", parameters)


def test_a_notebook_without_parameters_cell_is_refused(tmp_path):
    path = _notebook(tmp_path / "n.ipynb", "out = ''", tagged=False)
    with pytest.raises(FigureError, match="0 cells are tagged"):
        execute(path, tmp_path / "n", {})
    with pytest.raises(FigureError, match="cannot be read"):
        execute(tmp_path / "none.ipynb", tmp_path / "n", {})
    (tmp_path / "text.ipynb").write_text("no notebook")
    with pytest.raises(FigureError, match="is not a notebook"):
        execute(tmp_path / "text.ipynb", tmp_path / "n", {})


def test_a_failed_cell_names_itself_and_leaves_no_figure(tmp_path):
    saves = "from pathlib import Path\nfor e in ('pdf', 'svg'): Path(f'{out}.{e}').write_text('x')"
    path = _notebook(tmp_path / "n.ipynb", "out = ''", saves, "raise ValueError('no such thing')")
    (tmp_path / "f.pdf").write_text("old")
    with pytest.raises(FigureError, match=r"n.ipynb: cell In \[\d\] failed: ValueError: no such thing") as caught:
        execute(path, tmp_path / "f", {})
    assert str(tmp_path / "f.failed.html") in str(caught.value)
    assert "no such thing" in (tmp_path / "f.failed.html").read_text()
    assert (tmp_path / "f.pdf").read_text() == "old"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["f.failed.html", "f.pdf", "n.ipynb"]


def test_a_figure_that_did_not_appear_is_an_error(tmp_path):
    path = _notebook(tmp_path / "n.ipynb", "out = ''", "open(f'{out}.svg', 'w').close()")
    with pytest.raises(FigureError, match=r"wrote no \.pdf"):
        execute(path, tmp_path / "f", {})
    assert not (tmp_path / "f.svg").exists()


@pytest.mark.slow
def test_a_figure_from_the_command_line_without_a_home(tmp_path, monkeypatch):
    """This interpreter runs the kernel, whatever kernelspecs the home holds; no message reaches the log."""
    spec = tmp_path / "home" / ".local" / "share" / "jupyter" / "kernels" / "python3"
    spec.mkdir(parents=True)
    wrong = {"argv": ["/nonexistent/python", "{connection_file}"], "display_name": "x", "language": "python"}
    (spec / "kernel.json").write_text(json.dumps(wrong))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    surface = cases.write(tmp_path, "surface", cases.surface())
    command = [
        sys.executable,
        "-m",
        "sharpminima",
        "figure",
        "notebooks/fig3.ipynb",
        "--out",
        str(tmp_path / "f"),
    ]
    command += ["--parameters", json.dumps({"surface": str(surface)})]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    html = (tmp_path / "f.html").read_text()
    assert "image/svg+xml" in html
    assert "sharpminima-" not in html
    assert (tmp_path / "f.pdf").read_bytes().startswith(b"%PDF")


def test_a_kernel_has_sockets_of_its_own(tmp_path, monkeypatch):
    """Kernels of parallel jobs share the current folder; sockets there would cross their messages."""
    monkeypatch.chdir(tmp_path)
    write = "\n".join(
        [
            "import os, pathlib",
            "from ipykernel.connect import get_connection_file",
            "facts = pathlib.Path(get_connection_file()).read_text()",
            "for extension in ('pdf', 'svg'):",
            "    pathlib.Path(f'{out}.{extension}').write_text(facts)",
            "assert not list(pathlib.Path().glob('*ipc*')), os.listdir()",
        ]
    )
    execute(_notebook(tmp_path / "n.ipynb", "out = ''", write), tmp_path / "f", {})
    facts = json.loads((tmp_path / "f.pdf").read_text())
    assert facts["transport"] == "ipc"
    assert Path(facts["ip"]).is_absolute()
    assert not Path(facts["ip"]).is_relative_to(tmp_path)


def test_a_figure_that_is_made_again_has_the_same_bytes(tmp_path):
    draw = "from matplotlib.figure import Figure\nfrom sharpminima.figures import style\nfigure = Figure()\n"
    draw += "figure.add_subplot().plot([1, power])\nstyle.save_figure(figure, out)"
    path = _notebook(tmp_path / "n.ipynb", "out = ''\npower = 1", draw)
    made = []
    for _ in range(2):
        execute(path, tmp_path / "f", {"power": 2})
        made.append([(tmp_path / f"f.{extension}").read_bytes() for extension in EXTENSIONS])
    assert made[0] == made[1]
