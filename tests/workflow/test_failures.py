"""Snakemake and DVC on the same files: damage, two tools at once, a remote and a cache that do not serve."""

import hashlib
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from .cases import TINY, edit, wait_until
from .repository import FIGURE_STAGES, REINIT, TRAINING, Repository, clone

pytestmark = pytest.mark.slow

PSP = "results/tiny/analysis/psp/digits/lenet300/lobster/level-95/seed-0.csv"


def test_a_flipped_byte_is_found_and_refused(pulled: Repository) -> None:
    checkpoint, table = pulled.folder / REINIT, pulled.folder / PSP
    content = bytearray(checkpoint.read_bytes())
    content[-1] ^= 1
    checkpoint.write_bytes(content)
    assert "runs@tiny" in pulled.changed()
    damaged = f"error: {REINIT}: is damaged (its SHA-256 does not agree)"
    assert damaged in pulled.refuse("dvc", "repro")
    assert damaged in pulled.refuse("sharpminima", "track")
    shutil.rmtree(pulled.folder / ".dvc/cache")  # of which `dvc checkout` would then remove all
    resume = checkpoint.with_name("resume.safetensors")
    resume.touch()
    pulled.do("dvc", "pull", "--force", REINIT)
    resume.unlink()

    table.write_text(table.read_text().replace("gradual", "Gradual"))
    edited = f"error: {PSP}: was changed or damaged after it was made; `dvc pull --force {PSP}` brings back"
    assert edited in pulled.refuse("dvc", "repro")
    pulled.do("dvc", "pull", "--force", PSP)
    pulled.do("dvc", "pull")  # the rest of the cache
    pulled.assert_only_drawing_is_left()


def test_a_study_is_recorded_while_another_is_not_complete(repository: Repository) -> None:
    edit(repository.folder / "dvc.yaml", "tracked: [tiny]", "tracked: [tiny, demo]")
    edit(repository.folder / TINY, "title: Tiny", "title: Another")
    repository.do("snakemake", "--cores", "2")
    refused = repository.refuse("sharpminima", "track")
    assert "study demo is not up to date" in refused
    assert refused.endswith("or name the studies to record")
    assert "recorded tiny; commit" in repository.do("sharpminima", "track", "tiny")
    assert not any("@tiny" in stage for stage in repository.changed())
    assert "does not track paper, only tiny, demo" in repository.refuse("sharpminima", "track", "paper")
    assert "either names" in repository.refuse("sharpminima", "track", "tiny", "--finished", "demo")


def test_the_second_tool_to_start_refuses(pulled: Repository, tmp_path: Path) -> None:
    begun, go = tmp_path / "begun", tmp_path / "go"
    wait = f"import pathlib, time\npathlib.Path({str(begun)!r}).touch()\n"
    wait += f"while not pathlib.Path({str(go)!r}).exists():\n    time.sleep(0.1)\n"
    path = pulled.folder / "notebooks/fig3.ipynb"
    notebook = json.loads(path.read_text())
    cell = next(cell for cell in notebook["cells"] if cell["id"] == "figure")
    cell["source"] = [wait, *cell["source"]]
    path.write_text(json.dumps(notebook))

    with subprocess.Popen(
        ["dvc", "repro", "fig3@tiny"],
        cwd=pulled.folder,
        env=pulled.environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as first:
        try:
            wait_until(begun.exists)
            assert re.search(
                r"DVC is at work in this folder \(process \d+: .*repro", pulled.refuse("snakemake", "--cores", "1")
            )
            assert "Snakemake is at work in this folder" in pulled.refuse("sharpminima", "track")
            assert "is busy" in pulled.refuse("dvc", "repro", "fig3@tiny")
        finally:
            go.touch()
        assert first.wait() == 0

    begun.unlink()
    go.unlink()
    with subprocess.Popen(
        ["snakemake", "--cores", "1", "--force", "--", "fig3"],
        cwd=pulled.folder,
        env=pulled.environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as first:
        try:
            wait_until(begun.exists)
            (pulled.folder / REINIT).unlink()  # gives the stage something to do
            assert "Snakemake is at work in this folder" in pulled.refuse("dvc", "repro", "runs@tiny")
        finally:
            go.touch()
        assert first.wait() == 0


def test_without_a_remote_or_with_a_remote_that_lacks_objects(tracked: Path, tmp_path: Path) -> None:
    repository = clone(tracked, tmp_path / "clone", pull=False)
    lost = r"error: results/tiny/runs/.*: tracked by DVC, but neither here, nor in its cache, nor in its default remote"
    repository.do("dvc", "remote", "remove", "store")
    assert "No remote provided and no default remote set" in repository.refuse("dvc", "pull")
    assert re.search(lost.replace(".*:", ".* and [0-9]+ more:"), repository.refuse("dvc", "repro"))

    repository.do("git", "checkout", "--quiet", ".")
    digest = hashlib.md5((tracked / REINIT).read_bytes()).hexdigest()  # the name that DVC gives it
    lacking = repository.folder / "data/store/files/md5" / digest[:2] / digest[2:]
    content = lacking.read_bytes()
    lacking.unlink()
    assert "failed to pull" in repository.refuse("dvc", "pull")
    assert re.search(lost, repository.refuse("dvc", "repro"))
    assert not TRAINING.intersection(call.split()[0] for call in repository.calls())

    for command in (("dvc", "pull"), ("dvc", "repro")):
        # `dvc pull` removes what it finds damaged.
        lacking.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        said = repository.refuse(*command)
    assert f"{REINIT}: its copy in DVC's cache or remote is damaged" in said

    # As after an interrupted pull: what is there stays, what was missing comes.
    lacking.write_bytes(content)
    repository.do("dvc", "pull")
    repository.assert_only_drawing_is_left()


def read_only(folder: Path) -> tuple[str, ...]:
    """What a command starts with so that it cannot write into a folder, whoever runs it."""
    if os.geteuid() != 0:
        for path in (folder, *folder.rglob("*")):
            path.chmod(path.stat().st_mode & ~0o222)
        return ()
    mount = 'mount --bind "$1" "$1" && mount -o remount,ro,bind "$1" && shift && exec "$@"'
    command = ("unshare", "--mount", "sh", "-c", mount, "sh", str(folder))
    if shutil.which("unshare") is None or subprocess.run([*command, "true"], capture_output=True).returncode != 0:
        pytest.skip("root writes everywhere, and a read-only mount is not allowed here")
    return command


def test_a_read_only_cache_serves_and_is_named_where_it_would_be_written(tracked: Path, tmp_path: Path) -> None:
    repository, cache = clone(tracked, tmp_path / "clone", pull=False), tmp_path / "cache"
    repository.do("dvc", "cache", "dir", "--local", str(cache))
    repository.do("dvc", "pull")
    shutil.rmtree(repository.folder / "results")
    command = read_only(cache)
    repository.do(*command, "dvc", "checkout")
    (repository.folder / REINIT).unlink()
    repository.do(*command, "dvc", "repro", "runs@tiny")
    assert repository.changed() == {*FIGURE_STAGES, "paper@tiny", "explore@tiny"}
    repository.edit(TINY, "eigenvalues: 2", "eigenvalues: 1")
    message = repository.refuse(*command, "dvc", "repro", "settings@tiny")
    assert re.search(rf"(Read-only file system|Permission denied): '{cache}", message)
