import subprocess
from pathlib import Path

import plugin_page
import pytest

from sharpminima.base.errors import SharpminimaError
from sharpminima.base.files import write_text
from sharpminima.catalogue import plugins
from sharpminima.study.jobs import Layout
from sharpminima.study.read import load_config
from sharpminima.tracking import _track, track, track_finished, tracked_studies
from sharpminima.tracking._track import _dvc, _refuse_what_is_not_whole, _refuse_what_the_stages_lack


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_tracked_studies_are_those_of_the_pipeline() -> None:
    write_text("dvc.yaml", "vars:\n  - tracked: [demo, paper]\n  - other: 1\n")
    assert tracked_studies() == ["demo", "paper"]


@pytest.mark.parametrize("text", [None, "", "stages: {}", "vars: [x]"])
def test_a_pipeline_without_tracked_studies_is_refused(text: str | None) -> None:
    if text is not None:
        write_text("dvc.yaml", text)
    with pytest.raises(SharpminimaError, match=r"dvc\.yaml: names no tracked studies"):
        tracked_studies()


def test_the_marks_of_a_merge_are_named() -> None:
    write_text("dvc.yaml", "vars:\n<<<<<<< HEAD\n  - tracked: [demo]\n=======\n")
    with pytest.raises(SharpminimaError, match=r"(?s)dvc\.yaml: is not YAML: .*<<<<<<< HEAD"):
        tracked_studies()


@pytest.mark.parametrize(
    ("printed", "cure"),
    [
        ("ERROR: [Errno 13] Permission denied: '/shared/cache/files'", "is the cache read-only"),
        ("ERROR: [Errno 30] Read-only file system: '/shared/cache/files'", "is the cache read-only"),
        ("ERROR: no remote specified", "no remote specified$"),
    ],
)
def test_a_fault_of_dvc_is_one_line_with_its_cure(printed: str, cure: str, monkeypatch: pytest.MonkeyPatch) -> None:
    failed = subprocess.CompletedProcess([], 255, stderr=f"\n{printed}\n")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: failed)
    with pytest.raises(SharpminimaError, match=rf"^dvc commit failed: ERROR: .*{cure}") as caught:
        _dvc("commit")
    assert "\n" not in str(caught.value)


def test_a_study_that_the_stages_do_not_fit_is_refused_before_anything_is_written() -> None:
    one = "{dataset: digits, model: lenet300, method: {name: snip}, levels: [0.5]}"
    write_text("config.yaml", "{}")
    write_text("workflow/studies/own.yaml", f"{{title: t, experiments: [{one}], figures: [fig1], paper: false}}")
    write_text("dvc.yaml", "vars: [{tracked: [own]}]\nstages: {runs: {}, fig1: {}, fig6: {}, paper: {}}")
    with pytest.raises(SharpminimaError, match=r"study own does not make fig6, paper, .*track --finished own"):
        track(push=False)
    assert not Path("results").exists()


def test_a_plug_in_that_dvc_does_not_see_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    plugin_page.write_beside_a_study(tmp_path)
    try:
        layout = Layout(*load_config({"study": "mine.yaml"}))
        for seen in (["mine.py"], ["src", "mine.py"]):
            _refuse_what_the_stages_lack(layout, {"settings": {"deps": seen}})
        with pytest.raises(SharpminimaError, match=r"study mine uses mine\.py, of which DVC knows nothing: name it"):
            _refuse_what_the_stages_lack(layout, {"settings": {"deps": ["src"]}})
    finally:
        plugins.use([])


_ONE = "{dataset: digits, model: lenet300, method: {name: snip}, levels: [0.5]}"


def _own(path: str = "own.yaml", figures: str = "[]") -> Layout:
    write_text(path, f"{{title: t, experiments: [{_ONE}], figures: {figures}, paper: false}}")
    return Layout(*load_config({"study": path}))


@pytest.fixture
def _no_jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if all were made, and DVC took it."""
    write_text("dvc.yaml", "vars: [{tracked: [demo]}]\nstages: {}")
    for name in ("fetch_finished", "adopt", "_refuse_what_is_not_whole", "_write_sums", "write_settings", "_dvc"):
        monkeypatch.setattr(_track, name, lambda *_, **__: None)
    monkeypatch.setattr(_track, "write_record", lambda *_, **__: 1)


@pytest.mark.usefixtures("_no_jobs")
def test_nets_that_were_left_out_are_kept_once_their_study_is_recorded_with_them() -> None:
    layout = _own()
    write_text(".dvcignore", "__pycache__\n")
    _track.track_without_nets(layout, push=False)
    assert "/results/own/runs/**/*.safetensors" in Path(".dvcignore").read_text().splitlines()
    _, files = track_finished(layout, push=False)
    assert files == ["results/own/runs.dvc", "results/own/analysis.dvc", ".dvcignore"]
    assert Path(".dvcignore").read_text() == "__pycache__\n"
    assert ".dvcignore" not in track_finished(layout, push=False)[1]


@pytest.mark.usefixtures("_no_jobs")
def test_notebooks_stay_ignored_in_a_folder_of_figures_that_is_tracked() -> None:
    layout = _own(figures="[fig1]")
    _track.track_without_nets(layout, push=False)
    write_text("results/own/figures.dvc", "")
    track_finished(layout, push=False)
    assert Path(".dvcignore").read_text() == "/results/own/figures/*.html\n"


@pytest.mark.usefixtures("_no_jobs")
def test_nets_of_a_study_that_has_come_into_the_pipeline_are_kept() -> None:
    _track.track_without_nets(_own("workflow/studies/own.yaml"), push=False)
    write_text("config.yaml", "{}")
    write_text("dvc.yaml", "vars: [{tracked: [own]}]\nstages: {}")
    track(push=False)
    assert Path(".dvcignore").read_text() == ""


def test_a_study_at_a_path_is_told_the_command_that_takes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    layout = _own("z/own.yaml")
    monkeypatch.setattr(_track, "check_files", lambda *_: None)
    monkeypatch.setattr(_track, "planned", lambda _: {"all": 1, "dense": 1})
    with pytest.raises(SharpminimaError, match=r"run 1 dense: run `snakemake --cores all --config study=z/own\.yaml`"):
        _refuse_what_is_not_whole(layout)
