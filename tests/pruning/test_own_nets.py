"""Methods on nets that are built in other ways than the built-in ones: what is reported is of the net that is kept."""

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sharpminima.catalogue.methods import METHODS
from sharpminima.nets.evaluation import evaluate
from sharpminima.nets.resume import ResumeFile
from sharpminima.pruning.engine.method import Pruned, Run
from sharpminima.testing import methods as checks
from sharpminima.testing.task import small_run

LEVEL = 0.3


class OtherWhenTested(nn.Module):
    """Asks for its mode in its own code: a graph of one mode would do the same in both."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden, self.last = nn.Linear(64, 12), nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(F.dropout(F.relu(self.hidden(x.flatten(1))), 0.5, self.training))


def with_dropout() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 12), nn.ReLU(), nn.Dropout(0.2), nn.Linear(12, 3))


def used_twice() -> nn.Module:
    hidden = nn.Linear(12, 12)
    return nn.Sequential(
        nn.Flatten(), nn.Linear(64, 12), nn.ReLU(), hidden, nn.ReLU(), hidden, nn.ReLU(), nn.Linear(12, 3)
    )


class Branching(nn.Module):
    """No graph of it can be traced."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(64, 12), nn.ReLU(), nn.Linear(12, 3))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x if x.sum() < math.inf else x.nan_to_num())


def run_of(build: Callable[[], nn.Module]) -> Run:
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        net = build()
    return replace(small_run(), model=net, levels=(LEVEL,))


def pruned(run: Run) -> Pruned:
    method = METHODS["snip"]
    return method.prune(run, method.settings(recipe={"batch_size": 20, "max_epochs": 4}))


@pytest.mark.parametrize("build", [OtherWhenTested, with_dropout, used_twice, Branching])
def test_what_is_reported_is_of_the_net_that_is_kept(build: Callable[[], nn.Module]) -> None:
    run = run_of(build)
    found = pruned(run)
    kept = build()
    kept.load_state_dict(found.levels[LEVEL].state)
    loss = evaluate(kept, run.validation.images, run.validation.labels).loss
    assert min(row["validation_loss"] for row in found.history) == pytest.approx(loss, rel=1e-6)


@pytest.mark.parametrize("build", [OtherWhenTested, with_dropout])
def test_what_dropout_draws_is_the_runs_own(build: Callable[[], nn.Module], monkeypatch: pytest.MonkeyPatch) -> None:
    def on_own_net(resume: ResumeFile | None = None, device: str = "cpu") -> Run:
        torch.rand(1)  # torch's own generator is elsewhere each time
        return replace(small_run(resume, device), model=run_of(build).model)

    monkeypatch.setattr(checks, "small_run", on_own_net)
    monkeypatch.setattr(checks, "small_net", lambda: on_own_net().model)
    method = METHODS["snip"]
    settings = method.settings(recipe={"batch_size": 20, "max_epochs": 4})
    run, state = on_own_net(), torch.get_rng_state()
    found = method.prune(run, settings)
    assert torch.equal(torch.get_rng_state(), state)  # and the caller's is left alone
    checks.check_repeats(method, settings, found)
    checks.check_resumes(method, settings, found)
