"""The whole pipeline by Snakemake on a tiny study, in a copy of the checkout that knows nothing of DVC."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from sharpminima.base.files import sha256_file
from sharpminima.study.costs import Costs
from sharpminima.study.jobs import Layout
from sharpminima.study.read import load_config
from sharpminima.study.schema import PAPER_FIGURES

from .cases import TINY, checkout, edit, snakemake
from .repository import Repository, copy

pytestmark = pytest.mark.slow

TABLES = ("tables/results.csv", "tables/density.csv", "tables/numbers.json")
# One process for all steps: each by itself would load its libraries for longer than it computes.
ONE_PROCESS = """
import shlex, sys
from sharpminima.cli import main
for line in sys.stdin:
    sys.argv = shlex.split(line)
    try:
        main()
    except SystemExit as end:
        if end.code:
            raise
"""


def test_every_figure_and_the_paper_come_out(finished: Path) -> None:
    for name in PAPER_FIGURES:
        for extension in ("pdf", "svg", "html"):
            assert (finished / f"results/tiny/figures/{name}.{extension}").stat().st_size > 1_000
    assert (finished / "paper/build/tiny.pdf").read_bytes().startswith(b"%PDF")
    assert '<script type="application/json" id="charts">' in (finished / "results/tiny/explore.html").read_text()
    leftovers = [p for p in (finished / "results").rglob("*") if "resume" in p.name or p.name.endswith(".part")]
    assert leftovers == []


def test_a_run_ends_with_where_its_results_are(finished: Path) -> None:
    logs = sorted((finished / ".snakemake/log").glob("*.log"))
    (said,) = [found for log in logs for found in re.findall(r"Study tiny is done:\n(?: .+\n){5}", log.read_text())]
    for place in ("paper/build/tiny.pdf", "results/tiny/explore.html", "results/tiny/figures/", "results/tiny/tables/"):
        assert f" {place}" in said
        assert (finished / place).exists()
    assert "verdicts  " in said


def test_a_part_of_a_study_ends_without_what_only_the_whole_has(tmp_path: Path) -> None:
    """`--until` and `--omit-from` leave no verdicts to tell of."""
    made = checkout(tmp_path / "checkout")
    for part in (("--until", "init"), ("--omit-from", "dense")):
        printed = snakemake(made, "--cores", "2", *part)
        assert "Error" not in printed
        assert "is done:" not in printed
    assert list(made.rglob("init/seed-0.safetensors"))


def test_a_second_run_has_nothing_to_do_until_something_is_edited(finished: Path, tmp_path: Path) -> None:
    """Each edit by itself, and what DVC says of it: test_edits.py."""
    again = copy(finished, tmp_path / "again")
    assert again.planned() == {}
    again.edit("notebooks/fig3.ipynb", "# Fig. 3", "# Figure 3")
    again.edit(TINY, "eigenvalues: 2", "eigenvalues: 3")
    again.edit(TINY, "reinit: { replicas: 2", "reinit: { replicas: 3")
    changed = (
        "retrain",
        "analyse",
        "table",
        "fig1",
        "fig2",
        "fig3",
        "numbers",
        "forest",
        "provenance",
        "explore",
        "paper",
        "all",
    )
    assert again.planned() == dict.fromkeys(changed, 1)


def test_a_seeded_rerun_gives_identical_tables(finished: Path, tmp_path: Path) -> None:
    again = Repository(checkout(tmp_path / "again"))
    # Not twice through the notebooks: the figures' own tests show that equal tables give equal figures.
    net = "digits/lenet300/lobster/level-95/seed-0"
    names = [f"results/tiny/{name}" for name in TABLES]
    names += [f"results/tiny/analysis/{name}/{net}.csv" for name in ("psp", "hessian")]
    names.append(f"results/tiny/analysis/surface/{net}.csv.bz2")
    printed = again.do("snakemake", "--cores", "1", "--dry-run", "--printshellcmds", *names)
    steps = re.findall(r"(sharpminima \w+ .*) > \S+ 2>&1$", printed, flags=re.MULTILINE)
    done = subprocess.run(
        [sys.executable, "-c", ONE_PROCESS],
        input="\n".join(steps),
        cwd=again.folder,
        env=again.environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for name in names:
        assert sha256_file(finished / name) == sha256_file(again.folder / name), name


def test_disk_use_is_foretold(finished: Path) -> None:
    layout = Layout(*load_config({"study": str(finished / TINY)}))
    expected, _ = Costs(layout).disk_mb()
    kept = {".safetensors", ".pdf", ".svg", ".html"}
    found = sum(path.stat().st_size for path in (finished / "results/tiny").rglob("*") if path.suffix in kept) / 1e6
    assert expected == pytest.approx(found, rel=0.2)


def test_config_faults_stop_snakemake_with_a_list(tmp_path: Path) -> None:
    folder = checkout(tmp_path)
    edit(folder / TINY, "lambda:", "lamda:")
    edit(folder / TINY, "model: lenet300\n    method", "model: x\n    method")
    with pytest.raises(AssertionError) as caught:
        snakemake(folder, "--dry-run")
    printed = str(caught.value)
    assert "did you mean lambda?" in printed
    assert "experiments.0.model: 'x' given" in printed
    assert "Traceback" not in printed
