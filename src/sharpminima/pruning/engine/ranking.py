"""What can be ranked: a score for each place, none of them NaN, which a sort would put above every number."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from sharpminima.base.errors import MethodError, RankingError
from sharpminima.nets.masks import Masks


def checked_scores(
    scores: Mapping[str, Tensor], shapes: Mapping[str, torch.Size] | None = None, alive: Masks | None = None
) -> dict[str, Tensor]:
    """Scores as float64, without a graph, each on the device where it was.

    Args:
        scores: name -> score of each place, of any real dtype that float64 holds; infinite ones have a rank.
        shapes: name -> the shape of its scores, of all that are to be ranked; None: those of ``alive``, else any.
        alive: masks of the places that are ranked; the others get minus infinity, whatever their score is.

    Raises:
        MethodError: scores are missing, of other names or shapes, no tensors or not real; they are named.
        RankingError: a score that is to be ranked is NaN.

    >>> checked_scores({"weight": torch.tensor([2, -1])}, alive={"weight": torch.tensor([False, True])})
    {'weight': tensor([-inf, -1.], dtype=torch.float64)}
    """
    if not isinstance(scores, Mapping):
        raise MethodError(
            f"the scores are a {type(scores).__name__}; give a dictionary, name -> tensor of a score for each place"
        )
    if shapes is None and alive is not None:
        shapes = {name: mask.shape for name, mask in alive.items()}
    expected = scores.keys() if shapes is None else shapes.keys()
    if not expected:
        raise MethodError("the scores are an empty dictionary; give a tensor for each parameter that may be removed")
    if missing := [name for name in expected if name not in scores]:
        raise MethodError(f"there are no scores for {', '.join(missing)}; give each a tensor of its shape")
    if unknown := [str(name) for name in scores if name not in expected]:
        raise MethodError(f"there are scores for {', '.join(unknown)}, of which nothing may leave; leave them out")
    checked = {}
    for name, score in scores.items():
        ranked = _real(name, score, None if shapes is None else shapes[name])
        if alive is not None:
            ranked = ranked.masked_fill(~alive[name].to(ranked.device), -torch.inf)
        refuse_nan(name, ranked)
        checked[name] = ranked
    return checked


def _real(name: str, score: Any, shape: torch.Size | None) -> Tensor:
    if not isinstance(score, Tensor):
        raise MethodError(
            f"the scores of {name} are a {type(score).__name__}; give a tensor (torch.as_tensor makes one of an array)"
        )
    if shape is not None and score.shape != shape:
        raise MethodError(
            f"the scores of {name} have shape {list(score.shape)}; give {list(shape)}, one for each place"
        )
    if score.is_complex():
        raise MethodError(f"the scores of {name} are complex, and have no order; give real ones")
    real = score.detach().double()
    if not score.is_floating_point() and not torch.equal(real.to(score.dtype), score):
        raise MethodError(f"the scores of {name} are whole numbers of more digits than float64 has; give smaller ones")
    return real


def refuse_nan(name: str, scores: Tensor) -> None:
    """Refuse scores of any shape that have no rank.

    Raises:
        RankingError: one is NaN.

    >>> refuse_nan("weight", torch.tensor([1.0, torch.inf]))
    """
    nan = scores.isnan()
    if nan.any():
        raise RankingError(
            f"the scores of {name} are NaN in {int(nan.sum())} of {scores.numel()} places, which have no rank: the "
            "training before diverged (lower its learning rate), or the score is no number there (0/0): give one"
        )


def highest_first(name: str, scores: Tensor) -> Tensor:
    """Places of the scores [n] from the highest to the lowest (int64 [n]), of equal ones the first first.

    Raises:
        RankingError: a score is NaN.

    >>> highest_first("weight", torch.tensor([1.0, 3.0, 3.0]))
    tensor([1, 2, 0])
    """
    refuse_nan(name, scores)
    return scores.sort(descending=True, stable=True).indices
