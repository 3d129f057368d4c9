"""How survivors are shared out over layers: which scores stay, in exactly the number asked for."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from sharpminima.nets.masks import Masks
from sharpminima.pruning.engine.ranking import checked_scores


def keep_best(scores: Mapping[str, Tensor], survivors: int, distribution: str, alive: Masks | None = None) -> Masks:
    """Masks that keep the ``survivors`` highest scores; of equal scores the first.

    Args:
        scores: parameter name -> score, of the parameter's shape.
        survivors: parameters to keep, of all tensors together.
        distribution: a name of `sharpminima.catalogue.methods.choices.DISTRIBUTIONS`.
        alive: masks of those that may stay, ``survivors`` of them at least; None: all may. A tensor whose share is more
            than it has alive keeps those, and the others share the rest: of whole weights a share may grow by one while
            the survivors fall.

    Raises:
        MethodError: scores that cannot be ranked, or not those of all ``alive`` (`checked_scores`).
    """
    scores = checked_scores(scores, alive=alive)
    if distribution == "global":
        flat = torch.cat([score.flatten() for score in scores.values()])
        kept = _best(flat, survivors).split([score.numel() for score in scores.values()])
        return {name: part.view(scores[name].shape).cpu() for name, part in zip(scores, kept, strict=True)}
    shapes = {name: score.shape for name, score in scores.items()}
    sizes = {name: shape.numel() for name, shape in shapes.items()}
    density = survivors / sum(sizes.values())
    densities = erk_densities(shapes, density) if distribution == "erk" else dict.fromkeys(shapes, density)
    most = sizes if alive is None else {name: int(alive[name].sum()) for name in sizes}
    counts = whole_shares({name: densities[name] * sizes[name] for name in shapes}, most, survivors)
    return {name: _best(score.flatten(), counts[name]).view(score.shape).cpu() for name, score in scores.items()}


def erk_densities(shapes: Mapping[str, torch.Size], density: float) -> dict[str, float]:
    """Densities in proportion to sum(shape) / prod(shape), the whole having ``density`` (Erdős-Rényi kernel).

    Evci et al., "Rigging the lottery", ICML 2020: tensors that would be more than full are full, and the rest is
    shared out anew.
    """
    sizes = {name: shape.numel() for name, shape in shapes.items()}
    full: set[str] = set()
    while True:
        rest = density * sum(sizes.values()) - sum(sizes[name] for name in full)
        raw = {name: sum(shape) / shape.numel() for name, shape in shapes.items() if name not in full}
        if not raw:
            return dict.fromkeys(shapes, 1.0)
        epsilon = rest / sum(raw[name] * sizes[name] for name in raw)
        over = {name for name in raw if epsilon * raw[name] > 1.0}
        if not over:
            return {name: 1.0 if name in full else epsilon * raw[name] for name in shapes}
        full |= over


def survivors_at(level: float, size: int) -> int:
    """Parameters that stay where the share ``level`` of ``size`` is removed; at least one."""
    return max(1, round((1.0 - level) * size))


def _best(scores: Tensor, count: int) -> Tensor:
    order = scores.sort(descending=True, stable=True).indices
    kept = torch.zeros(len(scores), dtype=torch.bool, device=scores.device)
    kept[order[:count]] = True
    return kept


def whole_shares(shares: Mapping[str, float], sizes: Mapping[str, int], total: int) -> dict[str, int]:
    """Shares as whole numbers with the given sum: those with the largest remainders are rounded up.

    Raises:
        ValueError: the sizes, which no number passes, have not so many.
    """
    if total > sum(sizes.values()):
        raise ValueError(f"{total} are to be shared out, and there are {sum(sizes.values())}; ask for no more")
    counts = {name: min(sizes[name], math.floor(share)) for name, share in shares.items()}
    by_remainder = sorted(shares, key=lambda name: shares[name] - math.floor(shares[name]), reverse=True)
    while (missing := total - sum(counts.values())) > 0:
        for name in [name for name in by_remainder if counts[name] < sizes[name]][:missing]:
            counts[name] += 1
    return counts
