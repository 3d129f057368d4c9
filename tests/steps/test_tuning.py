"""Trials of settings, called as the command line does, on the real digits."""

import json
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from sharpminima.checkpoint import read_metadata
from sharpminima.cli import app
from sharpminima.config import MethodChoice
from sharpminima.errors import ConfigError
from sharpminima.steps import tuning

BASE = {"name": "lobster", "batch_size": 50, "lambda": 4e-3, "pwe": 2, "max_epochs": 12}


@pytest.fixture
def start(digits: Path, tmp_path: Path) -> Path:
    path = tmp_path / "init.safetensors"
    arguments = ["init", "--data", digits, "--model", "lenet300", "--seed", 9, "--out", path]
    assert CliRunner().invoke(app, [str(a) for a in arguments]).exit_code == 0
    return path


def test_each_combination_is_a_trial_and_nothing_of_the_test_split_is_shown(
    digits: Path, start: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "trials"
    arguments = ["tune", "--data", digits, "--init", start, "--settings", json.dumps(BASE), "--device", "cpu"]
    arguments += ["--grid", "{twt: [0.3, 0.6], pwe: [1, 2]}", "--level", 0.2, "--level", 0.9999, "--out", out]
    first = CliRunner().invoke(app, [str(a) for a in arguments])
    assert first.exit_code == 0, first.output
    table = pd.read_csv(out / "trials.csv")
    assert len(table) == 2 * 2 * 2
    assert sorted({(row.twt, row.pwe) for row in table.itertuples()}) == [(0.3, 1), (0.3, 2), (0.6, 1), (0.6, 2)]
    assert not [name for name in table.columns if "test" in name]
    row = table[(table.twt == 0.6) & (table.pwe == 1) & (table.level == 0.2)].iloc[0]
    facts = read_metadata(out / "twt=0.6,pwe=1/level-20/gradual/seed-9/checkpoint.safetensors")
    assert facts["settings"]["twt"] == 0.6
    assert row.validation_error_percent == pytest.approx(
        100 * facts["metrics"][0]["validation_wrong"] / facts["metrics"][0]["validation_images"]
    )
    # What is done is not done again.
    monkeypatch.setattr(tuning, "prune", lambda *_: pytest.fail("trained again"))
    again = CliRunner().invoke(app, [str(a) for a in arguments])
    assert again.exit_code == 0, again.output
    pd.testing.assert_frame_equal(pd.read_csv(out / "trials.csv"), table)


@pytest.mark.parametrize(
    ("grid", "said"), [({}, "--grid"), ({"twt": 0.5}, "list of values"), ({"twt": [-1.0]}, "--grid: twt")]
)
def test_a_grid_that_makes_no_sense(grid: dict, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        list(tuning.trials(MethodChoice.model_validate(BASE).root, grid))
