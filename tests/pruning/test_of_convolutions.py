"""What every method must keep, of those that remove structures of convolutions, of which linear nets have none."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from sharpminima.nets.evaluation import evaluate
from sharpminima.nets.masks import count
from sharpminima.nets.resume import ResumeFile
from sharpminima.pruning import METHODS, Run
from sharpminima.pruning.engine.distribution import survivors_at
from sharpminima.pruning.engine.method import Pruned
from sharpminima.testing import methods
from sharpminima.testing.task import BEATS_CHANCE, small_run

from .test_methods import settings_of

NAMES = ["kernels", "intra_kernel", "shift_attention"]
FIRST, SECOND = "0.weight", "2.weight"
KERNEL = 9
LARGEST = 9  # weights of a kernel; of a position in the kernels of a channel 8 at most


def convolutional_net() -> nn.Module:
    """Kernels of 3x3, the second layer with several inputs; the same W0 each time."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Conv2d(8, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(6 * 4 * 4, 3)
        )


def convolutional_run(resume: ResumeFile | None = None) -> Run:
    return replace(small_run(), model=convolutional_net(), resume=resume)


@pytest.fixture(autouse=True)
def _on_the_convolutional_net(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(methods, "small_net", convolutional_net)
    monkeypatch.setattr(methods, "small_run", convolutional_run)


_CACHE: dict[str, Pruned] = {}


def pruned_by(name: str) -> Pruned:
    if name not in _CACHE:
        _CACHE[name] = METHODS[name].prune(convolutional_run(), settings_of(name))
    return _CACHE[name]


def kernels_of(mask: Tensor) -> Tensor:
    """Survivors of each kernel."""
    return mask.flatten(2).sum(2)


def check(name: str, pruned: Pruned) -> None:
    for level, state in pruned.levels.items():
        survivors, size = count(state.masks)
        asked = survivors_at(level, size)
        assert survivors <= asked
        if METHODS[name].dial == "structures":
            assert asked - LARGEST < survivors, "to within one"
        assert state.reached
        assert not any(state.state[key][~mask].any() for key, mask in state.masks.items())
        model, test = convolutional_net(), small_run().test
        model.load_state_dict(state.state)
        assert evaluate(model, test.images, test.labels).error_percent < BEATS_CHANCE
        first, second = state.masks[FIRST], state.masks[SECOND]
        match name:
            case "kernels":
                assert set(kernels_of(first).unique().tolist()) <= {0, KERNEL}
                assert set(kernels_of(second).unique().tolist()) == {0, KERNEL}, "some leave, as a whole"
            case "intra_kernel":
                assert all((channel == channel[:1]).all() for channel in second.transpose(0, 1))
                assert second.any(0).logical_not().any(), "a position of a channel leaves in all kernels that read it"
            case "shift_attention":
                assert kernels_of(first).max() <= 1
                assert kernels_of(second).max() == 1


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_structures_leave_as_a_whole_and_the_net_is_not_dead(name: str) -> None:
    check(name, pruned_by(name))


@pytest.mark.slow
@pytest.mark.usefixtures("in_bfloat16")
@pytest.mark.parametrize("name", NAMES)
def test_so_they_do_in_bfloat16(name: str) -> None:
    check(name, METHODS[name].prune(convolutional_run(), settings_of(name)))


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_equal_runs_give_equal_bits_and_a_stopped_one_goes_on_to_them(name: str) -> None:
    methods.check_repeats(METHODS[name], settings_of(name), pruned_by(name))
    methods.check_resumes(METHODS[name], settings_of(name), pruned_by(name))
    methods.check_is_written(METHODS[name], pruned_by(name))
