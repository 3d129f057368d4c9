"""Every registered method on a tiny task: what a method must keep, whoever wrote it."""

import os
import signal
from pathlib import Path

import pytest
import torch

from sharpminima.base.files import read_json
from sharpminima.base.settings import Settings
from sharpminima.base.stop import STOP, Stopped
from sharpminima.catalogue.methods.choices import Criterion
from sharpminima.catalogue.methods.search import SubnetSettings
from sharpminima.nets.checkpoint import load_checkpoint, save_checkpoint
from sharpminima.nets.evaluation import evaluate
from sharpminima.nets.masks import count, sparsity
from sharpminima.nets.resume import ResumeFile
from sharpminima.pruning import METHODS, Run
from sharpminima.pruning.engine import criteria
from sharpminima.pruning.engine.distribution import survivors_at
from sharpminima.pruning.engine.method import Pruned
from sharpminima.pruning.scored import by_criterion
from sharpminima.study.read import study_schema
from sharpminima.study.schema import MethodChoice
from sharpminima.training import engine

from .test_lobster import net, split

ROOT = Path(__file__).parents[2]
LEVELS = (0.5, 0.8)
BEATS_CHANCE = 58.5  # percent; chance is 66.7 with a standard deviation of 2.7 on 300 images
_RECIPE = {"batch_size": 20, "max_epochs": 8}
_KNOWN_LENGTH = {**_RECIPE, "schedule": "steps", "milestones": [6]}
_COMMON = {  # what of these a method has
    "batch_size": 20,
    "epochs": 6,
    "recipe": _RECIPE,
    "dense": _RECIPE,
    "probes": 3,
    "updates": 4,
    "rounds": 3,
    "keep": 0.5,
}
_OWN = {
    "lobster": {"lambda": 1e-2, "twt": 1.0, "pwe": 2, "max_epochs": 60},
    "dessilbi": {"nu": 1.0},
    "l0": {"strengths": [1.0, 1.5]},
    "variational_dropout": {"strengths": [1.0, 3.0], "rate": 30, "log_sigma2": -4.0},
    "dst": {"strengths": [0.03, 0.1]},
    "continuous_sparsification": {"strengths": [1e-4, 1e-3], "rate": 30},
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


def a_run(resume: ResumeFile | None = None, device: str = "cpu") -> Run:
    parts = [split(seed, number) for seed, number in ((1, 200), (2, 80), (3, 300))]
    moved = [type(part)(part.images.to(device), part.labels.to(device)) for part in parts]
    return Run(net().to(device), *moved, LEVELS, seed=0, augment=False, compaction=True, resume=resume)


_CACHE: dict[str, Pruned] = {}


def pruned_by(name: str) -> Pruned:
    if name not in _CACHE:
        _CACHE[name] = METHODS[name].prune(a_run(), settings_of(name))
    return _CACHE[name]


def assert_same(first: Pruned, second: Pruned) -> None:
    assert first.history == second.history
    assert first.events == second.events
    for level, state in first.levels.items():
        assert state.facts == second.levels[level].facts
        for key, tensor in state.state.items():
            assert torch.equal(tensor, second.levels[level].state[key])
        for key, mask in state.masks.items():
            assert torch.equal(mask, second.levels[level].masks[key])


@pytest.mark.parametrize("name", METHODS)
def test_survivors_are_as_asked_and_the_net_is_not_dead(name: str) -> None:
    run, pruned = a_run(), pruned_by(name)
    assert list(pruned.levels) == list(LEVELS)
    for level, state in pruned.levels.items():
        survivors, size = count(state.masks)
        if METHODS[name].dial == "weights":
            assert survivors == survivors_at(level, size)
            assert state.reached
        elif METHODS[name].dial == "units":
            # One unit of the net takes 64 weights in, a bias, and 3 out along.
            assert survivors_at(level, size) - 68 < survivors <= survivors_at(level, size)
        else:
            assert state.reached or level == LEVELS[-1]
        if state.reached and METHODS[name].dial == "none":
            assert sparsity(state.masks) >= level
        assert state.state.keys() == run.model.state_dict().keys()
        assert all(not state.state[key][~mask].any() for key, mask in state.masks.items())
        model = net()
        model.load_state_dict(state.state)
        assert evaluate(model, run.test.images, run.test.labels).error_percent < BEATS_CHANCE
        assert {"epoch", "event", "gradient_norm"} <= state.facts.keys()
    assert len({state.facts["event"] for state in pruned.levels.values()}) <= len(LEVELS)
    assert 0 < pruned.epochs <= len(pruned.history)


@pytest.mark.parametrize("name", METHODS)
def test_equal_runs_give_equal_bits_and_leave_the_start_alone(name: str) -> None:
    run = a_run()
    pruned_by(name)
    again = METHODS[name].prune(run, settings_of(name))
    assert_same(pruned_by(name), again)
    if name != "lobster":
        assert all(torch.equal(p, q) for p, q in zip(run.model.parameters(), net().parameters(), strict=True))


@pytest.mark.parametrize("name", METHODS)
def test_a_stopped_run_goes_on_to_the_same_bits(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped in the middle of an epoch, in the first third of the run and again in the last."""
    expected = pruned_by(name)
    file = ResumeFile(tmp_path / "resume.safetensors", fingerprint="x")
    steps = 10 * len(expected.history)
    step, seen = engine.Sgd.step, []

    def stopping(self: engine.Sgd, *arguments: object) -> None:
        step(self, *arguments)
        seen.append(1)
        if len(seen) in (steps // 3 + 5, 5 * steps // 6):
            os.kill(os.getpid(), signal.SIGTERM)

    before = signal.getsignal(signal.SIGTERM)
    STOP.install()
    monkeypatch.setattr(engine.Sgd, "step", stopping)
    try:
        for _ in range(2):
            with pytest.raises(Stopped):
                METHODS[name].prune(a_run(file), settings_of(name))
            STOP.raised = False
        found = METHODS[name].prune(a_run(file), settings_of(name))
    finally:
        signal.signal(signal.SIGTERM, before)
        STOP.raised = False
    assert_same(expected, found)
    assert {path.name for path in tmp_path.iterdir()} <= {"resume.safetensors"}  # the job removes its own


@pytest.mark.parametrize("name", METHODS)
def test_a_state_is_written_and_read_without_loss(name: str, tmp_path: Path) -> None:
    for level, state in pruned_by(name).levels.items():
        metadata = {"method": name, "level": level, "metrics": [state.facts]}
        save_checkpoint(tmp_path / "c", [state.state], masks=[state.masks], metadata=metadata)
        read = load_checkpoint(tmp_path / "c")
        assert read.metadata["metrics"] == [state.facts]
        assert all(torch.equal(read.states[0][key], value) for key, value in state.state.items())
        assert all(torch.equal(read.masks[0][key], mask) for key, mask in state.masks.items())


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
    pruned = METHODS[name].prune(a_run(device="cuda"), settings_of(name))
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
    run = a_run()
    masks = by_criterion.find_masks(run.model, sign_agreement, 0.8, METHODS["snip"].settings(rounds=2), run)
    assert count(masks)[0] == survivors_at(0.8, count(masks)[1])
    found: dict = {}
    exec(method, found)
    pruned = found["METHOD"].prune(a_run(), found["L2Settings"](batch_size=20, epochs=2, recipe=_RECIPE))
    assert [count(state.masks)[0] for state in pruned.levels.values()] == [402, 161]
