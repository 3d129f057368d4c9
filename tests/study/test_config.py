"""The config: every shipped study is valid, all faults are reported at once, and the schemas are in step."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import jsonschema
import pytest
import typer
import yaml

from sharpminima.base.errors import ConfigError
from sharpminima.base.files import read_json
from sharpminima.catalogue.models import MODELS
from sharpminima.catalogue.recipes import RecipeSettings
from sharpminima.cli import options
from sharpminima.study.owner import note_owner
from sharpminima.study.read import STUDIES, load_config, parse_settings, study_schema
from sharpminima.study.schema import Config, Study

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _in_the_checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def demo_with(tmp_path: Path, **changes: object) -> Path:
    """The demo study with some values replaced; keys are dotted paths with ``__`` for the dot."""
    study = yaml.safe_load((STUDIES / "demo.yaml").read_text())
    for path, value in changes.items():
        *parents, last = path.split("__")
        node = study
        for part in parents:
            node = node[int(part) if part.isdigit() else part]
        node[last] = value
    target = tmp_path / "changed.yaml"
    target.write_text(yaml.safe_dump(study))
    return target


def faults(tmp_path: Path, **changes: object) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load_config({"study": str(demo_with(tmp_path, **changes))})
    return str(caught.value).splitlines()[1:]


@pytest.mark.parametrize("name", sorted(p.stem for p in (ROOT / STUDIES).glob("*.yaml")))
def test_every_study_is_valid(name: str) -> None:
    config, study = load_config({"study": name})
    assert config.study == name
    assert study.experiments


def test_the_config_file_holds_every_key_with_its_default() -> None:
    assert yaml.safe_load(Path("config.yaml").read_text()) == Config().model_dump()


def test_the_paper_study_is_the_papers() -> None:
    studies = [load_config({"study": name})[1] for name in ("paper", "resnet32")]
    experiments = [experiment for study in studies for experiment in study.experiments]
    assert [(e.dataset, e.model) for e in experiments] == [
        ("mnist", "lenet300"),
        ("mnist", "lenet5"),
        ("fashion-mnist", "lenet5"),
        ("cifar10", "resnet32"),
    ]
    for experiment in experiments:
        assert len(experiment.levels) >= 8
        assert experiment.strategies["reinit"].replicas == 10
        assert experiment.strategies["random-structure"].replicas == 10
        assert experiment.strategies["random-structure-layerwise"].levels == "highest"
        assert experiment.strategies["rewind"].seeds == experiment.strategies["rewind-long"].seeds == "all"
    assert all((e.method.lr, e.method.lambda_) == (0.1, 1e-4) for e in studies[0].experiments)


def test_all_faults_of_config_and_study_are_reported_together(tmp_path: Path) -> None:
    study = demo_with(
        tmp_path,
        titel="x",
        experiments__0__model="lenet500",
        experiments__0__dense={"lr": -1, "momentun": 0.9},
        experiments__1__method__lambada=0.1,
        experiments__1__strategies={"rewnd": {}},
        focus__dataset="cifar",
    )
    with pytest.raises(ConfigError) as caught:
        load_config({"study": str(study), "device": "gpu", "treads": 2})
    lines = str(caught.value).splitlines()[1:]
    expected = [
        ("config.yaml: device: 'gpu' given, allowed: auto, cpu, cuda", ""),
        ("config.yaml: treads: no such key", "did you mean threads?"),
        ("experiments.0.model: 'lenet500' given", "did you mean lenet300?"),
        ("experiments.0.dense.lr: -1 given; input should be greater than 0", ""),
        ("experiments.0.dense.momentun: no such key", "did you mean momentum?"),
        ("experiments.1.method.lambada: no such key", "did you mean lambda?"),
        ("experiments.1.strategies.rewnd: 'rewnd' given", "did you mean rewind?"),
        ("focus.dataset: 'cifar' given", "did you mean cifar10?"),
        ("titel: no such key", "did you mean title?"),
    ]
    assert len(lines) == len(expected)
    for start, end in expected:
        assert [line for line in lines if start in line and line.endswith(end)], start


def test_faults_of_one_value_and_of_several_are_reported_together(tmp_path: Path) -> None:
    random = {"random": {"replicas": "x"}}
    lines = faults(tmp_path, seeds=[0, 0], experiments__0__levels=[0.9, 0.5], experiments__0__strategies=random)
    assert [line.split(": ")[1] for line in lines] == [
        "seeds",
        "experiments.0.levels",
        "experiments.0.strategies.random",
        "experiments.0.strategies.random.replicas",  # random is also a method, whose name is no key elsewhere
    ]


def test_a_study_may_not_write_into_the_results_of_another(tmp_path: Path) -> None:
    target = demo_with(tmp_path).rename(tmp_path / "demo.yaml")
    with pytest.raises(ConfigError, match=r"would write into the results of workflow/studies/demo\.yaml.*rename it"):
        load_config({"study": str(target)})
    load_config({"study": "workflow/studies/demo.yaml"})
    load_config({"study": str(target), "results": "elsewhere"})


def test_two_studies_of_one_file_name_do_not_share_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = tmp_path / "project"
    for folder in ("a", "b"):
        (project / folder).mkdir(parents=True)
        demo_with(tmp_path).rename(project / folder / "mine.yaml")
    monkeypatch.chdir(project)
    a, b = ({"study": f"{folder}/mine.yaml"} for folder in ("a", "b"))
    for study in (a, b):
        load_config(study)
    note_owner(Path("a/mine.yaml"), Path("results/mine"))
    fault = r"study: b/mine\.yaml would write into results/mine, which has the results of .*/a/mine\.yaml .*; rename it"
    with pytest.raises(ConfigError, match=fault):
        load_config(b)
    load_config(b | {"results": "elsewhere"})
    for study in (a, a | {"study": "./a/mine.yaml"}, a | {"study": str(Path("a/mine.yaml").absolute())}):
        load_config(study)
    shutil.copytree(project, tmp_path / "copied")
    for folder in (project.rename(tmp_path / "moved"), tmp_path / "copied"):
        monkeypatch.chdir(folder)
        load_config(a)
        with pytest.raises(ConfigError, match=rf"has the results of {folder}/a/mine\.yaml"):
            load_config(b)
    Path("a").rename("c")
    load_config({"study": "c/mine.yaml"})
    note_owner(Path("c/mine.yaml"), Path("results/mine"))
    with pytest.raises(ConfigError, match=r"/c/mine\.yaml"):
        load_config(b)


def test_projects_that_share_a_folder_of_results_do_not_share_those_of_one_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = {"study": "mine.yaml", "results": str(tmp_path / "results")}
    for project in ("one", "two"):
        (tmp_path / project).mkdir()
        demo_with(tmp_path).rename(tmp_path / project / "mine.yaml")
    monkeypatch.chdir(tmp_path / "one")
    note_owner(Path("mine.yaml"), tmp_path / "results/mine")
    load_config(shared)
    monkeypatch.chdir(tmp_path / "two")
    with pytest.raises(ConfigError, match=r"has the results of .*/one/mine\.yaml"):
        load_config(shared)


def test_a_study_has_a_name_that_can_stand_in_paths(tmp_path: Path) -> None:
    target = demo_with(tmp_path).rename(tmp_path / "my study.yaml")
    with pytest.raises(ConfigError, match=r"my study\.yaml' given; its name stands in paths"):
        load_config({"study": str(target)})


def test_a_key_that_stands_twice_is_one_clear_error(tmp_path: Path) -> None:
    target = tmp_path / "own.yaml"
    target.write_text("title: a\nseeds: [0]\ntitle: b\n")
    with pytest.raises(ConfigError, match=r"own\.yaml: is not YAML: the key 'title' stands twice"):
        load_config({"study": str(target)})


def test_what_a_merge_brings_may_be_given_anew() -> None:
    recipe = parse_settings(RecipeSettings, "{<<: {lr: 0.5, momentum: 0.9}, lr: 0.25}", "--settings")
    assert (recipe.lr, recipe.momentum) == (0.25, 0.9)


def test_an_unknown_study_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"study: 'papr' given; there are .*; did you mean paper\?"):
        load_config({"study": "papr"})


def test_an_unknown_method_names_those_there_are(tmp_path: Path) -> None:
    (fault,) = faults(tmp_path, experiments__0__method__name="lobstr")
    assert "experiments.0.method.name: 'lobstr' given, allowed: lobster, magnitude, " in fault
    assert "; did you mean lobster?" in fault


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"experiments__0__dataset": "cifar10"}, r"lenet300 takes images \(1, 28, 28\), cifar10 has \(3, 32, 32\)"),
        ({"experiments__0__levels": [0.9, 0.5]}, "levels must ascend without repetition"),
        ({"experiments__0__levels": [0.5, 1.5]}, "levels.1: 1.5 given; input should be less than or equal to 0.999999"),
        (
            {"experiments__0__levels": [1e-7, 0.5]},
            "levels.0: 1e-07 given; input should be greater than or equal to 0.000001",
        ),
        ({"experiments__0__levels": [0.5, 0.5000001]}, "level 0.5000001 would lie in a folder of the name of 0.5"),
        (
            {
                "experiments__0__dense": {"lr": 0.007},
                "experiments__1__model": "lenet300",
                "experiments__1__method": {"name": "snip"},
            },
            r"dense: \('digits', 'lenet300'\) has two",
        ),
        (
            {
                "experiments__0__weights": "highest",
                "experiments__1__model": "lenet300",
                "experiments__1__method": {"name": "snip"},
            },
            r"weights: \('digits', 'lenet300'\) has two",
        ),
        (
            {
                "experiments__0__precision": "bfloat16",
                "experiments__1__model": "lenet300",
                "experiments__1__method": {"name": "snip"},
            },
            r"precision: \('digits', 'lenet300'\) has two",
        ),
        ({"seeds": [-1]}, "seeds.0: -1 given; input should be greater than or equal to 0"),
        ({"experiments__0__strategies__rewind": {"replicas": 3}}, "nothing is drawn, so 1 is all"),
        ({"experiments__1__strategies__rewind": {}}, "it needs strategies.rewind with seeds: all"),
        ({"experiments__1__model": "lenet300"}, "each experiment .* stands once"),
        ({"seeds": [1, 1]}, "seeds must differ"),
        ({"experiments__0__seeds": 0}, "experiments.0.seeds: 0 given; all, first or a number of runs, or a list of"),
        ({"experiments__0__seeds": "last"}, "experiments.0.seeds: 'last' given; all, first or a number"),
        ({"experiments__0__seeds": 4}, r"seeds: 4 runs wanted; the study has \[0, 1, 2\]"),
        ({"experiments__0__seeds": [0, 4]}, r"seeds: run 4 wanted; the study has \[0, 1, 2\]"),
        (
            {"experiments__0__strategies__reinit": {"seeds": 9}},
            r"strategies.reinit.seeds: 9 runs wanted; the study has \[0, 1, 2\]",
        ),
        (
            {"experiments__0__seeds": 2, "experiments__0__strategies__reinit": {"seeds": [2]}},
            r"strategies.reinit.seeds: run 2 wanted; the experiment has \[0, 1\]",
        ),
        (
            {"experiments__1__analysis": {"surface": {"images": 5}}},
            "analysis.surface.images: 5 given; PSP statistics need an image of each class, and digits has 10: give",
        ),
        ({"experiments__1__analysis": {"psp": {"samples": 1}}}, "psp.samples: 1 given; input should be greater"),
        (
            {"experiments__1__analysis": {"hessian": {"runs": 4}}},
            r"analysis.hessian.runs: 4 runs wanted; the study has \[",
        ),
        (
            {"experiments__1__seeds": 2, "experiments__1__analysis": {"barrier": {"runs": [2]}}},
            r"analysis.barrier.runs: run 2 wanted; the experiment has \[0, 1\]",
        ),
        ({"experiments__1__analysis": {"psp": {"runs": "some"}}}, "analysis.psp.runs: 'some' given; all, first or a"),
        ({"experiments__1__analysis": {"neurons": {"runs": 2}}}, "analysis.neurons.runs: no such key"),
        (
            {"experiments__1__analysis": {"psp": {"runs": [1]}}},
            "analysis.psp.runs: a figure shows the first run of the focus; name it too",
        ),
        ({"experiments__1__maps": 5}, r"maps: 5 runs wanted; the study has \[0, 1, 2\]"),
        ({"experiments__1__seeds": 2, "experiments__1__maps": [0, 2]}, r"maps: run 2 wanted; the experiment has \["),
        (
            {"experiments__0__seeds": 2, "experiments__0__keep_all": [2]},
            r"keep_all: run 2 wanted; the net has \[0, 1\]",
        ),
        ({"experiments__1__keep_all": [0, 0]}, "a list of different seeds"),
        ({"experiments__0__strategies__rewind": {"others": {"replicas": 2}}}, "nothing is drawn, so 1 is all"),
        ({"experiments__0__maps": "none"}, "experiments.0.maps: 'none' given; all, first or a number"),
        ({"experiments__0__maps": 1}, "maps are analyses of G and 1-S"),
        ({"experiments__0__transfer": {"to": "digits"}}, "transfer.to: digits given, which the nets are trained on"),
        ({"experiments__0__transfer": {"to": "cifar10"}}, r"lenet300 takes images .*, cifar10 has \(3, 32, 32\)"),
        ({"experiments__0__transfer": {"to": "mnist", "sources": ["rewind-long"]}}, "sources: rewind-long given"),
        ({"experiments__2__transfer": None}, "fig6 shows transfers, and no experiment has one"),
        ({"focus": None}, "focus: fig2 to fig5 need one of the experiments with an analysis"),
        ({"focus": {"dataset": "digits", "model": "lenet300"}}, "focus: fig2 to fig5 need one of"),
        ({"focus": {"dataset": "digits", "model": "lenet5", "method": "snip"}}, "focus: fig2 to fig5 need one of"),
        ({"focus__method": "lobstr"}, "focus.method: 'lobstr' given, allowed: .*did you mean lobster"),
        (
            {"figures": ["fig1"], "focus": {"dataset": "mnist", "model": "resnet32"}},
            "focus: resnet32 on mnist is none of the experiments; there are lenet300 on digits by lobster, lenet5 on",
        ),
        (
            {"figures": ["fig1"], "focus": {"dataset": "digits", "model": "lenet5", "method": "snip"}},
            "focus: lenet5 on digits by snip is none of the experiments; there are ",
        ),
    ],
)
def test_inconsistent_studies_are_refused(tmp_path: Path, changes: dict, expected: str) -> None:
    assert any(re.search(expected, line) for line in faults(tmp_path, **changes))


@pytest.mark.parametrize("name", ["l1_filters", "learned_agents", "structured_bayesian"])
def test_a_model_without_units_is_refused_to_a_method_that_removes_them(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    method = {"experiments__0__method": {"name": name}}
    load_config({"study": str(demo_with(tmp_path, **method))})
    model = MODELS["lenet300"]
    assert model.known is not None
    monkeypatch.setitem(MODELS, model.name, replace(model, known=replace(model.known, has_units=False)))
    (fault,) = faults(tmp_path, **method)
    assert f"{name} removes filters and hidden units, and lenet300 has none that can be left out" in fault


def test_settings_come_as_text_or_file(tmp_path: Path) -> None:
    assert parse_settings(RecipeSettings, "{lr: 0.5}", "--settings").lr == 0.5
    (tmp_path / "s.yaml").write_text("lr: 0.25\n")
    assert parse_settings(RecipeSettings, str(tmp_path / "s.yaml"), "--settings").lr == 0.25
    with pytest.raises(ConfigError, match=r"--settings: momentun: no such key.*did you mean momentum\?"):
        parse_settings(RecipeSettings, "{momentun: 0.5}", "--settings")
    with pytest.raises(ConfigError, match="--settings: is not YAML"):
        parse_settings(RecipeSettings, "{lr: ", "--settings")


@pytest.mark.parametrize(("schema", "name"), [(Config.model_json_schema(), "config"), (study_schema(), "study")])
def test_the_schemas_are_in_step(schema: dict, name: str) -> None:
    assert read_json(Path("workflow/schemas") / f"{name}.schema.json") == schema, "run `make schemas`"


@pytest.mark.slow
@pytest.mark.parametrize("path", sorted(Path("workflow/studies").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_study_fits_the_schema(path: Path) -> None:
    study = yaml.safe_load(path.read_text(encoding="utf-8"))
    jsonschema.validate(study, study_schema())
    for change in ({"model": []}, {"model": ["lenet500"]}, {"method": [{"name": "snip"}, {"name": "snap"}]}):
        wrong = {**study, "experiments": [{**study["experiments"][0], **change}]}
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(wrong, study_schema())


def test_lists_of_models_and_methods_stand_for_an_experiment_each(tmp_path: Path) -> None:
    one = {"dataset": "digits", "levels": [0.5], "seeds": "first"}
    methods = [{"name": "snip"}, {"name": "lobster", "lambda": 0.5}]
    study = {
        "title": "t",
        "experiments": [
            {**one, "model": ["lenet300", "lenet5"], "method": methods},
            {**one, "model": "lenet3", "method": methods[:1]},
        ],
        "figures": ["fig1"],
    }
    path = tmp_path / "several.yaml"
    path.write_text(yaml.safe_dump(study), encoding="utf-8")
    found = load_config({"study": str(path)})[1].experiments
    nets = [(e.model, e.method.name) for e in found]
    assert nets == [
        *((model, name) for model in ("lenet300", "lenet5") for name in ("snip", "lobster")),
        ("lenet3", "snip"),
    ]
    assert found[3].method.lambda_ == 0.5
    assert all(e.levels == (0.5,) and e.seeds == "first" for e in found)


def test_a_fault_in_a_list_is_named_once_where_it_stands_in_the_file(tmp_path: Path) -> None:
    methods = [{"name": "snip"}, {"name": "lobster", "lambada": 0.5}, {"name": "snap"}]
    listed = {"dataset": "digits", "levels": [1.5], "model": ["lenet300", "lenet500"], "method": methods}
    study = {"title": "t", "experiments": [{**listed, "levels": [0.5]}, listed], "figures": ["fig1"]}
    path = tmp_path / "wrong.yaml"
    path.write_text(yaml.safe_dump(study), encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load_config({"study": str(path)})
    lines = [line.partition("wrong.yaml: ")[2] for line in str(caught.value).splitlines()[1:]]
    wrong = [f"experiments.{n}.{key}" for n in (0, 1) for key in ("model.1", "method.1.lambada", "method.2.name")]
    assert sorted(line.partition(": ")[0] for line in lines) == sorted([*wrong, "experiments.1.levels.0"])
    assert any(line.endswith("did you mean lambda?") for line in lines)


@pytest.mark.parametrize("empty", [{"model": []}, {"method": []}, {"model": [[]]}])
def test_an_empty_list_is_a_fault(tmp_path: Path, empty: dict) -> None:
    one = {"dataset": "digits", "levels": [0.5], "model": "lenet300", "method": {"name": "snip"}}
    path = tmp_path / "empty.yaml"
    path.write_text(yaml.safe_dump({"title": "t", "experiments": [{**one, **empty}], "figures": ["fig1"]}))
    with pytest.raises(ConfigError, match=f"experiments.0.{next(iter(empty))}"):
        load_config({"study": str(path)})


def test_experiments_that_share_w0_have_one_batchnorm() -> None:
    one = {"dataset": "digits", "model": "lenet5-bn", "levels": [0.5]}
    two = {**one, "method": {"name": "magnitude"}, "batchnorm": {"momentum": 0.01}}
    study = {"title": "t", "experiments": [{**one, "method": {"name": "snip"}}, two]}
    with pytest.raises(ConfigError, match="share their W0"):
        parse_settings(Study, json.dumps(study), "study")


@pytest.mark.parametrize(
    ("levels", "said"),
    [
        ([0.9, 0.9000001], "level 0.9000001 would lie in a folder of the name of 0.9; round it to 0.9"),
        ([0.9999999], "less than or equal to 0.999999"),
        ([0.1234567], "level 0.1234567 would lie in a folder of the name of 0.123457; round it"),
    ],
)
def test_levels_that_share_a_name_are_refused(tmp_path: Path, levels: list[float], said: str) -> None:
    assert any(said in fault for fault in faults(tmp_path, experiments__0__levels=levels))
    with pytest.raises(typer.BadParameter):
        options._ascending(levels)
    assert options._ascending([0.5, 0.9957, 0.999999]) == [0.5, 0.9957, 0.999999]


@pytest.mark.parametrize(
    "changes",
    [
        {"seeds": [True, 2]},
        {"data": {"seed": True}},
        {"experiments__0__dense__max_epochs": True},
        {"experiments__0__levels": [True]},
        {"experiments__0__method": {"name": "lobster", "pwe": False}},
    ],
)
def test_a_truth_value_is_no_number(tmp_path: Path, changes: dict) -> None:
    said = "given, as which YAML reads yes and no too: write a number"
    assert any(said in fault for fault in faults(tmp_path, **changes))
    with pytest.raises(ConfigError, match="threads: True given"):
        load_config({"study": "demo", "threads": True})


NONSENSE = [
    ({"experiments__0__dense": {"schedule": "steps"}}, "schedule: steps needs milestones"),
    (
        {"experiments__0__dense": {"milestones": [5]}},
        r"milestones: \[5\] given, which schedule plateau does not look",
    ),
    (
        {"experiments__0__dense": {"schedule": "steps", "milestones": [9, 5]}},
        r"milestones: \[9, 5\] given; they ascend, each below max_epochs 200",
    ),
    (
        {"experiments__0__dense": {"schedule": "steps", "milestones": [5], "max_epochs": 5}},
        "each below max_epochs 5",
    ),
    ({"figures": ["fig1", "fig1"]}, "figures: 'fig1' stands twice; give each once"),
    ({"experiments__0__analysis": {"psp": {"parts": ["test", "test"]}}}, "psp.parts: 'test' stands twice"),
    (
        {"experiments__0__transfer": {"to": "digits-high", "modes": ["probe", "probe"]}},
        "transfer.modes: 'probe' stands twice",
    ),
    (
        {"experiments__0__transfer": {"to": "digits-high", "sources": ["dense", "dense"]}},
        "transfer.sources: 'dense' stands twice",
    ),
    ({"experiments__0__batchnorm": {}}, "batchnorm: lenet300 has none; leave it out"),
    ({"data": {"seed": -1}}, "data.seed: -1 given; input should be greater than or equal to 0"),
    ({"seeds": [2**63]}, "seeds.0: 9223372036854775808 given; .* less than"),
    ({"experiments__0__strategies": {"reinit": {"replicas": 1001}}}, "reinit.replicas: 1001 given; .*1000"),
    ({"experiments__0__analysis": {"surface": {"span": [1, 0]}}}, r"surface.span: \[1.0, 0.0\] given; the lower end"),
    ({"experiments__0__analysis": {"surface": {"span": [1, 1]}}}, "surface.span: .*the lower end comes first"),
    (
        {"experiments__0__analysis": {"hessian": {"eigenvalues": 100_000}}},
        r"analysis.hessian.eigenvalues: 100000 given; about \d+ parameters survive",
    ),
    ({"experiments__0__analysis": {"line": {"eigenvalues": 100_000}}}, "analysis.line.eigenvalues: 100000 given"),
]


@pytest.mark.parametrize(("changes", "said"), NONSENSE)
def test_what_would_be_done_twice_or_not_at_all_is_refused(tmp_path: Path, changes: dict, said: str) -> None:
    found = faults(tmp_path, **changes)
    assert any(re.search(said, fault) for fault in found), found


@pytest.mark.parametrize("name", ["...yaml", "..yaml", ".hidden.yaml", "-x.yaml", "a b.yaml"])
def test_a_studys_name_is_no_folder_above_and_no_option(tmp_path: Path, name: str) -> None:
    target = tmp_path / name
    target.write_text((STUDIES / "demo.yaml").read_text())
    with pytest.raises(ConfigError, match="its name stands in paths: rename it"):
        load_config({"study": str(target), "results": str(tmp_path)})


def test_threads_have_a_limit() -> None:
    with pytest.raises(ConfigError, match=r"threads: 1025 given; .*1024"):
        load_config({"study": "demo", "threads": 1025})


def test_runs_that_a_net_keeps_may_be_those_of_one_of_its_experiments(tmp_path: Path) -> None:
    """As its experiments share their dense nets, and may have runs of their own."""
    study = yaml.safe_load(demo_with(tmp_path).read_text())
    first = study["experiments"][0] | {"keep_all": [2], "analysis": None, "strategies": {}}
    study |= {"experiments": [first | {"seeds": 2}, first | {"method": {"name": "snip"}}], "figures": [], "focus": None}
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(study))
    load_config({"study": str(tmp_path / "own.yaml")})


def test_the_loss_alone_can_be_measured_on_fewer_images_than_there_are_classes(tmp_path: Path) -> None:
    analysis = {name: {"images": 5} for name in ("hessian", "line", "barrier")} | {"psp": {"samples": 1000}}
    _, study = load_config({"study": str(demo_with(tmp_path, experiments__1__analysis=analysis))})
    assert study.experiments[1].analysis.psp.samples == 1000
