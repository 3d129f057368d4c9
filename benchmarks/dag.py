"""Seconds and memory that Snakemake takes to know what a large study will do: dry runs of the real Snakefile.

``python -m benchmarks.dag`` from the root of the checkout.
"""

import argparse
import itertools
import json
import re
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from sharpminima.data import DATASETS
from sharpminima.nets.models import MODELS

ROOT = Path(__file__).parents[1]
LEVELS = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.97, 0.98)
STRATEGIES = {
    "rewind": 1,
    "rewind-long": 1,
    "reinit": 10,
    "reinit-long": 10,
    "random-structure": 10,
    "random-structure-layerwise": 10,
}
"""Strategy -> replicas."""
A_RUN = 2 + len(LEVELS) * len(STRATEGIES)  # trainings of an experiment and a seed: dense, method, cells


@dataclass(frozen=True)
class DryRunCost:
    """One dry run."""

    jobs: int
    trainings: int
    seconds: float
    cpu_s: float  # what a machine takes that has nothing else to do: Snakemake plans on one thread
    peak_mb: float


def generate(trainings: int) -> dict[str, Any]:
    """A study of at least so many training jobs: all models on all data that fit, as many seeds as it takes."""
    fitting = [(d, m) for d, m in itertools.product(DATASETS, MODELS) if DATASETS[d].shape == MODELS[m].shape]
    experiments = [
        {
            "dataset": dataset,
            "model": model,
            "method": {"name": "lobster"},
            "levels": LEVELS,
            "strategies": {name: {"seeds": "all", "replicas": count} for name, count in STRATEGIES.items()},
            "analysis": {},
        }
        for dataset, model in fitting
    ]
    seeds = -(-trainings // (A_RUN * len(experiments)))
    return {
        "title": f"{trainings} trainings",
        "seeds": list(range(seeds)),
        "experiments": experiments,
        "focus": {"dataset": fitting[0][0], "model": fitting[0][1]},
    }


def dry_run(trainings: int, *options: str) -> DryRunCost:
    """Run ``snakemake --dry-run`` with ``options`` for a study of so many trainings.

    Raises:
        RuntimeError: Snakemake fails.
    """
    with tempfile.TemporaryDirectory() as folder:
        study, log = Path(folder) / "study.yaml", Path(folder) / "log"
        study.write_text(json.dumps(generate(trainings)))  # JSON is YAML
        config = ["--config", f"study={study}", f"results={folder}/results"]
        start = time.perf_counter()
        with log.open("w") as file:
            process = psutil.Popen(
                [sys.executable, "-m", "snakemake", "--dry-run", *options, *config], cwd=ROOT, stdout=file, stderr=file
            )
            peak = computed = 0.0
            try:
                while process.poll() is None:
                    resident, cpu = _usage(process)
                    peak, computed = max(peak, resident), max(computed, cpu)
                    time.sleep(0.2)
            except BaseException:
                process.kill()
                raise
        seconds = time.perf_counter() - start
        printed = log.read_text()
    if process.returncode != 0:
        raise RuntimeError(f"snakemake ended with {process.returncode}:\n{printed[-2000:]}")
    table = printed.partition("Job stats:")[2]
    counts = {name: int(count) for name, count in re.findall(r"^(\w+) +(\d+)$", table, flags=re.MULTILINE)}
    trained = sum(n for name, n in counts.items() if name in ("dense", "retrain") or name.startswith("prune_"))
    return DryRunCost(counts["total"], trained, seconds, computed, peak)


def _usage(process: psutil.Process) -> tuple[float, float]:
    """Resident memory (MB) and processor time (s)."""
    try:
        times = process.cpu_times()
        return process.memory_info().rss / 1e6, times.user + times.system
    except psutil.NoSuchProcess:
        return 0.0, 0.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print a line each, and compare with the limits."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.dag", description=__doc__.partition("\n")[0])
    parser.add_argument("--trainings", type=int, nargs="+", default=[1_000, 10_000], help="default: %(default)s")
    parser.add_argument("--at-most-seconds", type=float, help="exit status 1 where a run takes longer")
    parser.add_argument("--at-most-mb", type=float, help="exit status 1 where a run takes more memory")
    parser.add_argument("options", nargs="*", help="for Snakemake, after --, e.g. -- --workflow-profile profiles/slurm")
    chosen = parser.parse_args(arguments)
    status = 0
    print(f"{'trainings':>10} {'jobs':>8} {'seconds':>8} {'CPU s':>8} {'peak MB':>8}")
    for trainings in chosen.trainings:
        cost = dry_run(trainings, *chosen.options)
        print(
            f"{cost.trainings:>10,} {cost.jobs:>8,} {cost.seconds:>8.1f} {cost.cpu_s:>8.1f} {cost.peak_mb:>8.0f}",
            flush=True,
        )
        for value, limit in ((cost.seconds, chosen.at_most_seconds), (cost.peak_mb, chosen.at_most_mb)):
            if limit is not None and value > limit:
                print(f"  more than {limit:g}", flush=True)
                status = 1
    return status


if __name__ == "__main__":
    sys.exit(main())
