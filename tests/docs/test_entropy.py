"""What the page on training with PSP-entropy shows."""

import re
from pathlib import Path

import pytest
import torch
import yaml

from sharpminima.study.read import load_config

PAGE = (Path(__file__).parents[2] / "docs/howto/entropy.md").read_text(encoding="utf-8")


def block(language: str) -> str:
    (code,) = re.findall(rf"^```{language}\n(.*?)^```$", PAGE, flags=re.MULTILINE | re.DOTALL)
    return code


def test_the_loop_runs(capsys: pytest.CaptureFixture[str]) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        exec(compile(block("python"), "entropy.md", "exec"), {})
    (bits,) = re.fullmatch(r"([\d.]+) bits\n", capsys.readouterr().out).groups()
    assert 0 < float(bits) < 3


def test_the_experiments_are_a_study(tmp_path: Path) -> None:
    study = {"title": "Two ways", "figures": [], **yaml.safe_load(block("yaml"))}
    (tmp_path / "ways.yaml").write_text(yaml.safe_dump(study))
    experiments = load_config({"study": str(tmp_path / "ways.yaml")})[1].experiments
    assert [e.psp_entropy and e.psp_entropy.beta for e in experiments] == [None, 0.03]
