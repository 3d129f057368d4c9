"""Paths and texts with spaces, braces and what a shell would run: quoted, or refused by name."""

import re
import shlex
from pathlib import Path

import pytest
import yaml

from sharpminima.base.errors import ConfigError
from sharpminima.study.jobs import Layout
from sharpminima.study.read import load_config

from .cases import ROOT, TINY, checkout, snakemake

RESULTS = "my results; touch ran $(touch run) 'q' & more"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkout(tmp_path_factory.mktemp("paths") / "a folder")


@pytest.mark.slow
def test_a_folder_of_results_with_all_that_a_shell_would_run_is_a_folder(folder: Path) -> None:
    target = f"{RESULTS}/tiny/runs/digits/lenet300/init/seed-0.safetensors"
    snakemake(folder, f"results={RESULTS}", "--cores", "1", "--", target)
    assert (folder / target).is_file()
    assert not [path for path in folder.iterdir() if path.name.startswith(("ran", "run"))]
    printed = snakemake(folder, f"results={RESULTS}", "--dry-run", "--printshellcmds")
    commands = [shlex.split(line) for line in re.findall(r"sharpminima \w+ .*2>&1", printed)]
    assert {words[1] for words in commands} >= {
        "dense",
        "prune",
        "retrain",
        "transfer",
        "psp",
        "table",
        "figure",
        "paper",
    }
    for words in commands:
        given = [word for word in words if "my results" in word and not word.startswith("{")]
        paths = [re.sub(r"^[a-z]+=", "", word) for word in given]  # a table of an analysis has its name before it
        assert paths, words
        assert all(path.startswith(f"{RESULTS}/tiny/") for path in paths), words


@pytest.mark.slow
def test_raw_data_and_titles_may_hold_spaces_and_braces(folder: Path) -> None:
    study = yaml.safe_load((folder / TINY).read_text())
    braces = {"title": "{wildcards.seed} of {x}", "notes": ["{output} and {{y}}"]}
    (folder / "workflow/studies/braces.yaml").write_text(yaml.safe_dump(study | braces))
    root = "data={root: 'raw {data} $(touch run)'}"
    printed = snakemake(folder, root, "--dry-run", "--printshellcmds", study="braces")
    (prepare,) = re.findall(r"sharpminima prepare digits .*", printed)
    assert shlex.split(prepare)[3:5] == ["--root", "raw {data} $(touch run)"]
    (numbers,) = re.findall(r"sharpminima numbers .*", printed)
    facts = shlex.split(numbers)[shlex.split(numbers).index("--study") + 1]
    assert yaml.safe_load(facts)["title"] == braces["title"]


@pytest.mark.slow
def test_the_usual_paths_leave_the_commands_as_they_were_recorded(folder: Path) -> None:
    """Snakemake makes again what a command of another text has made."""
    printed = snakemake(folder, "--dry-run", "--printshellcmds")
    assert "sharpminima psp --data results/tiny/data/digits.safetensors --gradual results/tiny/runs/digits" in printed
    assert not re.findall(r"'results/[^']*'", printed)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"results": ""}, "results: an empty path given; name a folder"),
        ({"results": " "}, "results: an empty path given"),
        ({"results": "/"}, "results: '/' given; name a folder of its own"),
        ({"results": "."}, r"results: '\.' given; name a folder of its own"),
        ({"results": "res{x}"}, r"results: 'res\{x\}' given; braces are wildcards to Snakemake: rename"),
        ({"results": "a\nb"}, r"results: 'a\\nb' given; its control characters cannot stand in a command"),
        ({"results": "-n"}, r"results: '-n' given, which a command takes for an option; write \./-n"),
        ({"data": {"root": ""}}, "data.root: an empty path given"),
        ({"data": {"root": "a\tb"}}, r"data.root: 'a\\tb' given; its control characters"),
    ],
)
def test_what_cannot_be_a_path_is_refused(given: dict, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    with pytest.raises(ConfigError, match=f"config.yaml: {said}"):
        load_config({"study": "demo", **given})


def test_the_paper_of_results_elsewhere_lies_with_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    for results in ("results", "results/", "./results"):
        assert Layout(*load_config({"study": "demo", "results": results})).paper() == "paper/build/demo.pdf"
    assert Layout(*load_config({"study": "demo", "results": "else"})).paper() == "else/demo/demo.pdf"
