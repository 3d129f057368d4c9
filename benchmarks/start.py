"""What starts cost that compute nothing: CPU seconds of a dry run, a plan, the import of a figure's kernel.

``python -m benchmarks.start`` from the root of the checkout.
"""

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[1]
_KERNEL = "from sharpminima.figures import fig2, style; from sharpminima.report import tables"


@dataclass(frozen=True)
class Start:
    """A command, and its CPU seconds when every module loaded PyTorch."""

    name: str
    command: tuple[str, ...]
    before: str
    goal: float  # at most


STARTS = (
    Start("snakemake -n, demo", ("-m", "snakemake", "--dry-run", "--config", "study=demo"), "4.0-4.5", 2.3),
    Start("sharpminima plan paper", ("-m", "sharpminima", "plan", "paper"), "2.9", 0.5),
    Start("import of a figure's kernel", ("-c", _KERNEL), "4.1", 1.5),
)


def cpu_seconds(start: Start) -> float:
    """User and system time of one run, its children included.

    Raises:
        RuntimeError: it fails.
    """
    # Bytecode is kept: a machine compiles the packages once.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    before = psutil.Process().cpu_times()
    done = subprocess.run([sys.executable, *start.command], cwd=ROOT, env=environment, capture_output=True, check=False)
    after = psutil.Process().cpu_times()
    if done.returncode != 0:
        raise RuntimeError(f"{start.name} ended with {done.returncode}:\n{done.stderr.decode()[-2000:]}")
    return after.children_user + after.children_system - before.children_user - before.children_system


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print a line each; exit status 1 where one misses its goal."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.start", description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=int, default=5, help="of each, after one that is not counted; default: 5")
    runs = parser.parse_args(arguments).runs
    missed = False
    print(f"{'CPU s':<30} {'before':>8} {'now':>6} {'goal':>6}")
    for start in STARTS:
        cpu_seconds(start)  # compiles what no one has imported yet
        seconds = min(cpu_seconds(start) for _ in range(runs))
        missed |= seconds > start.goal
        print(f"{start.name:<30} {start.before:>8} {seconds:>6.2f} {start.goal:>6.1f}", flush=True)
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
