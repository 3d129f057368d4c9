"""The page of one's own net: its blocks run one after another, and it shows each measure."""

import re
from pathlib import Path

import pytest

import sharpminima as sm

PAGE = Path(__file__).parents[2] / "docs/howto/own-net.md"
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)


@pytest.mark.slow
def test_the_blocks_run(capsys: pytest.CaptureFixture[str]) -> None:
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
