"""Random bytes flipped in each kind of file: none is used as if nothing had happened."""

import hashlib
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from sharpminima.base.errors import SharpminimaError
from sharpminima.base.sums import write_table
from sharpminima.catalogue.columns import BARRIER_COLUMNS
from sharpminima.data import load_prepared
from sharpminima.nets.checkpoint import load_checkpoint, read_metadata, save_checkpoint
from sharpminima.nets.initial import load_initial, save_initial
from sharpminima.nets.resume import ResumeFile
from sharpminima.report.tables import read_table
from sharpminima.tracking._restore import _check_object

FLIPS = 200
STATE = {"w": torch.tensor([0.0, 1.5, 0.0, -2.0]), "b": torch.tensor([0.25])}
METADATA = {"model": "lenet300", "seed": 3, "metrics": [{"test_wrong": 4, "test_loss": 0.125}], "settings": {"lr": 0.1}}
ROWS = [dict.fromkeys(BARRIER_COLUMNS, 0.5 + number) for number in range(20)]

Read = Callable[[Path], Any]


def w0(path: Path, digits: Path) -> Read:
    save_initial(path, {"model": "lenet300", "num_classes": 10, "seed": 0, "dataset": "digits"})
    return lambda path: vars(load_initial(path))


def checkpoint(path: Path, digits: Path) -> Read:
    save_checkpoint(path, [STATE], masks=[{"w": STATE["w"] != 0}], metadata=METADATA)
    return lambda path: vars(load_checkpoint(path))


def metadata(path: Path, digits: Path) -> Read:
    checkpoint(path, digits)
    return read_metadata


def resume(path: Path, digits: Path) -> Read:
    ResumeFile(path, fingerprint="a").save({"epoch": 3, "lr": 0.1, "state": STATE, "best": [1.5, None]})
    return lambda path: ResumeFile(path, fingerprint="a").load()


def prepared(path: Path, digits: Path) -> Read:
    shutil.copy(digits, path)
    return lambda path: vars(load_prepared(path))


def table(path: Path, digits: Path) -> Read:
    write_table(path, ROWS, BARRIER_COLUMNS)
    return lambda path: read_table("barrier", path).to_dict("records")


def dvc_object(path: Path, digits: Path) -> Read:
    path.write_bytes(bytes(range(256)) * 8)
    digest = hashlib.md5(path.read_bytes()).hexdigest()

    def read(path: Path) -> bytes:
        _check_object(path.name, path, {"md5": digest})
        return path.read_bytes()

    return read


def same(one: Any, other: Any) -> bool:
    """Whether two readings are of the same content."""
    if isinstance(one, torch.Tensor):
        return isinstance(other, torch.Tensor) and torch.equal(one, other)
    if isinstance(one, dict):
        return isinstance(other, dict) and one.keys() == other.keys() and all(same(one[k], other[k]) for k in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


@pytest.mark.parametrize("kind", [w0, checkpoint, metadata, resume, prepared, table, dvc_object])
def test_no_flipped_byte_is_used_silently(
    kind: Callable[[Path, Path], Read], digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(".snakemake").mkdir()
    seed = random.randrange(2**32)
    print(f"seed {seed}")  # pytest shows it with a failure
    draws = random.Random(seed)
    path = Path("file")
    read = kind(path, digits)
    content, whole = path.read_bytes(), read(path)
    assert whole is not None
    refused, named = 0, True
    for _ in range(FLIPS):
        # Half of them where a safetensors file has its header, which is the smaller part.
        end = len(content) if draws.random() < 0.5 else min(len(content), 2000)
        place, bit = draws.randrange(end), 1 << draws.randrange(8)
        path.write_bytes(content[:place] + bytes([content[place] ^ bit]) + content[place + 1 :])
        try:
            found = read(path)
        except SharpminimaError as error:
            found, named = None, named and "file" in str(error)
        if found is None:  # refused, or a resume file that is ignored
            refused += 1
        else:
            assert same(found, whole), f"byte {place}, bit {bit}"
    assert named
    assert refused > FLIPS / 2
