"""What is said where a file, a name or a list is missing: the thing, and the cure."""

from pathlib import Path

import pytest

from sharpminima.base.errors import CheckpointError, ConfigError
from sharpminima.catalogue.recipes import RecipeSettings
from sharpminima.nets.checkpoint import load_checkpoint
from sharpminima.nets.initial import load_initial
from sharpminima.study.read import load_config, parse_settings
from sharpminima.study.schema import MethodChoice, TransferSettings

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("given", ["settings/dense.yaml", "dense.yaml", "./dense", "/etc/no-such"])
def test_a_missing_file_of_settings_is_named(given: str) -> None:
    with pytest.raises(ConfigError, match=f"--settings: there is no file {given}; give one, or settings as in"):
        parse_settings(RecipeSettings, given, "--settings")


@pytest.mark.parametrize("given", ["", "lr", "[1]", "3"])
def test_settings_that_are_none_are_refused(given: str) -> None:
    with pytest.raises(ConfigError, match=r"--settings: .* given; names with values are needed, as in '\{lr: 0\.1\}'"):
        parse_settings(RecipeSettings, given, "--settings")


def test_a_method_without_a_name_is_told_those_there_are() -> None:
    with pytest.raises(ConfigError, match=r"--settings: .*: has no name; add name: one of lobster, "):
        parse_settings(MethodChoice, "{lr: 0.1}", "--settings")


def test_a_value_for_a_list_is_told_to_be_one() -> None:
    with pytest.raises(ConfigError, match=r"milestones: 5 given; a list is needed, as in \[5\]"):
        parse_settings(RecipeSettings, "{schedule: steps, milestones: 5}", "--settings")
    with pytest.raises(ConfigError, match="probe: 3 given; names with values are needed"):
        parse_settings(TransferSettings, "{to: mnist, probe: 3}", "--settings")


def test_a_study_that_is_not_here_says_where_to_look(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        ConfigError, match="study: 'demo' given; workflow/studies is not here: run this in the checkout's"
    ):
        load_config({"study": "demo"})
    with pytest.raises(ConfigError, match=f"study: 'own.yaml' given; there is no such file in {tmp_path}"):
        load_config({"study": "own.yaml"})
    monkeypatch.chdir(ROOT)
    with pytest.raises(ConfigError, match=r"study: 'dmo' given; there are .*; did you mean demo"):
        load_config({"study": "dmo"})


def test_prepared_data_are_no_net(digits: Path) -> None:
    for load in (load_checkpoint, load_initial):
        with pytest.raises(CheckpointError, match="is a prepared dataset; give a net here, and the data by --data"):
            load(digits)
