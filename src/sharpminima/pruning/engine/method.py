"""What a pruning method takes and returns: a prepared run, one state for each requested level."""

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from sharpminima.base.progress import Progress
from sharpminima.data import Split
from sharpminima.nets.masks import Masks
from sharpminima.nets.resume import ResumeFile


@dataclass(frozen=True)
class Run:
    """All that a method may use; two equal runs give the same bits."""

    model: nn.Module  # at W0, on the device
    training: Split
    validation: Split
    test: Split  # recorded, never decided by
    levels: tuple[float, ...]  # requested sparsities over the prunable parameters, ascending
    seed: int
    augment: bool
    compaction: bool = False
    progress: Progress | None = None
    resume: ResumeFile | None = None


@dataclass(frozen=True)
class LevelState:
    """The net that stands for one requested level."""

    state: dict[str, Tensor]  # state dict, CPU
    masks: Masks  # CPU
    reached: bool  # False: the budget ended first, and this is the last state
    facts: dict[str, Any] = field(default_factory=dict)  # JSON values, see the method


@dataclass(frozen=True)
class Pruned:
    """What a method returns."""

    levels: dict[float, LevelState]  # one for each requested level
    history: list[dict[str, Any]]  # one row an epoch
    events: list[dict[str, Any]]  # one row a pruning event
    epochs: int  # in all
