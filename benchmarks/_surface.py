"""Points a second of a map of LeNet-5's loss surface, with all measures, at LOBSTER's masks."""

import copy
import itertools
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchmarks._pruned import MASKS, Pruned, described, load_pruned
from sharpminima.analysis import loss_surface
from sharpminima.data.prepare import DEFAULT_ROOT
from sharpminima.runtime.rng import generator

MEASURES = {
    "loss and error": ("loss", "error"),
    "and PSP norm, first order": ("loss", "error", "psp_norm", "psp_entropy_1"),
    "and second order, joint": ("loss", "error", "psp_norm", "psp_entropy_1", "psp_entropy_2"),
}
FULL = 51 * 51  # points of the map that the times are scaled to


def surface(
    level_name: str = "99.57",
    *,
    images: int = 10_000,
    points: int = 4,
    data: Path = DEFAULT_ROOT,
    masks: Path = MASKS,
    device: str = "cpu",
    threads: int = 1,
) -> list[dict[str, Any]]:
    """Seconds a point, by what is measured: the median over a grid of ``points`` x 2 of the usual span."""
    net = load_pruned(level_name, images, data=data, masks=masks, device=device, threads=threads)
    target = _another(net)
    rows = []
    for name, measures in MEASURES.items():
        # The clock starts with the first point of the grid: the ends before it are measured by the whole nets.
        times: list[tuple[float, float]] = []
        loss_surface(
            net.model,
            target,
            net.split.images,
            net.split.labels,
            grid=(points, 2),
            masks=net.masks,
            measures=measures,
            progress=lambda done, total, times=times: times.append((time.perf_counter(), time.process_time())),
        )
        seconds, of_cpu = (
            [after[clock] - before[clock] for before, after in itertools.pairwise(times)] for clock in (0, 1)
        )
        rows.append(
            {
                "table": "surface",
                "level": level_name,
                "device": device,
                "threads": threads,
                "images": images,
                "synthetic": net.synthetic,
                "measures": name,
                "points": len(seconds),
                "seconds": statistics.median(seconds),
                "slowest_seconds": max(seconds),
                "cpu_seconds": statistics.median(of_cpu),
                "scaled_map_minutes": FULL * statistics.mean(seconds) / 60,
            }
        )
    return rows


def _another(net: Pruned) -> nn.Module:
    """A net at the same masks, new random survivors: as far from the first as 1-S may be."""
    target = copy.deepcopy(net.model)
    draws = generator(0, "benchmark", "target")
    with torch.no_grad():
        for name, parameter in target.named_parameters():
            noise = torch.randn(parameter.shape, generator=draws).to(parameter.device)
            kept = net.masks.get(name, torch.ones_like(parameter))
            parameter.copy_(noise * kept * parameter[kept.bool()].std() if kept.sum() > 1 else parameter)
    return target


def render(rows: Sequence[dict[str, Any]]) -> str:
    """The rows as text."""
    first = rows[0]
    lines = [
        "",
        f"Loss surface: {described(first)}; a map of 51 x 51 is scaled from {first['points']} points",
    ]
    for row in rows:
        times = f"{row['seconds']:7.2f} s a point (slowest {row['slowest_seconds']:.2f}, CPU {row['cpu_seconds']:.2f})"
        rates = f"{1 / row['seconds']:6.2f} points/s  51 x 51: {row['scaled_map_minutes']:6.1f} min"
        lines.append(f"  {row['measures']:28} {times}  {rates}")
    return "\n".join(lines)
