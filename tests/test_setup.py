"""What `make setup` installs with; nothing is installed here."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TORCH = "https://example.org/whl"


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """A folder with the programs of a shell, and nothing else on the path."""
    for name in ("make", "sh", "grep", "echo", "touch"):
        (tmp_path / name).symlink_to(shutil.which(name))
    return tmp_path


def planned(programs: Path, *arguments: str, uv: bool = True, configured: str | None = "") -> list[str]:
    """The lines of the set-up, where pip is configured so; None: this Python has no pip."""
    answer = "exit 1" if configured is None else f'echo "{configured}"'
    for name, line in {"python": answer, **({"uv": "exit 1"} if uv else {})}.items():
        (programs / name).write_text(f"#!/bin/sh\n{line}\n")
        (programs / name).chmod(0o755)
    line = ["make", "--dry-run", "--always-make", "setup", f"PYTHON={programs / 'python'}", *arguments]
    variables = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "TORCH_INDEX")}
    ran = subprocess.run(
        line, cwd=ROOT, env={**variables, "PATH": str(programs)}, capture_output=True, text=True, check=True
    )
    return [line for line in ran.stdout.splitlines() if "pip install " in line]


def test_uv_installs_where_pip_is_as_it_came(programs: Path) -> None:
    harmless = ":env:.disable-pip-version-check='1'"
    assert all(line.startswith("uv pip install") for line in planned(programs, configured=harmless))


@pytest.mark.parametrize(
    "configured",
    [
        ":env:.index-url='https://example.org/simple'",
        "global.extra-index-url='https://example.org/simple'",
        ":env:.find-links='/wheels'",
        "install.no-index='true'",
        "global.constraint='/constraints.txt'",
        "global.proxy='http://proxy:3128'",
        "global.cert='/certificate.pem'",
    ],
)
def test_pip_s_own_configuration_is_honoured(programs: Path, configured: str) -> None:
    assert all("-m pip install" in line for line in planned(programs, configured=configured))


def test_pip_installs_where_there_is_no_uv_or_no_telling(programs: Path) -> None:
    assert all("-m pip install" in line for line in planned(programs, configured=None))
    (programs / "uv").unlink()
    assert all("-m pip install" in line for line in planned(programs, uv=False))


def test_torch_comes_from_the_index_that_is_named(programs: Path) -> None:
    first = planned(programs, f"TORCH_INDEX={TORCH}")[0]
    assert f"uv pip install --python .venv --index-url {TORCH} $(grep -E '^(torch|torchvision)==' " in first
    first = planned(programs, f"TORCH_INDEX={TORCH}", "INSTALLER=pip")[0]
    assert first.startswith(f"PIP_INDEX_URL={TORCH} .venv/bin/python -m pip install --no-compile $(grep -E ")
