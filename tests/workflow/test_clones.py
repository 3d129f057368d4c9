"""Snakemake and DVC on the same files: clones of a recorded run, which have its files and know of it by its record."""

import shutil
from pathlib import Path

import pytest

from sharpminima.base.files import sha256_file
from sharpminima.study.schema import PAPER_FIGURES

from .cases import TINY, edit
from .repository import REINIT, TRAINING, Repository, clone, copy

pytestmark = pytest.mark.slow


@pytest.mark.long
def test_a_training_parameter_edited_in_a_clone_retrains_what_it_touches(pulled: Repository) -> None:
    pulled.edit(TINY, "random-structure: { replicas: 2", "random-structure: { replicas: 1")
    data = ", ".join(f"results/tiny/data/{name}.safetensors" for name in ("digits", "digits-high"))
    message = f"{data}: missing, and made in this run, would have everything made again"
    assert message in pulled.refuse("snakemake", "--cores", "1")
    assert pulled.calls() == []
    pulled.do("dvc", "repro", "runs@tiny", training=True)
    calls = [call.split() for call in pulled.calls()]
    trained = [call for call in calls if call[0] in TRAINING]
    assert [call[0] for call in trained] == ["retrain", "transfer"]
    assert trained[0][trained[0].index("--strategy") + 1] == "random-structure"
    others = [call[0] for call in calls if call[0] not in TRAINING]
    assert others == ["settings", "restore", "prepare", "prepare", "record"]
    pulled.do("git", "checkout", "--quiet", ".")
    pulled.do("dvc", "checkout")
    pulled.assert_only_drawing_is_left()


def test_a_deleted_checkpoint_comes_back_and_is_not_trained(pulled: Repository) -> None:
    checkpoint = pulled.folder / REINIT
    before = sha256_file(checkpoint)
    checkpoint.unlink()
    shutil.rmtree(pulled.folder / ".dvc/cache")
    pulled.do("dvc", "repro", "--pull", "runs@tiny")
    assert sha256_file(checkpoint) == before
    assert not TRAINING.intersection(call.split()[0] for call in pulled.calls())
    pulled.do("dvc", "pull")
    pulled.assert_only_drawing_is_left()


def test_a_study_that_is_kept_without_its_nets_is_drawn_in_a_clone(finished: Path, tmp_path: Path) -> None:
    source = copy(finished, tmp_path / "source")
    assert "study tiny is in dvc.yaml" in source.refuse("sharpminima", "track", "--without-nets", "tiny")
    edit(source.folder / "dvc.yaml", "tracked: [tiny]", "tracked: [demo]")
    source.do("git", "init", "--quiet")
    name = "results/tiny/analysis/psp/digits/lenet300/lobster/level-95/seed-0.csv"
    table = source.folder / name
    before = table.read_text()
    table.write_text(before.replace("0", "1"))
    assert "was changed or damaged after it was made" in source.refuse("sharpminima", "track", "--without-nets", "tiny")
    table.unlink()  # Snakemake does without: all that is made from it is there
    assert f"{name}: is missing; `snakemake --cores all --config study=tiny -- {name}` makes it" in source.refuse(
        "sharpminima", "track", "--without-nets", "tiny"
    )
    (source.folder / "results/tiny/tables/metrics.json").unlink()
    refused = source.refuse("sharpminima", "track", "--without-nets", "tiny")
    assert "study tiny is not up to date, Snakemake would run 1 analyse" in refused
    assert refused.endswith("`snakemake --cores all --config study=tiny` first")
    source.do("snakemake", "--cores", "2")
    assert table.read_text() == before
    said = source.do("sharpminima", "track", "--without-nets", "tiny")
    files = [f"results/tiny/{name}.dvc" for name in ("runs", "analysis", "tables", "figures")]
    assert f"commit {', '.join(files)}, .dvcignore, workflow/studies/tiny.sha256 and data/store together" in said
    source.commit("Keep all but the nets")

    found = clone(source.folder, tmp_path / "clone", pull=False)
    found.do("dvc", "pull", *files)  # of the study demo, which is tracked too, nothing is there
    assert list(found.folder.glob("results/tiny/runs/**/history.csv"))
    assert not list(found.folder.glob("results/tiny/runs/**/*.safetensors"))
    assert found.wrong_sums() == []
    for extension in ("pdf", "svg", "html"):
        for drawn in found.folder.glob(f"results/tiny/figures/*.{extension}"):
            drawn.unlink()
    wanted = (*PAPER_FIGURES, "paper", "explore")
    assert found.planned("--allowed-rules", *wanted, "--", *wanted).keys() == {*wanted}
    found.do("snakemake", "--cores", "2", "--allowed-rules", *wanted, "--", *wanted)
    assert {call.split()[0] for call in found.calls()} == {"figure", "paper", "explore"}
    assert found.wrong_sums() == []
    for path in ("paper/build/tiny.pdf", "results/tiny/explore.html"):
        assert sha256_file(found.folder / path) == sha256_file(source.folder / path)
    assert source.changed() & set(files) == found.changed() & set(files) == set()
    assert "would have everything made again that DVC has brought" in found.refuse("snakemake", "--cores", "1")
