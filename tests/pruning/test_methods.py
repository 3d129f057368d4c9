"""Every registered method on a tiny task: what a method must keep, whoever wrote it."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from sharpminima.base.files import read_json
from sharpminima.base.settings import Settings
from sharpminima.catalogue.methods.choices import Criterion
from sharpminima.catalogue.methods.search import SubnetSettings
from sharpminima.catalogue.recipes import PspEntropySettings
from sharpminima.nets.masks import count
from sharpminima.pruning import METHODS
from sharpminima.pruning.engine import criteria
from sharpminima.pruning.engine.distribution import survivors_at
from sharpminima.pruning.engine.method import Pruned
from sharpminima.pruning.scored import by_criterion
from sharpminima.study.read import study_schema
from sharpminima.study.schema import MethodChoice
from sharpminima.testing.methods import check_is_written, check_levels, check_repeats, check_resumes
from sharpminima.testing.task import LEVELS, small_net, small_run

ROOT = Path(__file__).parents[2]
_RECIPE = {"batch_size": 20, "max_epochs": 8}
_KNOWN_LENGTH = {**_RECIPE, "schedule": "steps", "milestones": [6]}
_COMMON = {  # what of these a method has
    "batch_size": 20,
    "epochs": 6,
    "recipe": _RECIPE,
    "dense": _RECIPE,
    "batches": 3,
    "updates": 4,
    "rounds": 3,
    "keep": 0.5,
}
_OWN = {
    "lobster": {"lambda": 1e-2, "twt": 1.0, "pwe": 2, "max_epochs": 60},
    "dessilbi": {"nu": 1.0, "lr_schedule": "constant"},
    "l0": {"strengths": [0.3, 1.0], "gate_lr": 0.1},
    "variational_dropout": {"strengths": [1.0, 3.0], "lr": 0.01, "gate_lr": 0.3, "log_sigma2": -4.0},
    "dsr": {"every": 8},
    "dst": {"strengths": [0.05, 0.1], "lr": 0.1, "momentum": 0.0, "added_momentum": 0.0},
    "network_surgery": {"strengths": [0.5, 1.5]},
    "straight_through_gates": {"strengths": [3e-4, 1e-3]},
    "soft_weight_sharing": {"strengths": [0.01, 0.1], "lr": 1e-2, "means_lr": 3e-3, "mixture_lr": 0.1},
    "autoprune": {"strengths": [5e-3, 2e-2], "rate": 10},
    "amc": {"episodes": 12, "warm_up": 6, "hidden": 16, "samples_per_class": 20},
    "learned_agents": {"strengths": [0.1, 0.5], "updates": 10, "samples_per_class": 20},
    "continuous_sparsification": {"strengths": [5e-5, 5e-4], "rate": 30},
    "bayesian_compression": {"strengths": [0.3, 1.0], "lr": 0.03, "noise_lr": 0.1},
    "structured_bayesian": {"strengths": [0.3, 1.0], "lr": 0.01, "noise_lr": 0.3},
    "dcp": {"samples_per_class": 20},
}


def settings_of(name: str) -> Settings:
    """The method's defaults, with less training."""
    model = METHODS[name].settings
    chosen = {key: value for key, value in _COMMON.items() if key in model.model_fields} | _OWN.get(name, {})
    if issubclass(model, SubnetSettings):
        chosen |= {"recipe": None, "epochs": 14}  # no training follows
    if METHODS[name].kind == "iterative":
        chosen["recipe"] = _KNOWN_LENGTH
    return model(**chosen)


_CACHE: dict[str, Pruned] = {}


def pruned_by(name: str) -> Pruned:
    if name not in _CACHE:
        _CACHE[name] = METHODS[name].prune(small_run(), settings_of(name))
    return _CACHE[name]


@pytest.mark.slow
@pytest.mark.parametrize("name", METHODS)
def test_survivors_are_as_asked_and_the_net_is_not_dead(name: str) -> None:
    check_levels(METHODS[name], pruned_by(name))


@pytest.mark.slow
@pytest.mark.parametrize("name", METHODS)
def test_it_trains_no_longer_than_planned(name: str) -> None:
    expected, at_most = settings_of(name).planned_epochs(LEVELS)
    assert expected <= at_most
    assert len(pruned_by(name).history) <= at_most


@pytest.mark.slow
@pytest.mark.parametrize("name", METHODS)
def test_every_training_of_it_minimises_psp_entropy_too_where_it_is_asked_to(name: str) -> None:
    pruned = METHODS[name].prune(replace(small_run(), psp_entropy=PspEntropySettings(beta=0.1)), settings_of(name))
    plain = pruned_by(name)
    assert [row["train_loss"] for row in pruned.history] != [row["train_loss"] for row in plain.history]
    for level, state in pruned.levels.items():
        assert state.state.keys() == plain.levels[level].state.keys()
        assert all(tensor.isfinite().all() for tensor in state.state.values())
        assert any(not torch.equal(tensor, plain.levels[level].state[key]) for key, tensor in state.state.items())


@pytest.mark.slow
@pytest.mark.usefixtures("in_bfloat16")
@pytest.mark.parametrize("name", METHODS)
def test_it_prunes_in_bfloat16_too(name: str) -> None:
    check_levels(METHODS[name], METHODS[name].prune(small_run(), settings_of(name)))


@pytest.mark.usefixtures("in_bfloat16")
def test_a_stopped_run_of_lobster_in_bfloat16_goes_on_to_the_same_bits() -> None:
    lobster, settings = METHODS["lobster"], settings_of("lobster")
    check_resumes(lobster, settings, lobster.prune(small_run(), settings))


@pytest.mark.slow
@pytest.mark.parametrize("name", METHODS)
def test_equal_runs_give_equal_bits_and_leave_the_start_alone(name: str) -> None:
    pruned, run = pruned_by(name), small_run()
    check_repeats(METHODS[name], settings_of(name), pruned, run)
    if name != "lobster":
        assert all(torch.equal(p, q) for p, q in zip(run.model.parameters(), small_net().parameters(), strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("name", METHODS)
def test_a_stopped_run_goes_on_to_the_same_bits(name: str) -> None:
    check_resumes(METHODS[name], settings_of(name), pruned_by(name))


@pytest.mark.parametrize("name", METHODS)
def test_a_state_is_written_and_read_without_loss(name: str) -> None:
    check_is_written(METHODS[name], pruned_by(name))


@pytest.mark.parametrize("name", METHODS)
def test_it_is_in_the_config_the_schema_and_the_docs(name: str) -> None:
    method = METHODS[name]
    chosen = MethodChoice.model_validate({"name": name}).root
    assert chosen.model_dump(exclude={"name"}) == method.settings().model_dump()
    schema = read_json(ROOT / "workflow/schemas/study.schema.json")
    assert schema == study_schema()
    assert any(d.get("properties", {}).get("name", {}).get("const") == name for d in schema["$defs"].values())
    described = f"| `{name}` | {method.kind} | {method.dial} | {method.paper} |"
    (line,) = [row for row in (ROOT / "docs/methods.md").read_text().splitlines() if row.startswith(described)]
    assert line.removeprefix(described).strip(" |")


@pytest.mark.gpu
@pytest.mark.parametrize("name", METHODS)
def test_it_works_on_a_gpu(name: str) -> None:
    if not torch.cuda.is_available():
        pytest.skip("this machine has no CUDA")
    pruned = METHODS[name].prune(small_run(device="cuda"), settings_of(name))
    for level, state in pruned.levels.items():
        if METHODS[name].dial == "weights":
            assert count(state.masks) == count(pruned_by(name).levels[level].masks)
        assert all(tensor.device.type == "cpu" for tensor in (*state.state.values(), *state.masks.values()))


def test_the_docs_add_a_method_in_ten_lines() -> None:
    """Both examples of the page run as printed, and the new method does what the table promises."""
    blocks = (ROOT / "docs/methods.md").read_text().split("```python\n")[1:]
    criterion, method = (block.partition("```")[0] for block in blocks)
    names = vars(criteria).copy()
    exec(criterion, names)
    sign_agreement = Criterion("sign_agreement", "ours", names["sign_agreement"])
    run = small_run()
    masks = by_criterion.find_masks(run.model, sign_agreement, 0.8, METHODS["snip"].settings(rounds=2), run)
    assert count(masks)[0] == survivors_at(0.8, count(masks)[1])
    found: dict = {}
    exec(method, found)
    pruned = found["METHOD"].prune(small_run(), found["L2Settings"](batch_size=20, epochs=2, recipe=_RECIPE))
    assert [count(state.masks)[0] for state in pruned.levels.values()] == [402, 161]
