import shutil
from pathlib import Path

import pytest
from dvc.exceptions import DvcException

from sharpminima.base.errors import DataError, SharpminimaError
from sharpminima.base.files import write_text
from sharpminima.study.jobs import Layout
from sharpminima.tracking import _restore, restore

ROOT = Path(__file__).parents[2]


def plan(*rules: str) -> str:
    """What a dry run prints."""
    return "Job stats:\njob count\n---\n" + "".join(f"{rule}    1\n" for rule in rules) + "total 1\n"


@pytest.fixture
def plain(synthetic: Layout, monkeypatch: pytest.MonkeyPatch) -> Layout:
    """The finished study in an empty DVC repository, every file as it should be."""
    from dvc.repo import Repo

    monkeypatch.setenv("DVC_SITE_CACHE_DIR", str(Path("site").resolve()))
    Repo.init(no_scm=True).close()
    monkeypatch.setattr(_restore, "check_files", lambda *_: None)
    return synthetic


def test_images_that_are_needed_and_not_to_be_had_are_one_clear_error(
    plain: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    def snakemake(layout: Layout, *arguments: str) -> str:
        if "--dry-run" in arguments:
            return plan("analyse", "prepare", "analysis")
        fault = "error: /data: MNIST/raw missing; copy the raw files there, or name the folder"
        write_text(f"{layout.root}/logs/prepare/digits.log", f"looking\n{fault}\n")
        raise SharpminimaError("Snakemake stopped with status 1")

    monkeypatch.setattr(_restore, "snakemake", snakemake)
    fault = "^settings have changed, so that images are needed again: /data: MNIST/raw missing; copy the raw files"
    with pytest.raises(DataError, match=fault):
        restore(plain, "analysis")


def test_images_are_not_asked_for_where_no_job_reads_them(plain: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(_restore, "snakemake", lambda _, *arguments: asked.append(arguments) or plan("numbers"))
    restore(plain, "analysis")
    assert asked == [("--dry-run", "--", "analysis")]
    for dataset in plain.datasets():
        write_text(plain.prepared(dataset), "images")
    asked.clear()
    restore(plain, "analysis")
    assert asked == []


def test_a_file_that_dvc_does_not_track_is_left_to_snakemake(plain: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_restore, "snakemake", lambda *_: plan("dense"))
    Path(plain.checkpoints()[0]).unlink()
    restore(plain, "runs")
    assert not Path(plain.checkpoints()[0]).exists()


def test_nothing_is_restored_while_snakemake_is_at_work(plain: Layout) -> None:
    write_text(".snakemake/locks/0.output.lock", "a")
    with pytest.raises(SharpminimaError, match="Snakemake is at work"):
        restore(plain, "runs")
    shutil.rmtree(".snakemake/locks")


STAGES = """
stages:
  runs: {{cmd: "true", outs: [{runs}: {{persist: true}}]}}
  table: {{cmd: "true", outs: [{table}: {{persist: true}}]}}
"""


@pytest.mark.filterwarnings("ignore:_NoneStep.value:DeprecationWarning")  # of pygtrie, in dvc itself
def test_lost_and_never_recorded_files_are_told_apart(plain: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    from dvc.repo import Repo

    monkeypatch.setattr(_restore, "snakemake", lambda *_: plan("dense"))
    write_text("dvc.yaml", STAGES.format(runs=plain.runs_folder, table=plain.table("results")))
    with Repo() as repo:
        repo.commit("runs", force=True)
    checkpoint = Path(plain.checkpoints()[0])
    content = checkpoint.read_bytes()
    checkpoint.unlink()
    restore(plain, "runs")
    assert checkpoint.read_bytes() == content

    # The folder's list is lost with the cache: what was in it cannot be known, so that nothing is left to Snakemake.
    shutil.rmtree(".dvc/cache")
    shutil.rmtree("site")
    checkpoint.unlink()
    with pytest.raises(SharpminimaError, match=r"tracked by DVC, but neither here, nor in its cache"):
        restore(plain, "runs")

    # The table is an output that nobody has recorded: there is nothing to bring back.
    Path(plain.table("results")).unlink()
    restore(plain, "analysis")


def test_a_damaged_object_of_the_remote_is_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the checkout's own configuration of DVC: neither `dvc pull` nor `restore` takes another digit."""
    from dvc.repo import Repo

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", str(tmp_path / "site"))
    with Repo.init(no_scm=True):
        pass
    own = (ROOT / ".dvc/config").read_text()
    write_text(".dvc/config", own.replace("[core]\n", "[core]\n    no_scm = true\n"))
    write_text("results/table.csv", "eigenvalue\n1.5\n")
    with Repo() as repo:
        repo.add("results/table.csv")
        repo.push()
    (stored,) = (path for path in Path("data/store").rglob("*") if path.is_file())
    content = stored.read_text()

    def lose(text: str) -> None:
        for folder in (".dvc/cache", "site"):
            shutil.rmtree(folder, ignore_errors=True)
        Path("results/table.csv").unlink(missing_ok=True)
        stored.unlink(missing_ok=True)  # `dvc pull` itself removes what it finds damaged
        stored.write_text(text)

    lose(content.replace("1.5", "7.5"))
    with Repo() as repo, pytest.raises(DvcException):
        repo.pull()
    lose(content.replace("1.5", "7.5"))
    with pytest.raises(DataError, match=r"results/table.csv: its copy .* is damaged \(files/md5/.*git checkout"):
        _restore._fetch(["results/table.csv"])
    assert not Path("results/table.csv").exists()
    lose(content)
    _restore._fetch(["results/table.csv"])
    assert Path("results/table.csv").read_text() == content
