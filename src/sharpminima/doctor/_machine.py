"""The machine and its Python, whatever is to run on it."""

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from sharpminima.base.extras import EXTRAS
from sharpminima.doctor._finding import Finding

CPU_FLAGS = Path("/proc/cpuinfo")
GPU_DEVICES = Path("/proc/driver/nvidia/gpus")
_FLAGS = {"avx2": "AVX2", "avx512f": "AVX-512", "avx512_bf16": "AVX-512 bf16", "amx_bf16": "AMX bf16"}
_SLURM = ("sbatch", "squeue", "scancel", "sacct")
_SLURM_PLUGIN = "snakemake_executor_plugin_slurm"


def examine_machine(device: str = "auto", *, pipeline: bool = True) -> Iterator[Finding]:
    """Look at torch, the CPU, packages, Slurm, fonts, and the folders that libraries write.

    Args:
        device: what the config asks for; with ``cuda`` a GPU is needed.
        pipeline: whether studies are to run; the library alone needs no extras.
    """
    yield from _torch(device)
    yield _cpu()
    yield from _packages(pipeline)
    if pipeline:
        yield _slurm()
        yield _fonts()
    yield from _folders()
    yield _numba_cache()


def _torch(device: str) -> Iterator[Finding]:
    try:
        import torch
    except ImportError as error:
        cure = "make setup, or pip install torch"
        yield Finding("torch", "missing", f"cannot be imported ({' '.join(str(error).split())})", cure)
        return
    build = f"for CUDA {torch.version.cuda}" if torch.version.cuda else "for CPUs"
    yield Finding("torch", "ok", f"{torch.__version__}, built {build}")
    yield _cuda(torch, device)


def _cuda(torch: Any, device: str) -> Finding:
    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
        bf16 = "with bf16" if torch.cuda.is_bf16_supported() else "without bf16"
        return Finding("CUDA", "ok", f"{', '.join(names)}, {bf16}")
    if GPU_DEVICES.is_dir() and any(GPU_DEVICES.iterdir()):
        if torch.version.cuda is None:
            cure = "make TORCH_INDEX=URL, with one of PyTorch's CUDA indexes"
            return Finding("CUDA", "missing", "this machine has a GPU, and this torch is built for CPUs", cure)
        cure = "see that the driver is as new as this torch's CUDA (nvidia-smi), and CUDA_VISIBLE_DEVICES"
        return Finding("CUDA", "missing", "this machine has a GPU, and torch sees none", cure)
    if device == "cuda":
        cure = "device: auto in config.yaml, or a machine with a GPU"
        return Finding("CUDA", "missing", "the config asks for device cuda, and there is no GPU", cure)
    return Finding("CUDA", "note", "no GPU here: computes on the CPU")


def _cpu() -> Finding:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        flags = set(re.findall(r"^flags\s*: (.*)$", CPU_FLAGS.read_text(), flags=re.MULTILINE)[0].split())
    except (OSError, IndexError):
        return Finding("CPU", "note", f"{cores} cores; this system does not say what they can")
    there = [name for flag, name in _FLAGS.items() if flag in flags]
    absent = [name for flag, name in _FLAGS.items() if flag not in flags]
    said = f"{cores} cores with {', '.join(there) or 'none'}" + (f"; without {', '.join(absent)}" if absent else "")
    # Without AVX2 torch computes, by its slowest kernels.
    return Finding("CPU", "ok" if "amx_bf16" in flags else "note", said)


def _packages(pipeline: bool) -> Iterator[Finding]:
    for extra, modules in EXTRAS.items():
        if absent := [module for module in modules if find_spec(module) is None]:
            cure = f"make setup, or pip install 'sharpminima[{extra}]'"
            yield Finding(
                f"extra {extra}", "missing" if pipeline else "note", f"{', '.join(absent)} not installed", cure
            )
        else:
            yield Finding(f"extra {extra}", "ok", "installed")


def _slurm() -> Finding:
    absent = [name for name in _SLURM if shutil.which(name) is None]
    if len(absent) == len(_SLURM):
        return Finding("Slurm", "note", "no Slurm here: profiles/slurm cannot be used, all others can")
    if absent:
        cure = "install Slurm's client commands, or ask the cluster's administrators; run on a login node"
        return Finding("Slurm", "missing", f"{', '.join(absent)} not on the path", cure)
    if find_spec(_SLURM_PLUGIN) is None:
        cure = "make setup, or pip install 'sharpminima[cluster]'"
        return Finding("Slurm", "missing", "is here, and Snakemake's plug-in for it is not", cure)
    return Finding("Slurm", "ok", ", ".join(_SLURM))


def _fonts() -> Finding:
    try:
        import matplotlib
        from matplotlib.font_manager import fontManager

        from sharpminima.figures.style import styled
    except ImportError:
        cure = "make setup, or pip install 'sharpminima[report]'"
        return Finding("fonts", "missing", "matplotlib, whose fonts figures take, is not installed", cure)
    with styled():
        wanted = list(matplotlib.rcParams["font.family"])
    known = {entry.name for entry in fontManager.ttflist if Path(entry.fname).is_file()}
    if absent := [name for name in wanted if name not in known]:
        cure = "pip install --force-reinstall matplotlib, which brings them"
        return Finding("fonts", "missing", f"{', '.join(absent)} not among matplotlib's own", cure)
    return Finding("fonts", "ok", ", ".join(wanted))


def _folders() -> Iterator[Finding]:
    """HOME, and where Snakemake, matplotlib and scratch files of all keep what they write."""
    home = Path(os.environ.get("HOME") or "~").expanduser()
    cache = Path(os.environ.get("XDG_CACHE_HOME") or home / ".cache")
    plots = Path(os.environ.get("MPLCONFIGDIR") or Path(os.environ.get("XDG_CONFIG_HOME") or home / ".config"))
    yield _folder("HOME", home, "export HOME=FOLDER, one that can be written")
    yield _folder("cache", cache, "export XDG_CACHE_HOME=FOLDER, one that can be written")
    yield _folder("matplotlib", plots, "export MPLCONFIGDIR=FOLDER, one that can be written")
    yield _folder("scratch", Path(tempfile.gettempdir()), "export TMPDIR=FOLDER, one that can be written")


def _folder(subject: str, folder: Path, cure: str) -> Finding:
    if reason := unwritable(folder):
        return Finding(subject, "missing", f"{folder} cannot be written ({reason})", cure)
    return Finding(subject, "ok", f"{folder} can be written")


def unwritable(folder: Path) -> str | None:
    """Why nothing can be written below a folder, which need not be there; None: it can. Nothing stays behind."""
    there = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    try:
        with tempfile.TemporaryFile(dir=there) as file:
            file.write(b"0")
    except OSError as error:
        return error.strerror or str(error)
    return None


def _numba_cache() -> Finding:
    from numba.core.caching import NullCache

    from sharpminima.runtime.compiled import unsigned

    cache = unsigned._cache
    where = None if isinstance(cache, NullCache) else Path(cache.cache_path)
    if where is not None and unwritable(where) is None:
        return Finding("numba", "ok", f"compiled functions are kept in {where}")
    cure = "export NUMBA_CACHE_DIR=FOLDER, one that can be written"
    return Finding("numba", "missing", "compiled functions cannot be kept: each process compiles for seconds", cure)
