"""Shared by all tests: a prepared digits file, and the checkout."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from sharpminima.data import prepare_dataset

ROOT = Path(__file__).parents[1]

# One thread: results do not depend on the machine's cores, and tests do not compete for them.
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The prepared digits."""
    path = tmp_path_factory.mktemp("digits") / "digits.safetensors"
    prepare_dataset("digits", path, progress=lambda _: None)
    return path


@pytest.fixture(autouse=True)
def _restore_denormals() -> Iterator[None]:
    """Steps that run in this process flush denormal numbers; hypothesis, for one, must not see that."""
    yield
    torch.set_flush_denormal(False)
