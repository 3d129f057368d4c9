"""The tutorials run, and show what is kept; `PYTHONPATH=tests python tests/docs/test_tutorials.py` writes that anew."""

import math
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from workflow.cases import checkout
from workflow.slurm import QUICK, Cluster, edit_profile, unable

ROOT = Path(__file__).parents[2]
TUTORIALS = ROOT / "docs/tutorials"
ON_CLUSTER = "cluster-run"
"""That for which a Slurm is started, as root."""
NAMES = sorted(path.stem for path in TUTORIALS.glob("*.ipynb"))
CLONED = ("tracked-figure",)
"""Those that want a clone; the others, a folder in which studies are found."""
VARIES = "varies"
"""Tag of a cell whose numbers another CPU makes others."""
_NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?(?:e[+-]?\d+)?")


def executed(name: str, folder: Path) -> nbformat.NotebookNode:
    """The notebook after a run in a folder that is made for it, of a user without a configuration."""
    place = folder / "checkout"
    if name == ON_CLUSTER:
        edit_profile(checkout(place), "slurm", **QUICK)
    elif name in CLONED:
        subprocess.run(["git", "clone", "--quiet", ROOT, place], check=True)
    else:
        place.mkdir()
        for part in ("Snakefile", "workflow", "profiles", "paper", "notebooks", "config.yaml"):
            (place / part).symlink_to(ROOT / part)
    variables = {
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        "HOME": str(folder),
        "DVC_SITE_CACHE_DIR": str(folder / "site"),
        "DVC_GLOBAL_CONFIG_DIR": str(folder / "dvc"),
        "OMP_NUM_THREADS": "1",
    }
    notebook = nbformat.read(TUTORIALS / f"{name}.ipynb", as_version=4)
    client = NotebookClient(notebook, timeout=900, resources={"metadata": {"path": str(place)}})
    client.execute(env=os.environ | variables)
    return notebook


def shown(notebook: nbformat.NotebookNode) -> list[str]:
    """What each cell shows as text; a picture is the kind that it is."""
    cells = []
    for cell in notebook.cells:
        texts = []
        for output in cell.get("outputs", []):
            if output.output_type == "stream":
                texts.append(output.text)
            else:
                pictures = [kind for kind in output.data if kind.startswith("image/")]
                texts.append(" ".join(pictures) or output.data["text/plain"])
        cells.append("".join(texts))
    return cells


_DIGEST = re.compile(r"sha256 [0-9a-f]{12}")  # what is drawn may be drawn anew


def alike(text: str, other: str, *, numbers: bool = True) -> bool:
    """Whether texts are the same but for numbers that another CPU gives: within 10 %, or 2 in counts of percent.

    Without ``numbers`` they may be any: those of a net that learns from a few images.
    """
    text, other = (_DIGEST.sub("digest", each) for each in (text, other))
    found = [[float(number.replace(",", "")) for number in _NUMBER.findall(each)] for each in (text, other)]
    words = [_NUMBER.sub("#", each).split() for each in (text, other)]
    if words[0] != words[1] or not numbers:
        return words[0] == words[1]
    return all(math.isclose(a, b, rel_tol=0.1, abs_tol=2 if "%" in text else 1e-9) for a, b in zip(*found, strict=True))


def assert_alike(name: str, notebook: nbformat.NotebookNode) -> None:
    """That a notebook that was run shows what is kept in it."""
    kept = nbformat.read(TUTORIALS / f"{name}.ipynb", as_version=4)
    for cell, was, now in zip(kept.cells, shown(kept), shown(notebook), strict=True):
        numbers = VARIES not in cell.metadata.get("tags", [])
        assert alike(was, now, numbers=numbers), f"{cell.source}\n--- kept:\n{was}\n--- now:\n{now}"


def on_cluster(folder: Path) -> nbformat.NotebookNode:
    """The notebook after a run on a Slurm of its own."""
    with Cluster(folder / "slurm"):
        return executed(ON_CLUSTER, folder)


@pytest.mark.slow
@pytest.mark.slurm
def test_the_tutorial_of_the_cluster_shows_what_it_shows_when_it_is_run(tmp_path: Path) -> None:
    if (reason := unable()) is not None:
        pytest.skip(reason)
    assert_alike(ON_CLUSTER, on_cluster(tmp_path))


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in NAMES if name != ON_CLUSTER])
def test_a_tutorial_shows_what_it_shows_when_it_is_run(name: str, tmp_path: Path) -> None:
    assert_alike(name, executed(name, tmp_path))


def test_every_code_cell_that_shows_something_has_it_kept() -> None:
    for name in NAMES:
        cells = nbformat.read(TUTORIALS / f"{name}.ipynb", as_version=4).cells
        assert any(cell.get("outputs") for cell in cells), name
        assert not [out for cell in cells for out in cell.get("outputs", []) if out.output_type == "error"], name


@pytest.mark.parametrize(
    ("text", "other", "same"),
    [
        ("test error 3.2 %", "test error 4.0 %", True),
        ("test error 3.2 %", "test error 8.0 %", False),
        ("mean: 2.31 bits", "mean: 2.4 bits", True),
        ("mean: 2.31 bits", "mean: 3.1 bits", False),
        ("2 layers", "2 nets", False),
        ("1,234 weights", "1,250 weights", True),
    ],
)
def test_what_is_alike(text: str, other: str, same: bool) -> None:
    assert alike(text, other) is same


def test_numbers_that_vary_leave_the_words() -> None:
    assert alike("error 3.2 %", "error 80 %", numbers=False)
    assert not alike("error 3.2 %", "loss 3.2 %", numbers=False)


def main() -> None:
    """Write what the notebooks show anew."""
    for name in sys.argv[1:] or NAMES:
        with tempfile.TemporaryDirectory() as folder:
            notebook = on_cluster(Path(folder)) if name == ON_CLUSTER else executed(name, Path(folder))
        for number, cell in enumerate(notebook.cells):
            cell.id = f"cell-{number + 1}"
            cell.metadata.pop("execution", None)  # times
        nbformat.write(notebook, TUTORIALS / f"{name}.ipynb")


if __name__ == "__main__":
    main()
