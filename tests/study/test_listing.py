"""The list of studies: each with its size and how far it has come."""

import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from sharpminima.base.errors import ConfigError
from sharpminima.cli import app
from sharpminima.study.costs import Costs
from sharpminima.study.jobs import Layout
from sharpminima.study.listing import Listed, describe_studies, list_studies, study_names
from sharpminima.study.plan import all_steps
from sharpminima.study.read import read_config

ROOT = Path(__file__).parents[2]


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with two studies and a config, in which nothing was made."""
    studies = tmp_path / "workflow/studies"
    studies.mkdir(parents=True)
    for name in ("demo", "mnist-short"):
        shutil.copy(ROOT / f"workflow/studies/{name}.yaml", studies)
    shutil.copy(ROOT / "config.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def state(tracked: tuple[str, ...] = ()) -> str:
    return next(study.state for study in list_studies(tracked) if study.name == "mnist-short")


def test_each_study_has_its_title_its_jobs_and_hours(checkout: Path) -> None:
    layout = Layout(*read_config("mnist-short"))
    steps = all_steps(layout, Costs(layout))
    hours = sum(step.cost.expected_s for step in steps) / 3600
    assert [study.name for study in list_studies([])] == study_names() == ["demo", "mnist-short"]
    assert list_studies([])[1] == Listed("mnist-short", "LeNet-300 on MNIST, short", len(steps), 0, hours, "not begun")
    said = describe_studies(list_studies([])).splitlines()
    assert said[2].split() == ["mnist-short", str(len(steps)), "jobs", f"{hours:.1f}", "h", "not", "begun"]
    assert said[3].strip() == "LeNet-300 on MNIST, short"


def test_states(checkout: Path) -> None:
    layout = Layout(*read_config("mnist-short"))
    first, *rest = (Path(step.output) for step in all_steps(layout, Costs(layout)))
    assert state(("mnist-short",)) == "tracked: dvc pull"
    (checkout / "results/mnist-short").mkdir(parents=True)
    (checkout / "results/mnist-short/runs.dvc").touch()
    assert state() == "tracked as far as it is: dvc pull"
    first.parent.mkdir(parents=True)
    first.touch()
    assert state() == f"begun (1 of {len(rest) + 1}), tracked as far as it is"
    assert state(("mnist-short",)) == f"begun (1 of {len(rest) + 1}), tracked"
    for path in rest:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    assert state(("mnist-short",)) == "done, tracked"
    assert state() == "done"


def test_a_study_with_faults_has_a_line_that_says_how_to_see_them(checkout: Path) -> None:
    (checkout / "workflow/studies/mnist-short.yaml").write_text("title: 3\n")
    assert state() == "has faults; `sharpminima plan mnist-short` names them"
    assert "has faults" in describe_studies(list_studies([]))


def test_elsewhere_than_in_a_checkout_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="there is none here; run this in the checkout's top folder"):
        list_studies([])
    (tmp_path / "config.yaml").write_text("study: demo\n")
    with pytest.raises(ConfigError):
        list_studies([])


def test_a_folder_without_studies_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its config names one that lies elsewhere."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.yaml").write_text(f"study: {ROOT / 'tests/studies/tiny.yaml'}\n")
    done = CliRunner().invoke(app, ["studies"])
    assert done.exit_code == 0
    assert done.output.startswith("there are no studies in workflow/studies; `sharpminima plan PATH` tells of one")


def test_those_named_are_listed_by_name_or_path(checkout: Path) -> None:
    shutil.move("workflow/studies/demo.yaml", "own.yaml")
    own, short = list_studies([], ["own.yaml", "mnist-short"])
    assert (own.name, own.title, short.name) == ("own", Layout(*read_config("own.yaml")).study.title, "mnist-short")
    done = CliRunner().invoke(app, ["studies", "own.yaml"])
    assert done.output.split()[0] == "own"
    assert "mnist-short" not in done.output
    (checkout / "own.yaml").write_text("title: 3\n")
    with pytest.raises(ConfigError, match=r"own\.yaml: experiments: is missing"):
        list_studies([], ["own.yaml"])
    with pytest.raises(ConfigError, match="there is no such file"):
        list_studies([], ["a/none.yaml"])


def test_what_is_to_be_made_again_is_not_done(checkout: Path) -> None:
    """Whoever is asked says what is; without, what is not there."""
    layout = Layout(*read_config("mnist-short"))
    made = [step.output for step in all_steps(layout, Costs(layout))]
    for path in map(Path, made):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    for due, said in ((set(), "done"), (set(made[-2:]), f"begun ({len(made) - 2} of {len(made)}, 2 stale)")):
        (study,) = list_studies([], ["mnist-short"], due=lambda _, due=due: due)
        assert study.state == said
