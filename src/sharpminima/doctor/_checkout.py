"""A checkout and the study that is to run in it: data, disk, locks, programs."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from sharpminima.catalogue.datasets import DATASETS
from sharpminima.data.prepare import DEFAULT_ROOT, ROOT_VARIABLE
from sharpminima.doctor._finding import Finding
from sharpminima.doctor._machine import unwritable
from sharpminima.study.costs import Costs
from sharpminima.study.jobs import Layout
from sharpminima.study.plan import all_steps
from sharpminima.tracking import dvc_at_work, snakemake_is_at_work

PROCESSES = Path("/proc")
_PROGRAMS = ("git", "make")


def examine_checkout(layout: Layout) -> Iterator[Finding]:
    """Look at what the study of a layout needs, in the current folder."""
    yield _programs()
    yield from _data(layout)
    yield _disk(layout)
    yield _snakemake_lock()
    if message := dvc_at_work():
        yield Finding("DVC", "note", message)


def _programs() -> Finding:
    absent = [name for name in _PROGRAMS if shutil.which(name) is None]
    if absent:
        cure = "install them by the system's package manager"
        return Finding("programs", "missing", f"{', '.join(absent)} not on the path", cure)
    return Finding("programs", "ok", ", ".join(_PROGRAMS))


def _data(layout: Layout) -> Iterator[Finding]:
    named = layout.config.data.root or os.environ.get(ROOT_VARIABLE)
    root = Path(named or DEFAULT_ROOT).expanduser()
    for name in layout.datasets():
        if Path(layout.prepared(name)).is_file():
            yield Finding(f"data {name}", "ok", f"prepared in {layout.prepared(name)}")
            continue
        # Those of a library or a plug-in have no files below a root.
        files = [file for file in DATASETS[name].raw_sha256 if "/" in file]
        absent = [file for file in files if not any(Path(root, file + end).is_file() for end in ("", ".gz"))]
        if not absent:
            yield Finding(f"data {name}", "ok", f"{len(files)} raw files in {root}" if files else "needs no files")
            continue
        said = f"{len(absent)} of {len(files)} raw files not in {root}"
        if reason := unwritable(root):
            cure = f"copy them there, or name another folder: export {ROOT_VARIABLE}=FOLDER (data/README.md)"
            yield Finding(f"data {name}", "missing", f"{said}, which cannot be written ({reason})", cure)
        else:
            yield Finding(f"data {name}", "note", f"{said}: torchvision downloads them; without a network, copy them")


def _disk(layout: Layout) -> Finding:
    results = Path(layout.config.results)
    kept, resumed = _needs(layout)
    if reason := unwritable(results):
        cure = "another folder as `results` in config.yaml, or other permissions"
        return Finding("disk", "missing", f"{results} cannot be written ({reason})", cure)
    there = next(parent for parent in (results, *results.absolute().parents) if parent.exists())
    free = shutil.disk_usage(there).free / 1e6
    said = f"{free / 1000:,.1f} GB free; {layout.name} wants {(kept + resumed) / 1000:,.2f} GB while it runs"
    if free < kept + resumed:
        cure = "free some space, or name a folder on another disk as `results` in config.yaml"
        return Finding("disk", "missing", said, cure)
    return Finding("disk", "ok", said)


def _needs(layout: Layout) -> tuple[float, float]:
    """MB that a study still keeps, and of its resume files, as `sharpminima plan` has them; none of a finished one."""
    costs = Costs(layout)
    steps = all_steps(layout, costs)
    left = sum(not Path(step.output).exists() for step in steps) / len(steps)
    kept, resumed = costs.disk_mb()
    return left * kept, resumed if left else 0.0


def _snakemake_lock() -> Finding:
    if not snakemake_is_at_work():
        return Finding("locks", "ok", "none")
    if running := _snakemake_here():
        return Finding("locks", "note", f"Snakemake is at work in this folder (process {running})")
    cure = "snakemake --unlock, once no other machine runs Snakemake in this folder"
    return Finding("locks", "missing", "a Snakemake that ended has left its lock in .snakemake/locks", cure)


def _snakemake_here() -> int | None:
    """A process of Snakemake on this machine whose folder is this one."""
    here = Path.cwd()
    for process in PROCESSES.glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes().split(b"\0")
            if (process / "cwd").resolve(strict=True) == here and any(b"snakemake" in word for word in words[:2]):
                return int(process.name)
        except OSError:  # it has ended, or is another user's
            continue
    return None
