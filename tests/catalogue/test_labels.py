"""Labels behind models' names, by which a study trains one net in several ways."""

import pytest

from sharpminima.base.errors import ConfigError
from sharpminima.catalogue.models import MODELS
from sharpminima.study.costs import Costs
from sharpminima.study.jobs import Layout
from sharpminima.study.read import load_config


def test_a_labelled_model_is_the_model_under_another_name() -> None:
    labelled, plain = MODELS["lenet5@b-0.3"], MODELS["lenet5"]
    assert (labelled.name, labelled.title) == ("lenet5@b-0.3", "LeNet-5 (b-0.3)")
    assert (labelled.shape, labelled.code, labelled.facts) == (plain.shape, plain.code, plain.facts)
    assert "lenet5@b-0.3" in MODELS
    assert list(MODELS).count("lenet5") == 1
    assert not any("@" in name for name in MODELS)


@pytest.mark.parametrize("name", ["lenet5@", "lenet5@A", "lenet5@a b", "nothing@plus", "@plus", "lenet5@a/b"])
def test_other_labels_name_no_model(name: str) -> None:
    assert name not in MODELS
    with pytest.raises(KeyError):
        MODELS[name]


def layout(tmp_path, *experiments: str) -> Layout:
    lines = ["title: Two ways", "figures: []", "experiments:", *experiments]
    (tmp_path / "ways.yaml").write_text("\n".join(lines))
    return Layout(*load_config({"study": str(tmp_path / "ways.yaml")}))


COMMON = "dataset: digits, method: { name: lobster }, levels: [0.5], strategies: { rewind: {} }"


def test_a_study_has_several_ways_of_one_net(tmp_path) -> None:
    plain = f"- {{ model: lenet300, {COMMON} }}"
    found = layout(tmp_path, plain, f"- {{ model: lenet300@plus, psp_entropy: {{ beta: 0.1 }}, {COMMON} }}")
    jobs = {job.outputs[0].removeprefix(found.runs_folder): job for job in found.training_jobs()}
    for rule, place in {
        "dense": "dense/seed-0/checkpoint.safetensors",
        "prune": "lobster/level-50/gradual/seed-0/checkpoint.safetensors",
        "retrain": "lobster/level-50/rewind/seed-0/checkpoint.safetensors",
    }.items():
        ours, theirs = (jobs[f"/digits/{model}/{place}"] for model in ("lenet300@plus", "lenet300"))
        assert ours.rule == theirs.rule == rule
        assert ours.settings.pop("psp_entropy") == {"revision": 1, "beta": 0.1, "tau": 1.0, "order": 1}
        assert ours.settings == theirs.settings, "what has no PSP-entropy is recorded as it always was"
    experiments = found.facts()["experiments"]
    assert "psp_entropy" not in experiments[0]
    costs = Costs(found)
    key = {"dataset": "digits", "model": "lenet300"}
    assert costs.dense(**key).expected_s < costs.dense(**{**key, "model": "lenet300@plus"}).expected_s


def test_two_ways_under_one_name_are_refused(tmp_path) -> None:
    with pytest.raises(ConfigError, match=r"psp_entropy: .* has two; .* model: lenet300@plus"):
        layout(
            tmp_path,
            f"- {{ model: lenet300, {COMMON} }}",
            f"- {{ model: lenet300, psp_entropy: {{ beta: 0.1 }}, {COMMON.replace('lobster', 'snip')} }}",
        )
