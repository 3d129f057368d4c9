"""What the benchmarks of the analysis measure on: LeNet-5 at LOBSTER's masks, and MNIST's training images."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchmarks._setup import RECIPES, Setup, find_root
from sharpminima.data import Split
from sharpminima.nets.checkpoint import load_checkpoint
from sharpminima.nets.masks import Masks
from sharpminima.nets.models import build_model
from sharpminima.runtime.device import configure
from sharpminima.runtime.rng import generator

MASKS = Path(__file__).with_name("masks")


@dataclass(frozen=True)
class Pruned:
    """A LeNet-5 that LOBSTER pruned, and MNIST's training images, class-balanced."""

    model: nn.Module
    masks: Masks
    split: Split
    synthetic: bool  # were the raw files not found?


def load_pruned(level_name: str, images: int, *, data: Path, masks: Path, device: str, threads: int) -> Pruned:
    """The net at a level (percent, as in the file's name) and so many images."""
    where = configure(device, threads)
    root = find_root("mnist", data)
    dataset = Setup("lenet5", RECIPES["lenet5"], root, device, threads).images()
    checkpoint = load_checkpoint(masks / f"lenet5-{level_name}.safetensors")
    assert checkpoint.masks is not None
    return Pruned(
        model=checkpoint.load_into(build_model("lenet5")).to(where).eval(),
        masks={name: mask.to(where) for name, mask in checkpoint.masks[0].items()},
        split=dataset.subset("train", images, generator(0, "benchmark", "images"), device=where),
        synthetic=root is None,
    )


def timed(way: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds of a call, the device's work included, and what it returns."""
    start = time.perf_counter()
    returned = way()
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
    return time.perf_counter() - start, returned


def described(row: dict[str, Any]) -> str:
    """Net, images and machine of a row: level, images, synthetic, device, threads."""
    kind = "SYNTHETIC images" if row["synthetic"] else "MNIST training images"
    return f"LeNet-5 at {row['level']} %, {row['images']:,} {kind}, {row['device']}, {row['threads']} threads"
