"""What a pruning method must keep, whoever wrote it: shown on the small task of `sharpminima.testing.task`."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch

from sharpminima.base.errors import MethodError
from sharpminima.base.stop import STOP, Stopped
from sharpminima.catalogue.methods.method import Method
from sharpminima.nets.checkpoint import load_checkpoint, save_checkpoint
from sharpminima.nets.evaluation import evaluate
from sharpminima.nets.masks import count, sparsity
from sharpminima.nets.resume import ResumeFile
from sharpminima.pruning.engine.distribution import survivors_at
from sharpminima.pruning.engine.method import LevelState, Pruned, Run
from sharpminima.pruning.engine.promises import check_survivors
from sharpminima.testing._checks import CheckFailed, demand
from sharpminima.testing.task import BEATS_CHANCE, LEVELS, UNIT, small_net, small_run
from sharpminima.training import Optimiser

_BATCHES = 10  # of an epoch of the small task, with a batch size of 20


def check_method(method: Method, settings: Any = None) -> None:
    """Check all that this module does, in some seconds to a minute.

    Args:
        settings: of the method; those that end within some tens of epochs of 20 images a batch. Default: its own
            defaults, which may take long.

    Raises:
        CheckFailed: the method does not keep what methods promise.
    """
    chosen = method.settings() if settings is None else settings
    pruned = _pruned(method, small_run(), chosen)
    check_levels(method, pruned)
    check_repeats(method, chosen, pruned)
    check_resumes(method, chosen, pruned)
    check_is_written(method, pruned)


def _pruned(method: Method, run: Run, settings: Any) -> Pruned:
    """What the method returns; what it is refused for is a promise that it does not keep."""
    try:
        pruned: Pruned = method.prune(run, settings)
    except MethodError as error:
        raise CheckFailed(str(error)) from error
    return pruned


def check_levels(method: Method, pruned: Pruned) -> None:
    """Survivors are as asked, removed weights are zero, and the nets are not dead."""
    name = method.name
    asked = list(LEVELS)
    demand(list(pruned.levels) == asked, f"{name}: levels {list(pruned.levels)} returned, {asked} asked for")
    for level, state in pruned.levels.items():
        _check_survivors(method, level, state)
        _check_state(f"{name}, level {level}", state)
    events = {state.facts["event"] for state in pruned.levels.values()}
    demand(len(events) <= len(LEVELS), f"{name}: {len(events)} events for {len(LEVELS)} levels")
    rows = len(pruned.history)
    demand(0 < pruned.epochs <= rows, f"{name}: {pruned.epochs} epochs, and a history of {rows} rows")


def _check_survivors(method: Method, level: float, state: LevelState) -> None:
    where = f"{method.name}, level {level}"
    survivors, size = count(state.masks)
    asked = survivors_at(level, size)
    try:
        check_survivors(method.dial, level, state.masks, reached=state.reached)
    except MethodError as error:
        raise CheckFailed(f"{method.name}, {error}") from error
    match method.dial:
        case "structures":  # in the small net, which is linear, they are weights
            demand(survivors == asked and state.reached, f"{where}: {survivors} weights survive, {asked} asked for")
        case "at most":
            demand(survivors > 0, f"{where}: no weight survives")
        case "units":
            fits = asked - UNIT < survivors <= asked
            demand(fits, f"{where}: {survivors} weights survive, {asked} asked for, or less by a unit of {UNIT}")
        case "none":
            demand(state.reached or level == LEVELS[-1], f"{where}: not reached; settings that reach it are needed")
            removed = sparsity(state.masks)
            demand(removed >= level or not state.reached, f"{where}: said to be reached, at {removed:.4f}")


def _check_state(where: str, state: LevelState) -> None:
    model, test = small_net(), small_run().test
    demand(state.state.keys() == model.state_dict().keys(), f"{where}: other entries in the state than the net has")
    revived = [name for name, mask in state.masks.items() if state.state[name][~mask].any()]
    demand(not revived, f"{where}: removed weights of {', '.join(revived)} are not zero")
    model.load_state_dict(state.state)
    error = evaluate(model, test.images, test.labels).error_percent
    demand(error < BEATS_CHANCE, f"{where}: an error of {error:.1f} %, where chance has 66.7: the net is dead")
    lacking = {"epoch", "event", "gradient_norm"} - state.facts.keys()
    demand(not lacking, f"{where}: facts lack {', '.join(sorted(lacking))}")


def check_repeats(method: Method, settings: Any, pruned: Pruned, run: Run | None = None) -> None:
    """An equal run gives the same bits; ``run`` is one to prune, in place of a new one."""
    _check_same(f"{method.name}, run again", pruned, _pruned(method, run or small_run(), settings))


def check_resumes(method: Method, settings: Any, pruned: Pruned) -> None:
    """Stopped within an epoch, in the first third of the run and again in the last, it ends at the same bits."""
    with tempfile.TemporaryDirectory() as folder:
        file = ResumeFile(Path(folder, "resume.safetensors"), fingerprint="x")
        steps = _BATCHES * len(pruned.history)
        with _stopping_at(steps // 3 + 5, 5 * steps // 6):
            for time in ("once", "twice"):
                try:
                    _pruned(method, small_run(file), settings)
                except Stopped:
                    STOP.raised = False
                else:
                    demand(False, f"{method.name}: was to be stopped {time}, and did not ask whether to stop")
            resumed = _pruned(method, small_run(file), settings)
        _check_same(f"{method.name}, stopped and resumed", pruned, resumed)
        left = {path.name for path in Path(folder).iterdir()} - {file.path.name}  # that the job removes
        demand(not left, f"{method.name}: leaves {', '.join(sorted(left))}")


@contextmanager
def _stopping_at(*steps: int) -> Iterator[None]:
    """Ask the process to stop at these steps of training, counted over all trainings."""
    step, seen = Optimiser.step, 0

    def stopping(self: Optimiser, lr: float | torch.Tensor) -> None:
        nonlocal seen
        step(self, lr)
        seen += 1
        if seen in steps:
            STOP.raised = True

    try:
        with patch.object(Optimiser, "step", stopping):
            yield
    finally:
        STOP.raised = False


def check_is_written(method: Method, pruned: Pruned) -> None:
    """A checkpoint holds a level's net without loss."""
    with tempfile.TemporaryDirectory() as folder:
        for level, state in pruned.levels.items():
            where = f"{method.name}, level {level}, written and read"
            metadata = {"method": method.name, "level": level, "metrics": [state.facts]}
            save_checkpoint(Path(folder, "c"), [state.state], masks=[state.masks], metadata=metadata)
            read = load_checkpoint(Path(folder, "c"))
            demand(read.metadata["metrics"] == [state.facts], f"{where}: facts differ; they must be JSON values")
            assert read.masks is not None  # some were written
            _check_tensors(where, state.state, read.states[0])
            _check_tensors(where, state.masks, read.masks[0])


def _check_same(where: str, first: Pruned, second: Pruned) -> None:
    demand(first.history == second.history, f"{where}: another history")
    demand(first.events == second.events, f"{where}: other events")
    for level, state in first.levels.items():
        other = second.levels[level]
        demand(state.facts == other.facts, f"{where}: other facts at level {level}")
        _check_tensors(f"{where}, level {level}", state.state, other.state)
        _check_tensors(f"{where}, level {level}", state.masks, other.masks)


def _check_tensors(where: str, first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> None:
    other = [name for name, values in first.items() if not torch.equal(values, second[name])]
    demand(not other, f"{where}: other bits in {', '.join(other)}")
