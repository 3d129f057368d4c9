"""What a method's entry promises, held where masks come back: before they are trained with, and at the end."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch import nn

from sharpminima.base.errors import AnalysisError, MethodError, blamed_on
from sharpminima.catalogue.brought import described
from sharpminima.catalogue.methods.method import Dial, Method
from sharpminima.nets.masks import Masks, checked_masks, completed, count
from sharpminima.pruning.engine.distribution import survivors_at
from sharpminima.pruning.engine.method import LevelState, Pruned, Run


def prune(method: Method, run: Run, settings: Any) -> Pruned:
    """Run a method; of its masks, those of all weights that may be removed.

    Raises:
        MethodError: it returns something else than a state for each level, masks that do not fit the net, or other
            survivors than its dial promises; it is named.
    """
    with blamed_on(described("method", method.name)):
        pruned = method.load()(replace(run, dial=method.dial), settings)
        if not isinstance(pruned, Pruned):
            raise MethodError(f"returns a {type(pruned).__name__}; return a sharpminima.pruning.Pruned")
        if set(pruned.levels) != set(run.levels):
            raise MethodError(
                f"levels {list(pruned.levels)} returned, {list(run.levels)} asked for; return a state for each"
            )
        levels = {level: _checked(method.dial, run.model, level, state) for level, state in pruned.levels.items()}
        return replace(pruned, levels=levels)


def _checked(dial: Dial, model: nn.Module, level: float, state: Any) -> LevelState:
    if not isinstance(state, LevelState):
        raise MethodError(f"level {level}: a {type(state).__name__} returned; return a sharpminima.pruning.LevelState")
    with blamed_on(f"level {level}"):
        masks = found_masks(model, state.masks)
    check_survivors(dial, level, masks, reached=state.reached)
    return replace(state, masks=masks)


def found_masks(model: nn.Module, masks: Mapping[str, Any]) -> Masks:
    """Masks as a method may give them, as they are counted: bool, on the CPU, and `completed`.

    Args:
        masks: parameter name -> tensor of 0 (removed) and 1 (kept), of any dtype, on any device.

    Raises:
        MethodError: as `sharpminima.nets.masks.checked_masks`.

    >>> net = nn.Sequential(nn.Linear(2, 1), nn.Linear(1, 1))
    >>> list(found_masks(net, {"0.bias": net[0].bias * 0}))
    ['0.bias', '0.weight', '1.weight']
    """
    try:
        fitting = checked_masks(masks, dict(model.named_parameters()), "the net")
    except AnalysisError as error:
        raise MethodError(str(error)) from error
    return completed({name: mask.cpu() for name, mask in fitting.items()}, model)


def check_survivors(dial: Dial | None, level: float, masks: Masks, *, reached: bool) -> None:
    """Hold a method to its dial: `docs/methods.md` says what each promises.

    How near units, structures and strengths come to a level depends on the net, and is not looked at; that a level is
    reached which is said to be, is.

    Args:
        dial: None: nothing is promised.
        level: share of what the masks name that was to be removed, in [0, 1].
        reached: whether it is said to be reached.

    Raises:
        MethodError: other survivors than promised; level and both numbers are named.

    >>> import torch
    >>> half = {"weight": torch.tensor([True, False])}
    >>> check_survivors("weights", 0.5, half, reached=True)
    >>> check_survivors("units", 0.5, {"weight": torch.tensor([True, True])}, reached=False)
    """
    survivors, size = count(masks)
    asked = survivors_at(level, size)
    where = f"level {level}: {survivors} weights survive"
    match dial:
        case "weights":
            if survivors != asked:
                raise MethodError(
                    f'{where}, {asked} asked for; its dial is "weights": keep exactly so many, of all tensors together '
                    "(those without a mask survive), or declare another dial"
                )
        case "at most":
            if survivors > asked:
                raise MethodError(
                    f'{where}, at most {asked} may; its dial is "at most": keep no more, or declare another dial'
                )
        case "units" | "structures" | "none":
            if reached and survivors > asked:
                raise MethodError(f"{where}, {asked} asked for, and it is said to be reached; say reached=False")
    if dial in ("weights", "at most") and not reached:
        raise MethodError(f"{where}, as asked, and it is said not to be reached; say reached=True")
