"""The page of one's own net: its blocks run one after another, and it shows each measure."""

import json
import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

import sharpminima as sm
from sharpminima.cli import app

PAGE = Path(__file__).parents[2] / "docs/howto/own-net.md"
TEXT = PAGE.read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", TEXT, flags=re.DOTALL)
COMMANDS = [line for block in re.findall(r"```sh\n(.*?)```", TEXT, flags=re.DOTALL) for line in block.splitlines()]


@pytest.mark.slow
def test_the_blocks_run(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": "own_net"}
    for block in BLOCKS:
        exec(compile(block, str(PAGE), "exec"), names)
    assert "True, True, True" in capsys.readouterr().out  # the eigenvalues converged
    assert isinstance(names["spectrum"], sm.HessianEigenvalues)
    assert isinstance(names["psp"], sm.PspEntropy)


def test_each_measure_is_there() -> None:
    shown = "\n".join(BLOCKS)
    measures = [name for name in sm.__all__ if name.startswith(("hessian_", "loss_", "psp_entropy"))]
    assert len(measures) >= 8
    assert [name for name in measures if f"sm.{name}(" not in shown] == []


def test_the_commands_take_what_the_page_saves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its metadata are enough for each analysis of two nets, and each of them is needed."""
    monkeypatch.chdir(tmp_path)
    (block,) = (block for block in BLOCKS if "save_checkpoint" in block)

    def save(block: str) -> None:
        exec(compile(block, str(PAGE), "exec"), {"__name__": "own_net", "sm": sm})

    def run(arguments: list[str]) -> str:
        result = CliRunner().invoke(app, arguments)
        return "" if result.exit_code == 0 else str(result.output) + str(result.exception or "")

    save(block)
    prepare, barrier = (shlex.split(line)[1:] for line in COMMANDS)
    assert run(prepare) == ""
    shared = barrier[1:-1]
    for name, settings in (
        ("barrier", {"points": 3, "images": 20}),
        ("hessian", {"eigenvalues": 1, "images": 20, "tolerance": 0.1}),
        ("line", {"eigenvalues": 1, "points": 2, "images": 20, "tolerance": 0.1}),
        ("surface", {"grid": 3, "images": 20}),
    ):
        assert run([name, *shared, f"{name}.csv", "--settings", json.dumps(settings)]) == ""
        assert Path(f"{name}.csv").is_file()
        rows = Path(f"{name}.csv").read_text().splitlines()
        assert (
            dict(zip(rows[0].split(","), rows[1].split(","), strict=True)).items()
            >= {
                "dataset": "digits",
                "method": "mine",
                "level": "0.5",
                "seed": "0",
            }.items()
        )
    for name in re.findall(r"`(\w+)`", TEXT.split("| --- | --- |")[-1].split("\n\n")[0]):
        if f'"{name}": ' in block:
            save(re.sub(rf'"{name}": [^,}}]+,? ?', "", block))
            assert f" {name}" in run(barrier)
