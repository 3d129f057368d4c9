"""Snakemake and DVC on the same files: clones of a recorded run, which have its files and know of it by its record."""

import shutil

import pytest

from sharpminima.base.files import sha256_file

from .cases import TINY
from .repository import REINIT, TRAINING, Repository

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
