"""First-order PSP-entropy of ResNet-50 at 224 x 224: CPU seconds and memory, each way in a process of its own."""

import gc
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks._machine import peak_memory
from sharpminima.analysis import psp_entropy
from sharpminima.runtime.memory import give_back_memory
from sharpminima.runtime.rng import generator

CLASSES = 8  # that have images, of the net's 1,000
BATCH = 8


class _Bottleneck(nn.Module):
    def __init__(self, before: int, width: int, stride: int) -> None:
        super().__init__()
        sizes = ((before, width, 1, 1), (width, width, 3, stride), (width, 4 * width, 1, 1))
        layers: list[nn.Module] = []
        for inputs, outputs, kernel, step in sizes:
            layers += [nn.Conv2d(inputs, outputs, kernel, step, kernel // 2, bias=False), nn.BatchNorm2d(outputs)]
            layers.append(nn.ReLU())
        self.path, self.last = nn.Sequential(*layers[:-1]), layers[-1]
        self.short: nn.Module = nn.Identity()
        if before != 4 * width:
            shortcut = nn.Conv2d(before, 4 * width, 1, stride, bias=False)
            self.short = nn.Sequential(shortcut, nn.BatchNorm2d(4 * width))

    def forward(self, features: Tensor) -> Tensor:
        found: Tensor = self.last(self.path(features) + self.short(features))
        return found


def build() -> nn.Module:
    """ResNet-50 of ImageNet, freshly initialised: 25,557,032 parameters."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        layers: list[nn.Module] = [nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU()]
        layers.append(nn.MaxPool2d(3, 2, 1))
        before = 64
        for width, blocks in ((64, 3), (128, 4), (256, 6), (512, 3)):
            for number in range(blocks):
                layers.append(_Bottleneck(before, width, 2 if width > 64 and number == 0 else 1))
                before = 4 * width
        return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(before, 1000)).eval()


def _forward(net: nn.Module, images: Tensor, labels: Tensor) -> None:
    with torch.no_grad():
        for part in images.split(BATCH):
            net(part)


def _all_classes(net: nn.Module, images: Tensor, labels: Tensor, by_class: bool = False) -> float:
    return psp_entropy(net, images, labels, classes="present", batch_size=BATCH, by_class=by_class).mean


def _by_class(net: nn.Module, images: Tensor, labels: Tensor) -> float:
    return _all_classes(net, images, labels, by_class=True)


WAYS = {"forward pass alone": _forward, "counts of all classes": _all_classes, "class after class": _by_class}


def large(*, images: int = 64, size: int = 224, threads: int = 1) -> Iterator[dict[str, Any]]:
    """A row for each way."""
    common = {"images": images, "size": size, "threads": threads}
    for way in WAYS:
        command = [sys.executable, "-m", "benchmarks._large", way, str(images), str(size), str(threads)]
        run = subprocess.run(command, capture_output=True, text=True)
        if run.returncode:
            raise RuntimeError(f"{way} failed: {run.stderr.strip().splitlines()[-1]}")
        yield common | {"way": way} | json.loads(run.stdout.splitlines()[-1])


def _measure(way: str, images: int, size: int, threads: int) -> dict[str, Any]:
    torch.set_num_threads(threads)
    draws = generator(0, "benchmark", "large")
    pixels = torch.randn(images, 3, size, size, generator=draws)
    labels = torch.arange(images) % CLASSES
    net = build()
    run = WAYS[way]
    run(net, pixels[:CLASSES], labels[:CLASSES])  # imports, and lets the libraries choose their kernels
    gc.collect()
    give_back_memory()
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew, from what is held now
    before = peak_memory()["peak_memory_mib"]
    spent = time.process_time()
    mean = run(net, pixels, labels)
    spent = time.process_time() - spent
    return {"cpu_seconds": spent, "memory_mib": peak_memory()["peak_memory_mib"] - before, "mean_bits": mean}


def render(rows: Sequence[dict[str, Any]]) -> str:
    """The rows as text."""
    first = rows[0]
    lines = [
        "",
        f"First-order PSP-entropy of ResNet-50, {first['images']} random images of {first['size']} x {first['size']}, "
        f"{CLASSES} classes, {first['threads']} threads",
    ]
    for row in rows:
        mean = "" if row["mean_bits"] is None else f"  mean {row['mean_bits']:.4f} bits"
        lines.append(f"  {row['way']:22} {row['cpu_seconds']:8.1f} CPU s  {row['memory_mib']:7.0f} MiB{mean}")
    return "\n".join(lines)


if __name__ == "__main__":
    _way, *_sizes = sys.argv[1:]
    print(json.dumps(_measure(_way, *map(int, _sizes))))
