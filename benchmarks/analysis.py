"""Times of the analysis on LeNet-5 and MNIST at LOBSTER's masks: entropy, Hessian, surface, against the usual ways.

``python -m benchmarks.analysis`` from the root of the checkout. Times are minima over repeats, of one process; ways
that take a minute run once.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks import _entropy, _hessian, _large, _others, _surface
from benchmarks._machine import describe, peak_memory
from benchmarks._pruned import MASKS
from sharpminima.base.errors import SharpminimaError
from sharpminima.base.files import write_json
from sharpminima.data.prepare import DEFAULT_ROOT, ROOT_VARIABLE

PARTS = ("entropy", "hessian", "surface")
OTHERS = "others"  # only where it is asked for: it takes hours on a CPU
LARGE = "large"  # this too


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the tables, and write the JSON file."""
    options = _parse(arguments)
    device = options.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    common: dict[str, Any] = {
        "images": options.images,
        "data": options.data,
        "masks": options.masks,
        "device": device,
        "threads": options.threads,
    }
    quick = options.quick
    results: dict[str, Any] = {"machine": describe(device), "parts": {}}
    print("machine: " + ", ".join(f"{key} {value}" for key, value in results["machine"].items()), flush=True)
    try:
        for part in options.only:
            if part == "entropy":
                level_names = ("99.57",) if quick else (_entropy.DENSE, "98", "99.57")
                size = {"repeats": 1, "growth": 0.02} if quick else {}
                rows = _entropy.entropy(level_names, **size, **common)
                text = _entropy.render(rows)
            elif part == "hessian":
                size = {"product_images": options.images, "repeats": 1} if quick else {}
                rows = _hessian.hessian("99.57" if quick else "98", **size, **common)
                text = _hessian.render(rows)
            elif part == OTHERS:
                nets = ("lenet5",) if quick else options.nets
                rows = list(_others.others(nets, images=options.images, data=options.data, threads=options.threads))
                text = _others.render(rows)
            elif part == LARGE:
                size = {"size": 64} if quick else {}
                rows = list(_large.large(images=options.images, threads=options.threads, **size))
                text = _large.render(rows)
            else:
                rows = _surface.surface(points=2 if quick else 4, **common)
                text = _surface.render(rows)
            results["parts"][part] = rows
            print(text, flush=True)
    except SharpminimaError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    results |= peak_memory()
    print(f"\npeak memory of the process: {results['peak_memory_mib']:.0f} MiB")
    if quick:
        print("QUICK: a few images; shows that it runs, not how fast")
    if options.json is not None:
        write_json(options.json, results)
    return 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.analysis", description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--only",
        nargs="+",
        choices=(*PARTS, OTHERS, LARGE),
        default=PARTS,
        metavar="PART",
        help="entropy hessian surface others large",
    )
    parser.add_argument(
        "--nets", nargs="+", choices=list(_others.NETS), default=list(_others.NETS), help="of others: lenet5 resnet18"
    )
    parser.add_argument(
        "--images", type=int, default=None, help="default: 10000 of MNIST's training images; of others 500, of large 64"
    )
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="default: all")
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="cpu", help="default: %(default)s")
    parser.add_argument(
        "--data",
        type=Path,
        default=Path(os.environ.get(ROOT_VARIABLE) or DEFAULT_ROOT),
        help=f"a torchvision root; default: ${ROOT_VARIABLE}, else {DEFAULT_ROOT}; nothing is downloaded",
    )
    parser.add_argument("--masks", type=Path, default=MASKS, help="folder of lenet5-<level>.safetensors")
    parser.add_argument("--json", type=Path, help="also write the numbers into this file")
    parser.add_argument("--quick", action="store_true", help="40 images: shows that it runs")
    options = parser.parse_args(arguments)
    usual = 500 if OTHERS in options.only else 64 if LARGE in options.only else 10_000
    options.images = options.images or (40 if options.quick else usual)
    return options


if __name__ == "__main__":
    sys.exit(main())
