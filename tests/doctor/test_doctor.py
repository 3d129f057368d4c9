"""What a machine lacks is said with its cure, and nothing else is called missing."""

import shutil
import sys
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from typer.testing import CliRunner

from sharpminima.cli import app
from sharpminima.doctor import Finding, _checkout, _machine, describe, examine_checkout, examine_machine
from sharpminima.runtime import compiled
from sharpminima.study.jobs import Layout
from sharpminima.study.read import load_config, read_config

ROOT = Path(__file__).parents[2]


def only(findings: Iterable[Finding], subject: str) -> Finding:
    (found,) = [found for found in findings if found.subject == subject]
    return found


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the studies and a config, in which nothing was made."""
    for part in ("workflow", "profiles"):
        (tmp_path / part).symlink_to(ROOT / part)
    shutil.copy(ROOT / "config.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(_machine, "GPU_DEVICES", tmp_path / "none")
    monkeypatch.delenv("SHARPMINIMA_DATA", raising=False)
    return tmp_path


def layout(study: str = "demo", **config: object) -> Layout:
    return Layout(*load_config({"study": study, **config}))


def test_torch_that_cannot_be_imported_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    (found,) = _machine._torch("auto")
    assert (found.grade, "pip install torch" in found.cure) == ("missing", True)


@pytest.mark.parametrize(
    ("device", "gpu", "cuda", "grade", "said"),
    [
        ("auto", False, None, "note", "computes on the CPU"),
        ("cuda", False, "13.0", "missing", "asks for device cuda"),
        ("auto", True, None, "missing", "this torch is built for CPUs"),
        ("auto", True, "13.0", "missing", "torch sees none"),
    ],
)
def test_cuda(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, device: str, gpu: bool, cuda: str | None, grade: str, said: str
) -> None:
    monkeypatch.setattr(_machine, "GPU_DEVICES", tmp_path)
    if gpu:
        (tmp_path / "0000:00:00.0").touch()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", cuda)
    found = only(_machine._torch(device), "CUDA")
    assert found.grade == grade
    assert said in found.said


def test_a_gpu_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = SimpleNamespace(
        is_available=lambda: True,
        device_count=lambda: 2,
        get_device_name="GPU {}".format,
        is_bf16_supported=lambda: True,
    )
    found = _machine._cuda(SimpleNamespace(cuda=cuda), "cuda")
    assert (found.grade, found.said) == ("ok", "GPU 0, GPU 1, with bf16")


def test_the_cpu_s_instructions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flags = tmp_path / "cpuinfo"
    monkeypatch.setattr(_machine, "CPU_FLAGS", flags)
    assert _machine._cpu().grade == "note"  # the file is not there
    flags.write_text("flags\t\t: fpu avx2 avx512f\n")
    found = _machine._cpu()
    assert (found.grade, found.said.partition(" with ")[2]) == ("note", "AVX2, AVX-512; without AVX-512 bf16, AMX bf16")
    flags.write_text("flags\t\t: avx2 avx512f avx512_bf16 amx_bf16\n")
    assert _machine._cpu().grade == "ok"


def test_packages_are_needed_by_the_pipeline_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_machine, "find_spec", lambda name: None if name in ("typst", "dvc") else name)
    found = list(_machine._packages(True))
    assert [each.grade for each in found] == ["ok", "missing", "missing"]
    assert (found[1].said, found[2].said) == ("typst not installed", "dvc not installed")
    assert "sharpminima[report]" in found[1].cure
    assert {each.grade for each in _machine._packages(False)} == {"ok", "note"}
    assert not {"Slurm", "fonts"} & {each.subject for each in examine_machine(pipeline=False)}


def test_slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert _machine._slurm().grade == "note"

    def install(*names: str) -> None:
        for name in names:
            (tmp_path / name).write_text("#!/bin/sh\n")
            (tmp_path / name).chmod(0o755)

    install("sbatch", "squeue")
    found = _machine._slurm()
    assert (found.grade, found.said) == ("missing", "scancel, sacct not on the path")
    install("scancel", "sacct")
    monkeypatch.setattr(_machine, "find_spec", lambda name: None)
    assert "sharpminima[cluster]" in _machine._slurm().cure
    monkeypatch.setattr(_machine, "find_spec", lambda name: name)
    assert _machine._slurm().grade == "ok"


def test_fonts(monkeypatch: pytest.MonkeyPatch) -> None:
    from matplotlib.font_manager import fontManager

    from sharpminima.figures import style

    assert _machine._fonts() == Finding("fonts", "ok", "STIXGeneral, DejaVu Sans")
    monkeypatch.setattr(style, "_register_fonts", lambda: None)  # that of the files, which are not there now
    monkeypatch.setattr(fontManager, "ttflist", [font for font in fontManager.ttflist if font.name != "STIXGeneral"])
    found = _machine._fonts()
    assert (found.grade, found.said) == ("missing", "STIXGeneral not among matplotlib's own")


def test_folders_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocked = tmp_path / "file"
    blocked.touch()  # a folder's permissions do not stop root
    monkeypatch.setenv("HOME", str(blocked))
    for name in ("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "MPLCONFIGDIR"):
        monkeypatch.delenv(name, raising=False)
    found = {each.subject: each for each in _machine._folders()}
    assert {subject for subject, each in found.items() if each.grade == "missing"} == {"HOME", "cache", "matplotlib"}
    assert "XDG_CACHE_HOME" in found["cache"].cure
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "new/folder"))
    assert only(_machine._folders(), "cache").grade == "ok"
    assert not (tmp_path / "new").exists()


def test_numba_s_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    from numba.core.caching import NullCache

    assert _machine._numba_cache().grade == "ok"
    monkeypatch.setattr(compiled, "unsigned", SimpleNamespace(_cache=NullCache()))
    found = _machine._numba_cache()
    assert (found.grade, "NUMBA_CACHE_DIR" in found.cure) == ("missing", True)


def test_data_is_looked_for_where_it_will_be_read(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert {each.grade for each in _checkout._data(layout("demo"))} == {"ok"}  # scikit-learn's
    found = only(_checkout._data(layout("mnist-short")), "data mnist")
    assert (found.grade, "4 of 4 raw files not in data/downloads" in found.said) == ("note", True)
    raw = checkout / "root/MNIST/raw"
    raw.mkdir(parents=True)
    for name in ("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte"):
        (raw / name).touch()
    monkeypatch.setenv("SHARPMINIMA_DATA", str(checkout / "root"))
    assert "1 of 4 raw files" in only(_checkout._data(layout("mnist-short")), "data mnist").said
    (raw / "t10k-labels-idx1-ubyte").touch()
    assert only(_checkout._data(layout("mnist-short")), "data mnist").grade == "ok"
    monkeypatch.setenv("SHARPMINIMA_DATA", str(checkout / "config.yaml"))
    found = only(_checkout._data(layout("mnist-short")), "data mnist")
    assert (found.grade, "SHARPMINIMA_DATA" in found.cure) == ("missing", True)
    prepared = checkout / layout("mnist-short").prepared("mnist")
    prepared.parent.mkdir(parents=True)
    prepared.touch()
    assert only(_checkout._data(layout("mnist-short")), "data mnist").said.startswith("prepared in results/mnist-short")


def test_the_disk_is_held_against_what_the_plan_says(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from sharpminima.study.costs import Costs

    kept, resumed = Costs(layout()).disk_mb()
    usage = SimpleNamespace(free=1.01 * (kept + resumed) * 1e6)
    monkeypatch.setattr(_checkout.shutil, "disk_usage", lambda path: usage)
    assert _checkout._disk(layout()).grade == "ok"
    usage.free *= 0.98
    found = _checkout._disk(layout())
    assert (found.grade, f"wants {(kept + resumed) / 1000:.2f} GB" in found.said) == ("missing", True)
    (checkout / "blocked").touch()
    assert "cannot be written" in _checkout._disk(layout(results="blocked")).said
    for step in _checkout.all_steps(layout(), Costs(layout())):
        Path(step.output).parent.mkdir(parents=True, exist_ok=True)
        Path(step.output).touch()
    usage.free = 0
    assert _checkout._disk(layout()).grade == "ok"  # nothing is left to make


def test_locks_left_behind(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert _checkout._snakemake_lock().grade == "ok"
    locks = checkout / ".snakemake/locks"
    locks.mkdir(parents=True)
    (locks / "0.input.lock").touch()
    found = _checkout._snakemake_lock()
    assert (found.grade, found.cure.startswith("snakemake --unlock")) == ("missing", True)
    for number, command, folder in (
        (7, b"vi\0snakemake.md\0", ROOT),
        (8, b"python\0/bin/snakemake\0--cores\0", checkout),
    ):
        process = checkout / f"proc/{number}"
        process.mkdir(parents=True)
        (process / "cmdline").write_bytes(command)
        (process / "cwd").symlink_to(folder)
    monkeypatch.setattr(_checkout, "PROCESSES", checkout / "proc")
    assert _checkout._snakemake_lock().said == "Snakemake is at work in this folder (process 8)"


def test_programs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert _checkout._programs().grade == "ok"
    monkeypatch.setenv("PATH", str(tmp_path))
    assert _checkout._programs().said == "git, make not on the path"


def test_the_command_ends_with_1_where_something_is_missing(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = CliRunner().invoke(app, ["doctor", "mnist-short"])
    assert result.exit_code == 0, result.output
    assert "note     data mnist" in result.output
    assert result.output.endswith("for the study mnist-short nothing missing\n")
    (checkout / ".snakemake/locks").mkdir(parents=True)
    (checkout / ".snakemake/locks/0.input.lock").touch()
    result = CliRunner().invoke(app, ["doctor"])
    assert (result.exit_code, "-> snakemake --unlock" in result.output) == (1, True)
    assert result.output.endswith("for the study demo 1 missing\n")


def test_without_a_checkout_the_library_alone_is_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, ["doctor"])
    assert result.exit_code == 0, result.output
    assert "for the library (no config.yaml here, so no study) nothing missing" in result.output


def test_all_that_is_looked_at_has_a_line(checkout: Path) -> None:
    found = [*examine_machine(), *examine_checkout(Layout(*read_config("demo")))]
    lines = describe(found).splitlines()
    assert [line.split()[0] for line in lines if not line.startswith(" ")] == [each.grade for each in found]
    assert len({each.subject for each in found}) == len(found) > 15
