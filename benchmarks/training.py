"""Seconds an epoch and images a second: the usual way, ours dense (in float32 and in bfloat16), at masks, in replicas.

``python -m benchmarks.training`` from the root of the checkout. Each variant lives in a process of its own, and all
of a model take turns, one epoch each, so that what else the machine does hits them alike.
"""

import argparse
import multiprocessing
import os
import statistics
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch

from benchmarks._machine import Peak, describe, peak_memory
from benchmarks._ours import WAYS, Ours
from benchmarks._setup import RECIPES, Setup, find_root
from benchmarks._usual import Usual
from sharpminima.base.errors import SharpminimaError
from sharpminima.base.files import write_json
from sharpminima.catalogue.recipes import PspEntropySettings
from sharpminima.data.prepare import DEFAULT_ROOT, ROOT_VARIABLE
from sharpminima.nets.checkpoint import load_checkpoint
from sharpminima.nets.counts import count_net
from sharpminima.nets.masks import Masks, sparsity
from sharpminima.nets.models import MODELS, build_model
from sharpminima.study.costs import BFLOAT16, DENSE

LEVEL_NAMES = ("90", "98", "99.57")  # percent
REPLICAS_LEVEL_NAME = "99.57"
ENTROPY = "ours, dense, PSP-entropy"
MASKS = Path(__file__).with_name("masks")
TITLES = {"lenet300": "LeNet-300", "lenet5": "LeNet-5", "resnet32": "ResNet-32"}


@dataclass(frozen=True)
class Variant:
    """One line of the table."""

    name: str
    build: Callable[..., Any]  # of what takes `epoch`s; called with `arguments` in a process of its own
    arguments: tuple[Any, ...]
    flops: int = 0  # of a forward pass of one image, as needed: those of the weights that can act
    replicas: int = 1
    usual: bool = False
    facts: dict[str, Any] = field(default_factory=dict)


class Runner:
    """The process of a variant, which waits between its epochs."""

    def __init__(self, context: Any, variant: Variant) -> None:
        self.variant = variant
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, variant.build, variant.arguments))
        self._process.start()
        theirs.close()
        self._receive()

    def epoch(self) -> tuple[float, float]:
        """Seconds of training and of validation (see `Usual.epoch`)."""
        self._connection.send("epoch")
        return self._receive()

    def finish(self) -> dict[str, float]:
        """End the process; the memory it has held."""
        self._connection.send("finish")
        memory = self._receive()
        self._process.join()
        return memory

    def kill(self) -> None:
        """End the process if it is there."""
        if self._process.is_alive():
            self._process.terminate()

    def _receive(self) -> Any:
        try:
            error, answer = self._connection.recv()
        except EOFError:
            self._process.join()
            error, answer = f"its process ended with exit code {self._process.exitcode}", None
        if error is not None:
            raise RuntimeError(f"{self.variant.name}: {error}")
        return answer


def _serve(connection: Connection, build: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    try:
        work = build(*arguments)
        work.warm_up()
        connection.send((None, None))
        while connection.recv() == "epoch":
            connection.send((None, work.epoch()))
        connection.send((None, peak_memory()))
    except EOFError:
        pass  # the benchmark has ended
    except Exception:
        connection.send((traceback.format_exc(), None))


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the tables, and write the JSON file."""
    options = _parse(arguments)
    device = options.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    # A server that has imported everything forks them: quick, and no process starts with another's memory.
    kind = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
    context = multiprocessing.get_context(kind)
    if kind == "forkserver":
        context.set_forkserver_preload(["benchmarks._ours", "benchmarks._usual"])
    results: dict[str, Any] = {
        "machine": describe(device),
        "settings": {
            "threads": options.threads,
            "device": device,
            "epochs": options.epochs,
            "quick": options.quick,
        },
        "peak_gflops": 0.0,
        "models": {},
    }
    try:
        for model in options.models:
            measured, peak = _measure(context, model, device, options)
            results["models"][model] = measured
            results["peak_gflops"] = max(results["peak_gflops"], peak)
    except (SharpminimaError, RuntimeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    for measured in results["models"].values():
        for variant in measured["variants"]:
            variant["share_of_peak"] = variant["gflops"] / results["peak_gflops"]
    print(render(results))
    if options.json is not None:
        write_json(options.json, results)
    return 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.training", description=__doc__.partition("\n")[0])
    parser.add_argument("--models", nargs="+", choices=list(RECIPES), default=list(RECIPES), metavar="MODEL")
    parser.add_argument("--threads", type=_positive, default=os.cpu_count() or 1, help="of each variant; default: all")
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="cpu", help="default: %(default)s")
    parser.add_argument("--epochs", type=_positive, default=3, help="epochs of each variant; default: %(default)s")
    parser.add_argument("--workers", type=int, nargs="+", default=None, help="of the DataLoader; default: 0 1 2 4")
    parser.add_argument("--replicas", type=_positive, nargs="+", default=None, help="default: 1 10")
    parser.add_argument(
        "--data",
        type=Path,
        default=Path(os.environ.get(ROOT_VARIABLE) or DEFAULT_ROOT),
        help=f"a torchvision root; default: ${ROOT_VARIABLE}, else {DEFAULT_ROOT}; nothing is downloaded",
    )
    parser.add_argument("--masks", type=Path, default=MASKS, help="folder of <model>-<level>.safetensors")
    parser.add_argument("--json", type=Path, help="also write the numbers into this file")
    parser.add_argument("--quick", action="store_true", help="few images, workers and replicas: shows that it runs")
    options = parser.parse_args(arguments)
    options.workers = options.workers or ([0, 1] if options.quick else [0, 1, 2, 4])
    options.replicas = options.replicas or ([1, 2] if options.quick else [1, 10])
    return options


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is not positive")
    return number


def _measure(context: Any, model: str, device: str, options: argparse.Namespace) -> tuple[dict[str, Any], float]:
    """One model's results, and the fastest matrix product between its epochs in GFLOP/s."""
    recipe = RECIPES[model]
    if options.quick:
        recipe = replace(recipe, batches=min(recipe.batches or 10, 10), validation_images=500, warm_up_batches=2)
    root = find_root(recipe.dataset, options.data)
    setup = Setup(model, recipe, root, device, options.threads)
    variants, notes = _variants(setup, options)
    peak_variant = Variant("peak", Peak, (device, options.threads, 512 if options.quick else 2048))
    runners: list[Runner] = []
    try:
        for variant in [peak_variant, *variants]:
            _progress(f"{model}: {variant.name}: warm-up")
            runners.append(Runner(context, variant))
        times: dict[str, list[tuple[float, float]]] = {runner.variant.name: [] for runner in runners}
        for number in range(options.epochs):
            # To and fro, so that none has the same neighbour before it in all rounds.
            for runner in runners if number % 2 == 0 else reversed(runners):
                name = runner.variant.name
                times[name].append(runner.epoch())
                _progress(f"{model}: round {number + 1}/{options.epochs}: {name}: {_shown(runner, times[name][-1])}")
        memory = {runner.variant.name: runner.finish() for runner in runners}
    finally:
        for runner in runners:
            runner.kill()
    full = {part: len(indices) for part, indices in setup.full.items()}
    used = {part: len(indices) for part, indices in setup.measured.items()}
    rows = [_row(variant, times[variant.name], full, used) | memory[variant.name] for variant in variants]
    usual = [row for row in rows if row["usual"]]
    for row in rows:
        # Each against the number of workers that is the fastest at it.
        for key in ("train", "epoch"):
            best = min(row[f"{key}_seconds"]["minimum"] for row in usual)
            row[f"{key}_ratio"] = row["replicas"] * best / row[f"{key}_seconds"]["minimum"]
    measured = {
        "dataset": recipe.dataset,
        "synthetic": root is None,
        "batch_size": recipe.batch_size,
        "images": full,
        "measured_images": used,
        "scaled": full != used,
        "notes": notes,
        "variants": rows,
    }
    return measured, max(gflops for gflops, _ in times["peak"])


def _shown(runner: Runner, seconds: tuple[float, float]) -> str:
    return f"{sum(seconds):.2f} {'GFLOP/s' if runner.variant.build is Peak else 's'}"


def _progress(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _variants(setup: Setup, options: argparse.Namespace) -> tuple[list[Variant], list[str]]:
    """The lines of a model's table, and what has to be said beside them."""
    model, notes = setup.model, []
    shape = MODELS[model].shape
    dense = count_net(build_model(model), shape).flops_dense
    variants = [
        Variant(f"usual, {workers} workers", Usual, (setup, workers), dense, usual=True) for workers in options.workers
    ]
    variants.append(Variant(DENSE, Ours, (setup,), dense))
    variants.append(Variant(ENTROPY, Ours, (setup, None, 1, "loop", "float32", PspEntropySettings(beta=0.03)), dense))
    variants.append(Variant(BFLOAT16, Ours, (setup, None, 1, "loop", "bfloat16"), dense))
    for level_name in LEVEL_NAMES:
        path = options.masks / f"{model}-{level_name}.safetensors"
        loaded = _mask(path, setup, level_name, notes)
        if loaded is None:
            if level_name == REPLICAS_LEVEL_NAME:
                notes.append(f"replicas not measured: they take the mask at {level_name} %")
            continue
        masks, facts = loaded
        flops = count_net(build_model(model), shape, masks=masks).flops_effective
        variants.append(Variant(f"ours, {level_name} %", Ours, (setup, path), flops, facts=facts))
        if level_name == REPLICAS_LEVEL_NAME:
            variants += [
                Variant(f"ours, {level_name} %, R = {count}, {way}", Ours, (setup, path, count, way), flops, count)
                for way in WAYS
                for count in options.replicas
            ]
    return variants, notes


def _mask(path: Path, setup: Setup, level_name: str, notes: list[str]) -> tuple[Masks, dict[str, Any]] | None:
    """A LOBSTER mask and where it comes from; None, and a note, where it has not reached the level."""
    if not path.exists():
        notes.append(f"{level_name} %: no mask yet ({path.name}), not measured")
        return None
    checkpoint = load_checkpoint(path)
    known = checkpoint.metadata
    if known.get("method") != "lobster" or known.get("model") != setup.model or checkpoint.masks is None:
        raise SharpminimaError(f"{path}: is not a LOBSTER mask of {setup.model}; put one there, or remove it")
    masks = checkpoint.masks[0]
    facts = {
        "level_percent": float(level_name),
        "sparsity": sparsity(masks),
        "dataset": known["dataset"],
        "settings": known["settings"],
    }
    shown = ", ".join(f"{key} {facts['settings'].get(key)}" for key in ("lr", "lambda", "twt", "pwe"))
    line = f"{level_name} %: LOBSTER on {known['dataset']} ({shown}) removed {100 * facts['sparsity']:.3f} %"
    if "note" in known:
        line += f"; {known['note']}"
        facts["note"] = known["note"]
    reached = round(100 * facts["sparsity"], 9) >= float(level_name)
    notes.append(line if reached else f"{line}, less than the level: not measured")
    return (masks, facts) if reached else None


def _row(
    variant: Variant, times: list[tuple[float, float]], full: dict[str, int], used: dict[str, int]
) -> dict[str, Any]:
    """The numbers of a variant, scaled to whole epochs."""
    train = [seconds * full["train"] / used["train"] for seconds, _ in times]
    validation = [seconds * full["validation"] / used["validation"] for _, seconds in times]
    row: dict[str, Any] = {"name": variant.name, "usual": variant.usual, "replicas": variant.replicas}
    if variant.facts:
        row["mask"] = variant.facts
    both = [a + b for a, b in zip(train, validation, strict=True)]
    for key, seconds in (("train", train), ("validation", validation), ("epoch", both)):
        row[f"{key}_seconds"] = {"minimum": min(seconds), "median": statistics.median(seconds), "all": seconds}
    images = variant.replicas * full["train"]
    row["train_images_per_second"] = images / min(train)
    row["epoch_images_per_second"] = images / min(both)
    row["flops_per_image"] = 3 * variant.flops
    row["gflops"] = 3 * variant.flops * images / min(train) / 1e9
    return row


def render(results: dict[str, Any]) -> str:
    """The tables for a person."""
    machine, settings = results["machine"], results["settings"]
    lines = ["machine:  " + ", ".join(f"{key} {value}" for key, value in machine.items())]
    lines.append("settings: " + ", ".join(f"{key} {value}" for key, value in settings.items()))
    lines.append(f"peak:     {results['peak_gflops']:.1f} GFLOP/s, the fastest float32 matrix product seen in this run")
    if settings["quick"]:
        lines.append("QUICK: a few images, scaled to whole epochs; shows that it runs, not how fast")
    for model, measured in results["models"].items():
        images, used = measured["images"], measured["measured_images"]
        lines += [
            "",
            f"{TITLES[model]} on {measured['dataset']}: {images['train']:,} training and {images['validation']:,} "
            f"validation images, batch {measured['batch_size']}",
        ]
        if measured["synthetic"]:
            lines.append(f"  SYNTHETIC images of the size of {measured['dataset']}: its raw files were not found")
        if measured["scaled"]:
            lines.append(
                f"  measured on {used['train']:,} training and {used['validation']:,} validation images and scaled"
            )
        lines += [f"  {note}" for note in measured["notes"]]
        lines += _table(measured["variants"])
    lines += [
        "",
        "s an epoch: of all R replicas together. images/s: R times the images of an epoch, by the seconds of training.",
        "times usual: images/s over those of the usual way with its fastest number of workers, from the minima.",
        "GFLOP/s: 3 times the forward pass, of those weights only that can act; peak MiB: of the main process.",
    ]
    return "\n".join(lines)


def _table(rows: list[dict[str, Any]]) -> list[str]:
    width = max(len(row["name"]) for row in rows)
    head = [
        f"  {'':{width}}  {'training alone':^19}  {'with validation':^19}  {'':>9}  {'times usual':^15}",
        f"  {'':{width}}  {'s an epoch':^19}  {'s an epoch':^19}  {'images/s':>9}  {'train':>7} {'epoch':>7}"
        f"  {'GFLOP/s':>8} {'of peak':>8}  {'peak MiB':>8}",
    ]
    lines = []
    for row in rows:
        seconds = [
            f"{times['minimum']:>8.2f} ({times['median']:>7.2f})"
            for times in (row["train_seconds"], row["epoch_seconds"])
        ]
        lines.append(
            f"  {row['name']:{width}}  {seconds[0]:>19}  {seconds[1]:>19}  {row['train_images_per_second']:>9,.0f}"
            f"  {row['train_ratio']:>7.2f} {row['epoch_ratio']:>7.2f}  {row['gflops']:>8.2f} "
            f"{100 * row['share_of_peak']:>7.1f}%  {row['peak_memory_mib']:>8.0f}"
        )
    return [*head, *lines]


if __name__ == "__main__":
    sys.exit(main())
