"""Entries: each names code that is there, and one that is added may be named by a study that is read afterwards."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from sharpminima.base.errors import ConfigError
from sharpminima.catalogue.analyses import ANALYSES, Analysis, AnalysisData
from sharpminima.catalogue.columns import KEY_COLUMNS
from sharpminima.catalogue.datasets import DATASETS
from sharpminima.catalogue.figures import FIGURES, Figure, OfFocus
from sharpminima.catalogue.methods import METHODS, Method
from sharpminima.catalogue.methods.choices import CRITERIA, Criterion
from sharpminima.catalogue.methods.gradual import AgpSettings
from sharpminima.catalogue.methods.penalty import PenaltySettings, penalty_method
from sharpminima.catalogue.models import MODELS
from sharpminima.catalogue.registry import Registry, loaded, source_file
from sharpminima.study.costs import Costs
from sharpminima.study.jobs import Layout
from sharpminima.study.read import load_config, study_schema

ROOT = Path(__file__).parents[2]
REGISTRIES = (METHODS, CRITERIA, MODELS, DATASETS, ANALYSES, FIGURES)


class OwnSettings(PenaltySettings):
    strength: float = 1.0


class OwnAnalysis(AnalysisData):
    points: int = 3

    @property
    def positions(self) -> int:
        return self.points


@pytest.fixture
def _registries_kept() -> Iterator[None]:
    """What a test registers is gone after it."""
    before = [dict(registry) for registry in REGISTRIES]
    yield
    for registry, entries in zip(REGISTRIES, before, strict=True):
        registry.clear()
        registry.update(entries)


def never(*_: Any) -> None:
    raise AssertionError


def a_study(tmp_path: Path, **changes: Any) -> Path:
    experiment = {
        "dataset": "own-data",
        "model": "own-net",
        "method": {"name": "own_method", "strength": 0.5},
        "levels": [0.5, 0.9],
        "strategies": {"rewind": {"seeds": "all"}},
        "analysis": {"own": {"points": 5}},
        **changes,
    }
    path = tmp_path / "own.yaml"
    focus = {"dataset": "own-data", "model": "own-net"}
    path.write_text(yaml.safe_dump({"title": "t", "experiments": [experiment], "figures": ["own"], "focus": focus}))
    return path


@pytest.mark.parametrize("entry", [*METHODS.values(), *CRITERIA.values(), *MODELS.values(), *DATASETS.values()])
def test_every_entry_names_code_that_is_there(entry: Any) -> None:
    assert callable(loaded(entry.code))
    if isinstance(entry, Method):
        assert callable(entry.load())


@pytest.mark.parametrize("analysis", ANALYSES.values(), ids=list(ANALYSES))
def test_every_analysis_names_its_step(analysis: Analysis) -> None:
    assert callable(analysis.load())
    assert analysis.settings().positions >= 1
    assert analysis.settings().parts_read


@pytest.mark.parametrize("figure", FIGURES.values(), ids=list(FIGURES))
def test_every_figure_has_its_notebook_and_code(figure: Figure) -> None:
    assert all((ROOT / path).is_file() for path in (figure.notebook, *figure.code))


def test_modules_are_named_by_their_files() -> None:
    assert source_file("sharpminima.catalogue.registry") == "src/sharpminima/catalogue/registry.py"


def test_a_name_that_is_taken_is_refused() -> None:
    registry = Registry("model", [MODELS["lenet5"]])
    with pytest.raises(ConfigError, match="there is a model 'lenet5' already"):
        registry.register(replace(MODELS["lenet3"], name="lenet5"))
    assert registry["lenet5"] is MODELS["lenet5"]


@pytest.mark.usefixtures("_registries_kept")
def test_a_study_may_name_what_was_registered_before_it_was_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    with pytest.raises(ConfigError) as caught:
        load_config({"study": str(a_study(tmp_path))})
    message = str(caught.value)
    for name in ("own-data", "own-net", "own_method"):
        assert f"{name!r} given, allowed: " in message
    assert "analysis.own: no such key; there are psp, neurons" in message

    METHODS.register(penalty_method("own_method", never, OwnSettings, "nobody"))
    MODELS.register(replace(MODELS["lenet5"], name="own-net", known=None))
    DATASETS.register(replace(DATASETS["mnist"], name="own-data", code=never))
    ANALYSES.register(Analysis("own", OwnAnalysis, KEY_COLUMNS, never, "Ours.", passes=2.0, when="shown"))
    FIGURES.register(Figure("own", {"measured": OfFocus("own")}))
    layout = Layout(*load_config({"study": str(a_study(tmp_path)), "results": "results"}))
    (experiment,) = layout.study.experiments
    assert experiment.method.strength == 0.5
    table = "results/own/analysis/own/own-data/own-net/own_method/level-90/seed-0.csv"
    assert layout.figure_tables("own") == {"measured": table}
    jobs = {job.rule: job for job in layout.jobs()}
    assert jobs["own"].outputs == (table,)
    assert jobs["own"].settings == {"images": None, "part": "train", "points": 5}
    assert jobs["prune"].settings["strength"] == 0.5
    costs, key = Costs(layout), {"dataset": "own-data", "model": "own-net", "method": "own_method"}
    others = Costs(Layout(*load_config({"study": "paper"})))
    assert costs.analyse("own", **key).expected_s > others.analyse("neurons", "mnist", "lenet5", "lobster").expected_s
    assert costs.prune(**key).at_most_s > 0

    wrong = {"name": "own_method", "strenght": 1.0}
    with pytest.raises(ConfigError, match=r"method\.strenght: no such key; .* did you mean strength\?"):
        load_config({"study": str(a_study(tmp_path, method=wrong))})
    with pytest.raises(ConfigError, match=r"analysis\.own\.pionts: no such key; .* did you mean points\?"):
        load_config({"study": str(a_study(tmp_path, analysis={"own": {"pionts": 1}}))})
    schema = study_schema()["$defs"]
    assert {"own_method", "OwnAnalysis"} <= set(schema)
    assert "own" in schema["AnalysisSettings"]["properties"]


@pytest.mark.usefixtures("_registries_kept")
def test_methods_may_score_by_a_criterion_that_was_registered() -> None:
    with pytest.raises(ValueError, match="Input should be 'magnitude', 'random',"):
        AgpSettings(criterion="own")
    CRITERIA.register(Criterion("own", "nobody", never))
    assert AgpSettings(criterion="own").criterion == "own"
