"""A full disk, a home that is none, and caches that a killed process has cut off."""

import json
import os
import re
import resource
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from sharpminima import cli
from sharpminima.base.errors import SharpminimaError
from sharpminima.base.files import write_json, write_text
from sharpminima.base.stop import STOP
from sharpminima.nets.resume import FinishedParts
from sharpminima.steps.init import init
from sharpminima.study import read
from sharpminima.study.jobs import Layout
from sharpminima.tracking._known import Known
from sharpminima.tracking._record import read_record
from sharpminima.training import RecipePolicy

KERNEL = """
import sys
sys.path.insert(0, {folder!r})
from kernel import add
print(int(add(2, 3)))
"""
RECIPE = {"batch_size": 50, "max_epochs": 2}


def on_a_full_disk(*arguments: object, room: int = 100) -> str:
    """What a command says that must end in one line: whatever it writes beyond ``room`` bytes of a file fails."""
    reader, writer = os.pipe()
    child = os.fork()  # all modules are loaded, and the limit is the child's own
    if child == 0:
        os.close(reader)
        said = "no error"
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))
            sys.argv = ["sharpminima", *map(str, arguments)]
            cli.main()
        except SystemExit as end:
            said = str(end.code)
        except BaseException as error:
            said = repr(error)
        finally:
            os.write(writer, said.encode())
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        found = pipe.read()
    os.waitpid(child, 0)
    return found


@pytest.fixture(scope="module")
def w0(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("w0") / "w0"
    init(digits, "lenet300", 0, path)
    return path


def full(name: str) -> str:
    """What is said of a file."""
    return rf"error: .*{name}: cannot be written \(.*File too large.*\); free some space"


@pytest.mark.slow
def test_each_step_ends_in_one_line_on_a_full_disk(
    digits: Path, w0: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    common = ("--data", digits, "--init", w0, "--device", "cpu")
    dense = ("dense", *common, "--settings", json.dumps(RECIPE), "--out", tmp_path / "dense")
    assert re.match(full("(history.csv|usage.json)"), on_a_full_disk(*dense))
    assert re.match(full("checkpoint.safetensors"), on_a_full_disk(*dense, room=10_000))
    method = {"name": "snip", "recipe": RECIPE}
    prune = ("prune", *common, "--settings", json.dumps(method), "--level", 0.5, "--out", tmp_path / "prune")
    assert re.match(full("(resume|checkpoint).safetensors"), on_a_full_disk(*prune, room=10_000))
    monkeypatch.setattr(RecipePolicy, "after_step", lambda *_: setattr(STOP, "raised", True))
    try:
        assert re.match(full("resume.safetensors"), on_a_full_disk(*dense, room=10_000))
    finally:
        STOP.raised = False
    assert not list(tmp_path.rglob("*.safetensors"))
    assert not list(tmp_path.rglob("*.part"))


def test_finished_parts_and_w0_need_room(digits: Path, tmp_path: Path) -> None:
    command = ("init", "--data", digits, "--model", "lenet300", "--seed", 0, "--out", tmp_path / "init")
    assert re.match(full("init"), on_a_full_disk(*command))
    assert list(tmp_path.iterdir()) == []
    parts = FinishedParts(tmp_path / "parts.safetensors", fingerprint="a")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        with pytest.raises(SharpminimaError, match=r"parts.safetensors: cannot be written \(.*File too large"):
            parts.add([{"eigenvalue": 0.5}] * 50)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize(("ending", "content"), [("nbi", b""), ("nbi", None), ("nbc", b"")])
def test_a_cut_cache_of_compiled_code_is_made_again(tmp_path: Path, ending: str, content: bytes | None) -> None:
    (tmp_path / "kernel.py").write_text(
        "from sharpminima.runtime.compiled import compiled\n\n\n@compiled\ndef add(a, b):\n    return a + b\n"
    )
    command = [sys.executable, "-c", KERNEL.format(folder=str(tmp_path))]
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path / "cache")}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)

    def run() -> str:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    assert run() == "5"
    (file,) = (tmp_path / "cache").rglob(f"*kernel.add*.{ending}")
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2] if content is None else content)
    assert run() == "5"
    assert all(path.stat().st_size > 100 for path in (tmp_path / "cache").rglob("*kernel.add*"))


@pytest.mark.slow
def test_compiled_code_needs_no_room(tmp_path: Path) -> None:
    (tmp_path / "kernel.py").write_text(
        "from sharpminima.runtime.compiled import compiled\n\n\n@compiled\ndef add(a, b):\n    return a + b\n"
    )
    limit = "import resource, sharpminima.runtime.compiled\nresource.setrlimit(resource.RLIMIT_FSIZE, (10, 10))\n"
    command = [sys.executable, "-c", limit + KERNEL.format(folder=str(tmp_path))]
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path / "cache")}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "5"), done.stderr


@pytest.mark.parametrize("content", ["", "{", "[]", '{"a": 1}', '{"a": ["x", 1, "b"]}'])
def test_a_damaged_list_of_known_hashes_is_dropped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str
) -> None:
    monkeypatch.chdir(tmp_path)
    write_text(".snakemake/sharpminima.json", content)
    write_text("a", "content")
    known = Known()
    digest = known.sha256("a")
    known.save()
    assert Known()._seen["a"][2] == digest


@pytest.mark.parametrize("content", ["{", "[]", '{"jobs": 3}'])
def test_a_damaged_record_is_named(synthetic: Layout, content: str) -> None:
    write_text(synthetic.record("runs"), content)
    with pytest.raises(SharpminimaError, match=r"runs/record\.json: is (not JSON|no record of a stage)"):
        read_record(synthetic, "runs")
    write_json(synthetic.record("runs"), {"format": 1, "jobs": []})
    assert read_record(synthetic, "runs") == []


def test_no_command_says_only_that_it_was_aborted(monkeypatch: pytest.MonkeyPatch) -> None:
    def ends(*_: object) -> None:
        raise EOFError("Ran out of input")

    monkeypatch.setattr(read, "read_config", ends)
    done = CliRunner().invoke(cli.app, ["plan", "demo"])
    assert isinstance(done.exception, SharpminimaError)
    assert str(done.exception).startswith("a file that was read ends too early (Ran out of input); remove")


@pytest.mark.parametrize("profile", ["slurm", "generic"])
def test_jobs_of_a_cluster_need_no_home(tmp_path: Path, profile: str) -> None:
    """What a job inherits: caches in the checkout, unless the user names others."""
    rules = Path("workflow/rules/common.smk").read_text()
    (block,) = re.findall(r"if workflow.is_main_process and workflow.non_local_exec:\n((?:    .*\n)+)", rules)
    environment = {"NUMBA_CACHE_DIR": "/mine"}
    exec("\n".join(line[4:] for line in block.splitlines()), {"os": _Os(environment), "Path": Path})
    assert environment["NUMBA_CACHE_DIR"] == "/mine"
    assert environment["XDG_CACHE_HOME"] == str(Path(".snakemake/cache/xdg_cache_home").absolute())
    assert "below .snakemake/cache" in Path(f"profiles/{profile}/config.yaml").read_text()


class _Os:
    def __init__(self, environ: dict[str, str]) -> None:
        self.environ = environ
