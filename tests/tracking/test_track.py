import subprocess
from pathlib import Path

import plugin_page
import pytest

from sharpminima.base.errors import SharpminimaError
from sharpminima.base.files import write_text
from sharpminima.catalogue import plugins
from sharpminima.study.jobs import Layout
from sharpminima.study.read import load_config
from sharpminima.tracking import track, tracked_studies
from sharpminima.tracking._track import _dvc, _refuse_what_the_stages_lack


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
