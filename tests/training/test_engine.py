"""The loop: it learns, resumes to the same bits, stops on SIGTERM, and says when it diverged."""

import functools
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from sharpminima.base.errors import TrainingError
from sharpminima.base.stop import STOP, Stopped
from sharpminima.catalogue.recipes import RecipeSettings
from sharpminima.data import Split
from sharpminima.nets import resume as resume_module
from sharpminima.nets.resume import ResumeFile
from sharpminima.runtime.rng import generator
from sharpminima.training import HISTORY_COLUMNS, FlatModel, RecipePolicy, train

from .cases import Interrupting

RECIPE = RecipeSettings(batch_size=16, lr=0.1, momentum=0.9, weight_decay=1e-3, max_epochs=6, patience=2, stop_after=5)


def net() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3))


def split(seed: int, count: int) -> Split:
    """Three classes: the brightest third of the image."""
    random = torch.Generator().manual_seed(seed)
    images = torch.randn(count, 1, 8, 8, generator=random)
    labels = torch.randint(0, 3, (count,), generator=random)
    for image, label in zip(images, labels.tolist(), strict=True):
        image[0, 2 * label : 2 * label + 3] += 1.0
    return Split(images=images, labels=labels)


TRAINING, VALIDATION = split(1, 100), split(2, 40)


def run(policy: RecipePolicy, resume: ResumeFile | None = None) -> tuple[FlatModel, list]:
    model = net()
    flat = FlatModel(model)
    flat.set_masks({"4.weight": torch.arange(3 * 144).view(3, 144) % 3 == 0})
    history = train(
        flat,
        TRAINING,
        VALIDATION,
        policy,
        batch_size=RECIPE.batch_size,
        momentum=RECIPE.momentum,
        weight_decay=RECIPE.weight_decay,
        stream=lambda epoch: generator(0, "order", epoch),
        resume=resume,
    )
    return flat, history


@pytest.fixture(autouse=True)
def _stop_signal():
    before = signal.getsignal(signal.SIGTERM)
    STOP.install()
    yield
    signal.signal(signal.SIGTERM, before)
    STOP.raised = False


def test_it_learns_and_keeps_the_best_state() -> None:
    policy = RecipePolicy(RECIPE)
    _, history = run(policy)
    assert list(history[0]) == HISTORY_COLUMNS
    assert history[-1]["train_loss"] < 0.5 * history[0]["train_loss"]
    best = min(row["validation_loss"] for row in history)
    assert policy.best.loss == best
    assert history[policy.best.epoch - 1]["validation_loss"] == best


def test_the_same_seed_gives_the_same_bits() -> None:
    (a, history_a), (b, history_b) = run(RecipePolicy(RECIPE)), run(RecipePolicy(RECIPE))
    assert torch.equal(a.values, b.values)
    assert history_a == history_b


@pytest.mark.usefixtures("in_bfloat16")
def test_it_learns_in_bfloat16() -> None:
    _, history = run(RecipePolicy(RECIPE))
    assert history[-1]["train_loss"] < 0.5 * history[0]["train_loss"]


@pytest.mark.usefixtures("in_bfloat16")
@pytest.mark.parametrize("steps", [8, 25])
def test_a_stopped_training_in_bfloat16_resumes_to_the_same_bits(tmp_path: Path, steps: int) -> None:
    test_a_stopped_training_resumes_to_the_same_bits(tmp_path, steps)


# 7 steps an epoch: in the middle of the first, at an epoch's last step, just after one, in the middle of a later one.
@pytest.mark.parametrize("steps", [3, 7, 8, 25])
def test_a_stopped_training_resumes_to_the_same_bits(tmp_path: Path, steps: int) -> None:
    undisturbed = RecipePolicy(RECIPE)
    expected, expected_history = run(undisturbed)
    file = ResumeFile(tmp_path / "resume", fingerprint="x")
    with pytest.raises(Stopped, match="its state is in"):
        run(Interrupting(RECIPE, steps), file)
    STOP.raised = False
    policy = Interrupting(RECIPE, None)
    flat, history = run(policy, file)
    assert torch.equal(flat.values, expected.values)
    assert history == expected_history
    for name, tensor in undisturbed.best.snapshot.items():
        assert torch.equal(policy.best.snapshot[name], tensor), name


def test_a_resume_file_is_written_when_due_and_only_for_its_fingerprint(tmp_path: Path) -> None:
    path = tmp_path / "resume"
    run(RecipePolicy(RECIPE), ResumeFile(path, fingerprint="x", every_s=0.0))
    assert path.exists()
    assert ResumeFile(path, fingerprint="x").load()["epoch"] == 5
    assert ResumeFile(path, fingerprint="other").load() is None
    ResumeFile(path, fingerprint="x").remove()
    assert not path.exists()


def test_a_resume_file_of_another_layout_is_ignored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as earlier:
        earlier.setattr(resume_module, "_LAYOUT", 1)
        ResumeFile(tmp_path / "resume", fingerprint="x").save({"epoch": 3})
    run(RecipePolicy(RECIPE), ResumeFile(tmp_path / "resume", fingerprint="x"))


def test_divergence_is_an_error() -> None:
    settings = RECIPE.model_copy(update={"lr": 1e9})
    with pytest.raises(TrainingError, match="the training diverged; lower the learning rate"):
        run(RecipePolicy(settings))


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (
            lambda flat: flat.model.register_forward_hook(lambda *given: given[2] / 0),
            "the loss is nan in the first step, before any weight was moved: .* which no learning rate cures",
        ),
        (lambda flat: flat.values.fill_(float("nan")), "the weights that the training starts from are not finite"),
    ],
)
def test_a_loss_that_is_none_from_the_start_is_not_put_down_to_the_rate(
    spoil: Callable[[FlatModel], object], says: str
) -> None:
    flat = FlatModel(net())
    spoil(flat)
    stream = functools.partial(generator, 0, "order")
    with pytest.raises(TrainingError, match=says):
        train(flat, TRAINING, VALIDATION, RecipePolicy(RECIPE), batch_size=RECIPE.batch_size, stream=stream)
