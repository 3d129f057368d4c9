"""Images a second that a net classifies, masked and as the smaller net that its mask leaves, by structure of the mask.

``python -m benchmarks.inference`` from the root of the checkout. All lines of a model take turns, to and fro. Weights
are those at initialisation, of which a structure's largest stay: what they are does not matter to a clock. Linear
layers are as sparse as convolutions; with one weight a kernel they are whole.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks._machine import describe
from sharpminima.base.files import write_json
from sharpminima.nets.compaction import compact
from sharpminima.nets.masks import Masks, all_masks, apply_masks, sparsity
from sharpminima.nets.models import MODELS, build_model
from sharpminima.nets.storage import stored_bytes
from sharpminima.pruning.engine.structures import Structures, keep_best_structures, kernels_of, positions_of
from sharpminima.runtime.rng import generator

_SHARES = (0.1, 0.02)  # of the weights that are left
_BATCH = 500


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the tables, and write the JSON file."""
    options = _parse(arguments)
    torch.set_num_threads(options.threads)
    results: dict[str, Any] = {"machine": describe("cpu"), "threads": options.threads, "models": {}}
    for model in options.models:
        results["models"][model] = _measure(model, options.rounds, _BATCH // 10 if options.quick else _BATCH)
    print(render(results))
    if options.json is not None:
        write_json(options.json, results)
    return 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.inference", description=__doc__.partition("\n")[0])
    parser.add_argument("--models", nargs="+", choices=list(MODELS), default=["lenet5"], metavar="MODEL")
    parser.add_argument("--threads", type=int, default=1, help="default: %(default)s")
    parser.add_argument("--rounds", type=int, default=10, help="passes of each line; default: %(default)s")
    parser.add_argument("--json", type=Path, help="also write the numbers into this file")
    parser.add_argument("--quick", action="store_true", help="few images: shows that it runs, not how fast")
    return parser.parse_args(arguments)


def structured_masks(model: nn.Module) -> dict[str, Masks]:
    """Masks of a net by what they are: kernels, positions, single weights, of each share, and one weight a kernel."""
    weights = {name: model.get_parameter(name).detach().abs() for name in all_masks(model)}
    of: dict[str, Callable[[Tensor], Structures]] = {
        "kernels": kernels_of,
        "positions": lambda weight: positions_of(weight, weight[0, 0].numel()),
        "weights": lambda weight: Structures.at(torch.arange(weight.numel()).view(weight.shape)),
    }
    size = sum(weight.numel() for weight in weights.values())
    masks_of = {}
    for share in _SHARES:
        for name, partition in of.items():
            structures = {key: partition(weight) for key, weight in weights.items()}
            scores = {key: structures[key].mean(weight) for key, weight in weights.items()}
            masks = keep_best_structures(scores, structures, round(share * size), "layerwise")
            masks_of[f"{name}, {100 * share:g} % left"] = masks
    masks_of["one weight a kernel"] = {
        name: weight == weight.amax((2, 3), keepdim=True) for name, weight in weights.items() if weight.ndim == 4
    }
    return masks_of


def _measure(model_name: str, rounds: int, batch: int) -> list[dict[str, Any]]:
    """A row for each structure and the whole net."""
    whole = build_model(model_name).eval()
    images = torch.randn(batch, *MODELS[model_name].shape, generator=generator(0, "benchmark", "inference"))
    rows: list[dict[str, Any]] = [{"name": "dense", "sparsity": 0.0, "stored_bytes": stored_bytes(whole)}]
    nets: list[nn.Module] = [whole]
    for name, masks in structured_masks(whole).items():
        masked = build_model(model_name).eval()
        apply_masks(masked, masks)
        small = compact(masked, masks, sparse=(nn.Conv2d, nn.Linear)).model.eval()
        rows.append({"name": name, "sparsity": sparsity(masks), "stored_bytes": stored_bytes(masked, masks)})
        nets.append(small)
    seconds: list[list[float]] = [[] for _ in nets]
    with torch.inference_mode():
        for number in range(rounds + 1):  # the first warms up
            places = range(len(nets)) if number % 2 else reversed(range(len(nets)))
            for place in places:
                start = time.perf_counter()
                nets[place](images)
                seconds[place].append(time.perf_counter() - start)
    for row, times in zip(rows, seconds, strict=True):
        row["images_per_second"] = batch / min(times[1:])
        row["median_images_per_second"] = batch / statistics.median(times[1:])
        row["times_dense"] = min(seconds[0][1:]) / min(times[1:])
    return rows


def render(results: dict[str, Any]) -> str:
    """The tables for a person."""
    lines = ["machine:  " + ", ".join(f"{key} {value}" for key, value in results["machine"].items())]
    lines.append(f"threads:  {results['threads']}")
    for model, rows in results["models"].items():
        width = max(len(row["name"]) for row in rows)
        lines += ["", f"{model}:", f"  {'':{width}}  {'images/s':>10}  {'times dense':>11}  {'bytes':>12}"]
        lines += [
            f"  {row['name']:{width}}  {row['images_per_second']:>10,.0f}  {row['times_dense']:>11.2f}"
            f"  {row['stored_bytes']:>12,}"
            for row in rows
        ]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
