"""Shared by all tests: a prepared digits file, and the checkout."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, settings

from sharpminima.base.files import write_text
from sharpminima.data import prepare_dataset
from sharpminima.nets.checkpoint import save_checkpoint
from sharpminima.runtime.precision import set_precision
from sharpminima.study.jobs import Job, Layout
from sharpminima.study.read import load_config

ROOT = Path(__file__).parents[1]

# One thread: results do not depend on the machine's cores, and tests do not compete for them.
torch.set_num_threads(1)
# Nor does it matter how long anything takes.
settings.register_profile("sharpminima", settings.default, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("sharpminima")


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The prepared digits."""
    path = tmp_path_factory.mktemp("digits") / "digits.safetensors"
    prepare_dataset("digits", path, progress=lambda _: None)
    return path


@pytest.fixture
def synthetic(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Layout:
    """The tiny study in an empty folder, finished without a training: all files but data, figures included.

    Checkpoints hold one tensor; every other file holds its own path.
    """
    layout = Layout(*load_config({"study": str(ROOT / "tests/studies/tiny.yaml")}))
    monkeypatch.chdir(tmp_path)
    for job in [*layout.jobs(), *(layout.figure_job(name) for name in layout.study.figures)]:
        for path in (*job.inputs, *job.outputs) if job.rule in ("numbers", "figure") else job.outputs:
            if path.endswith(".safetensors"):
                _save_net(job, path)
            elif not Path(path).exists():
                write_text(path, path)
    return layout


def _save_net(job: Job, path: str) -> None:
    if job.rule == "prepare":
        return
    weight, keep = torch.arange(4.0), torch.tensor([False, True, True, True])
    metadata = {"dataset_sha256": "d" * 64, "seed": 0, "strategy": job.rule, "settings": job.settings}
    masks = None if job.rule in ("init", "dense") else [{"weight": keep}]
    save_checkpoint(path, [{"weight": weight}], masks=masks, metadata=metadata)


@pytest.fixture
def in_bfloat16() -> Iterator[None]:
    """Trainings of this process compute in bfloat16."""
    set_precision("bfloat16", torch.device("cpu"))
    yield
    set_precision("float32", torch.device("cpu"))


@pytest.fixture(autouse=True)
def _restore_denormals() -> Iterator[None]:
    """Steps that run in this process flush denormal numbers; hypothesis, for one, must not see that."""
    yield
    torch.set_flush_denormal(False)
