"""What is said where a file, a name or a list is missing: the thing, and the cure."""

import json
import shutil
from pathlib import Path
from typing import get_args

import pytest
from typer.testing import CliRunner

from sharpminima.base.errors import CheckpointError, ConfigError, DataError
from sharpminima.catalogue.recipes import RecipeSettings
from sharpminima.cli import app
from sharpminima.cli.options import Compaction
from sharpminima.cli.report import claims
from sharpminima.data import load_prepared
from sharpminima.nets.checkpoint import load_checkpoint
from sharpminima.nets.initial import load_initial
from sharpminima.study.read import load_config, parse_settings, read_config
from sharpminima.study.schema import Config, MethodChoice, TransferSettings

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


def test_prepared_data_that_are_missing_say_what_makes_them() -> None:
    with pytest.raises(
        DataError,
        match="d: there is no such prepared dataset; run `sharpminima prepare`, or `snakemake --cores 1 -- data`",
    ):
        load_prepared("d")


def test_claims_of_a_study_given_by_path_name_a_command_that_takes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(ROOT / "tests/studies/tiny.yaml", "odd.yaml")
    Path("config.yaml").write_text("study: odd.yaml\n")
    with pytest.raises(ConfigError, match=r"`snakemake --cores all --config study=odd\.yaml -- numbers` makes it"):
        claims()


def test_faults_name_where_the_config_and_the_study_stand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("config.yaml").write_text("study: demo\n")
    for arguments, said in (
        ({"text": "{study: none, treads: 2}"}, ["--config: treads: no such key", "--config: study: 'none' given"]),
        ({"study": "none"}, ["study: 'none' given"]),
        ({"study": "no name.yaml"}, ["study: 'no name.yaml' given; its name stands in paths", "study: 'no name"]),
        ({}, ["config.yaml: study: 'demo' given"]),
    ):
        with pytest.raises(ConfigError) as error:
            read_config(**arguments)
        lines = [line.strip() for line in str(error.value).splitlines()[1:]]
        assert [line[: len(start)] for line, start in zip(lines, said, strict=True)] == said


def test_compaction_is_exact_up_to_rounding_wherever_it_is_described() -> None:
    (option,) = (each for each in get_args(Compaction) if hasattr(each, "help"))
    assert option.help.lower().removesuffix(".") == Config.model_fields["compaction"].description


def test_a_study_that_is_there_but_is_none_is_told_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("dir.yaml").mkdir()
    Path("z").mkdir()
    Path("own.txt").write_text("title: t\n")
    long = f"z/{'a' * 300}.yaml"
    for name, said in (
        ("dir.yaml", "is a folder; name the study's file in it"),
        ("./dir.yaml/", "is a folder"),
        ("own.txt", r"a study's name ends in \.yaml: rename the file"),
        ("./own.txt", r"a study's name ends in \.yaml: rename the file"),
        (long, "cannot be read .File name too long."),
    ):
        with pytest.raises(ConfigError, match=f"study: '{name}' given; {said}"):
            load_config({"study": name})


def test_a_folder_that_may_not_be_entered_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    look_at = Path.stat

    def refuse(path: Path, **how: bool) -> object:
        if path.parts[:1] == ("z",):
            raise PermissionError(13, "Permission denied", str(path))
        return look_at(path, **how)

    monkeypatch.setattr(Path, "stat", refuse)  # root, whom tests may run as, may enter any
    with pytest.raises(ConfigError, match=r"study: 'z/own\.yaml' given; cannot be read \(Permission denied\)"):
        load_config({"study": "z/own.yaml"})


@pytest.mark.parametrize(("given", "shown"), [(1.5, "1.5"), (None, "nothing"), ({}, "{}"), ([0, "x"], r"\[0, 'x'\]")])
def test_runs_that_are_none_have_one_fault(given: object, shown: str, tmp_path: Path) -> None:
    experiment = {"dataset": "digits", "model": "lenet300", "method": {"name": "snip"}, "levels": [0.5], "seeds": given}
    path = tmp_path / "runs.yaml"
    path.write_text(json.dumps({"title": "t", "experiments": [experiment], "figures": []}))
    with pytest.raises(
        ConfigError, match=rf"\A.*\n  \S*: experiments\.0\.seeds: {shown} given; all, first or a number of runs, .*\Z"
    ):
        load_config({"study": str(path)})


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, r"own\.yaml: ledger: nope\.yaml: cannot be read \(No such file or directory\); name a file of claims"),
        ("claims: [", r"own\.yaml: ledger: nope\.yaml: is not YAML: "),
        ("folder", r"own\.yaml: ledger: nope\.yaml: cannot be read \(Is a directory\); name a file of claims"),
    ],
)
def test_a_ledger_that_is_none_is_found_before_anything_is_trained(
    content: str | None, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    tiny = (ROOT / "tests/studies/tiny.yaml").read_text()
    Path("own.yaml").write_text(f"{tiny}ledger: nope.yaml\n")
    if content == "folder":
        Path("nope.yaml").mkdir()
    elif content is not None:
        Path("nope.yaml").write_text(content)
    with pytest.raises(ConfigError, match=said):
        load_config({"study": "own.yaml"})


def test_a_ledger_with_faults_is_found_before_anything_is_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    tiny = (ROOT / "tests/studies/tiny.yaml").read_text()
    Path("own.yaml").write_text(f"{tiny}ledger: nope.yaml\n")
    Path("nope.yaml").write_text("claims: none\n")
    Path("config.yaml").write_text("{}\n")
    planned = CliRunner().invoke(app, ["plan", "own.yaml", "--profile", str(ROOT / "profiles/slurm")])
    assert isinstance(planned.exception, ConfigError)
    assert str(planned.exception).startswith("nope.yaml: ")
    looked_at = CliRunner().invoke(app, ["doctor", "own.yaml"])
    assert looked_at.exit_code == 1
    assert "ledger" in looked_at.output
    assert "nope.yaml: " in looked_at.output
