"""What the rules ask a cluster for."""

import re
from pathlib import Path

import pytest

from sharpminima.base.errors import ConfigError
from sharpminima.base.files import write_json
from sharpminima.catalogue.methods import METHODS
from sharpminima.nets.models import MODELS
from sharpminima.study import costs as costs_module
from sharpminima.study.costs import MEASURED, Costs, Throughput
from sharpminima.study.jobs import Layout
from sharpminima.study.plan import make_plan
from sharpminima.study.read import load_config

ROOT = Path(__file__).parents[2]
LENET300 = {"dataset": "mnist", "model": "lenet300", "method": "lobster"}
LENET5 = {"dataset": "mnist", "model": "lenet5", "method": "lobster"}
RESNET = {"dataset": "cifar10", "model": "resnet32", "method": "lobster"}
DAY = 24 * 60


@pytest.fixture(autouse=True)
def _in_the_checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def costs_of(study: str = "paper", throughput: Throughput = MEASURED, **config: object) -> Costs:
    return Costs(Layout(*load_config({"study": study, **config})), throughput)


def test_each_attempt_asks_for_more_memory_and_time() -> None:
    costs = costs_of()
    resnet = costs_of("resnet32").prune(**RESNET)
    for cost in (costs.prepare("mnist"), costs.dense(**LENET5), resnet, costs.table()):
        first, second, third = ((cost.mem_mb(n), cost.runtime(n)) for n in (1, 2, 3))
        assert second == (2 * first[0], 2 * first[1])
        assert third == (3 * first[0], 3 * first[1])


def test_more_work_asks_for_more() -> None:
    costs = costs_of()
    resnet = costs_of("resnet32").dense(**RESNET)
    assert costs.dense(**LENET300).runtime() < costs.dense(**LENET5).runtime() < resnet.runtime()
    rewind, reinit = (costs.retrain(**LENET5, strategy=name, seed=0) for name in ("rewind", "reinit"))
    assert reinit.at_most_s == pytest.approx(10 * rewind.at_most_s, rel=0.01)
    assert resnet.mem_mb() > costs.dense(**LENET5).mem_mb() > costs_of("demo").table().mem_mb()
    long = costs.retrain(**LENET300, strategy="rewind-long", seed=0)
    assert long.at_most_s == pytest.approx(costs.prune(**LENET300).at_most_s)
    assert costs.analyse("surface", **LENET5).at_most_s > costs.analyse("psp", **LENET5).at_most_s


@pytest.mark.parametrize(("method", "times"), [("network_surgery", 1.0), ("soft_weight_sharing", 7.0)])
def test_methods_whose_steps_are_dear_ask_for_more(method: str, times: float) -> None:
    costs = costs_of("methods")
    key = {"dataset": "digits", "model": "lenet300", "method": method}
    expected, _ = costs._layout.experiment(**key).method.planned_epochs((0.9, 0.98))
    epoch_s = costs._images("digits")["train"] / MEASURED.images_per_s["lenet300"]
    assert costs.prune(**key).expected_s == pytest.approx(4.0 + (times * expected + 0.5) * epoch_s)
    assert any("epochs of" in line and "soft_weight_sharing" in line for line in costs.assumptions())
    assert not any("epochs of" in line for line in costs_of().assumptions())


def test_no_first_attempt_asks_for_more_than_a_day() -> None:
    """Longer trainings go on from their resume files."""
    cost = costs_of("resnet32").prune(**RESNET)
    assert cost.at_most_s > DAY * 60
    assert (cost.runtime(1), cost.runtime(2)) == (DAY, 2 * DAY)


def test_only_trainings_and_analyses_hold_a_gpu_slot_and_none_does_where_the_device_is_the_cpu() -> None:
    costs = costs_of()
    trained = [costs.dense(**LENET5), costs.prune(**LENET5), costs.analyse("psp", **LENET5)]
    assert [cost.gpu for cost in [*trained, costs.init("mnist"), costs.table(), costs.draw()]] == [True] * 3 + [
        False
    ] * 3
    on_cpu = costs_of(device="cpu").dense(**LENET5)
    assert not on_cpu.gpu
    assert on_cpu.mem_mb() < costs.dense(**LENET5).mem_mb()


def test_replicas_as_one_model_take_its_measured_time() -> None:
    throughput = Throughput("a GPU", dict.fromkeys(MEASURED.images_per_s, 1000.0), {"lenet5": 8000.0})
    looped, batched = (costs_of(throughput=throughput, replica_strategy=way) for way in ("loop", "batched"))
    expected = {costs: costs.retrain(**LENET5, strategy="reinit", seed=0).expected_s for costs in (looped, batched)}
    assert expected[batched] == pytest.approx(expected[looped] / 8, rel=0.01)
    assert (
        batched.retrain(**LENET5, strategy="reinit", seed=0).peak_mb
        > looped.retrain(**LENET5, strategy="reinit", seed=0).peak_mb
    )


@pytest.mark.parametrize(
    ("device", "on_gpu", "together"), [("auto", True, True), ("auto", False, False), ("cpu", True, False)]
)
def test_a_gpu_that_was_measured_trains_replicas_as_one_model(device: str, on_gpu: bool, together: bool) -> None:
    measured = Throughput("a GPU", dict.fromkeys(MEASURED.images_per_s, 1e3), {"lenet5": 8e3}, on_gpu=on_gpu)
    assumed = costs_of(throughput=measured, device=device).assumptions()
    assert ("replicas as one model: lenet5 8,000 images a second, all together" in assumed) == together


def test_bfloat16_makes_trainings_shorter_and_analyses_not() -> None:
    usual, coarser = costs_of("resnet32"), costs_of("resnet32", precision="bfloat16")
    assert coarser.dense(**RESNET).expected_s < 0.5 * usual.dense(**RESNET).expected_s
    assert coarser.prune(**RESNET).expected_s < 0.5 * usual.prune(**RESNET).expected_s
    assert any("bfloat16" in line for line in coarser.assumptions())
    assert not any("bfloat16" in line for line in usual.assumptions())
    usual, coarser = costs_of(), costs_of(precision="bfloat16")
    assert coarser.analyse("psp", **LENET5) == usual.analyse("psp", **LENET5)


def test_a_throughput_with_bfloat16_is_taken_where_a_study_trains_in_it() -> None:
    rates = dict.fromkeys(MEASURED.images_per_s, 1000.0)
    measured = Throughput("a CPU", rates, {}, {"lenet5": 4000.0})
    usual, coarser = (costs_of(throughput=measured, precision=each) for each in ("float32", "bfloat16"))
    start = costs_module._START_S
    expected = (usual.dense(**LENET5).expected_s - start) / 4
    assert coarser.dense(**LENET5).expected_s - start == pytest.approx(expected)
    assert coarser.dense(**LENET300) == usual.dense(**LENET300)
    assert "bfloat16 was not measured for lenet300: counted as float32" in coarser.assumptions()


def test_an_experiment_in_bfloat16_does_not_hasten_the_others() -> None:
    config, study = load_config({"study": "paper"})
    asked = [e.model_copy(update={"precision": "bfloat16"} if e.model == "lenet5" else {}) for e in study.experiments]
    mixed = Costs(Layout(config, study.model_copy(update={"experiments": tuple(asked)})))
    assert mixed.dense(**LENET5).expected_s < costs_of().dense(**LENET5).expected_s
    assert mixed.dense(**LENET300) == costs_of().dense(**LENET300)
    assert re.search(r": lenet300 [\d,]+, lenet5 in bfloat16 [\d,]+;", mixed.assumptions()[0])


def test_a_throughput_without_a_model_of_the_study_is_an_error() -> None:
    with pytest.raises(ConfigError, match="a GPU has none of lenet300; measure lenet300 lenet5"):
        costs_of(throughput=Throughput("a GPU", {"lenet5": 1.0}, {}))


@pytest.mark.parametrize(
    "content", [None, [], {"models": {}}, {"machine": {}, "settings": {}, "models": {"lenet5": 1}}]
)
def test_another_file_is_no_throughput(tmp_path: Path, content: object) -> None:
    path = tmp_path / "found.json"
    if content is not None:
        write_json(path, content)
    with pytest.raises(ConfigError, match=r"found\.json: is no file that `python -m benchmarks\.training"):
        Throughput.from_benchmark(path)


@pytest.mark.parametrize("model", MODELS)
def test_every_model_has_a_cost(model: str) -> None:
    """And one that was not measured, that of its multiplications: WRN-28-10 has 76 times those of ResNet-32."""
    assert 1 < costs_module._images_per_s(model) <= 60_000
    assert costs_module._net_mb(model) > 10
    assert costs_module._psp_kb(model) >= 0


def test_larger_nets_take_longer() -> None:
    rates = [costs_module._images_per_s(model) for model in ("resnet20", "resnet56", "resnet110", "wrn28-10")]
    assert rates == sorted(rates, reverse=True)


@pytest.mark.parametrize("study", sorted(path.stem for path in Path(ROOT / "workflow/studies").glob("*.yaml")))
def test_every_study_has_a_cost(study: str) -> None:
    layout = Layout(*load_config({"study": study}))
    plan = make_plan(layout, Costs(layout), {})
    assert all(step.cost.at_most_s >= step.cost.expected_s > 0 for step in plan.steps)


@pytest.mark.parametrize("study", ["methods", "methods-epochs"])
def test_the_studies_on_digits_have_every_method(study: str) -> None:
    nets = {(e.model, e.method.name) for e in load_config({"study": study})[1].experiments}
    expected = {(model, method) for model in ("lenet300", "lenet5") for method in METHODS}
    assert expected - nets == {
        ("lenet300", name) for name in ("shift_attention", "kernels", "intra_kernel")
    }  # kernels of one weight
    assert nets <= expected


def test_the_study_of_equal_epochs_has_them() -> None:
    _, study = load_config({"study": "methods-epochs"})
    epochs = {}
    for experiment in study.experiments:
        method = experiment.method
        strengths = getattr(method, "strengths", None)  # behind a net is the search of one
        one = method.model_copy(update={"strengths": strengths[:1]}) if strengths else method
        epochs[method.name] = one.planned_epochs(experiment.levels)[1]
    assert set(epochs) == set(METHODS)
    assert set(epochs.values()) == {40}
