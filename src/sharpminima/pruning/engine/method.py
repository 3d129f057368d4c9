"""What a pruning method takes and returns: a prepared run, one state for each requested level."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NotRequired, TypedDict

from torch import Tensor, nn

from sharpminima.base.progress import Progress
from sharpminima.catalogue.methods.method import Dial
from sharpminima.catalogue.recipes import PspEntropySettings
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
    psp_entropy: PspEntropySettings | None = None  # a part of what every training of the method minimises
    progress: Progress | None = None
    resume: ResumeFile | None = None
    dial: Dial | None = None  # what the method promises of survivors, by its entry; None: it is run without one


class Event(TypedDict):
    """A pruning event, a strength or a point of a path, as it is recorded; methods add keys of their own."""

    event: int  # its number, from 1
    survivors: int
    sparsity: float  # over the prunable parameters


class LevelFacts(TypedDict):
    """What is recorded of a level's state."""

    epoch: int  # of the last training
    event: int  # number of the event behind the state; 0: none
    stage_complete: bool  # False: the budget ended before the training did
    gradient_norm: float  # of the mean training loss, over survivors
    epochs: NotRequired[int]  # of all trainings behind the state
    collapsed: NotRequired[list[str] | None]  # where the net breaks apart and is a constant; None: that is not known
    after_threshold: NotRequired[Event | None]  # of LOBSTER: the event itself


@dataclass(frozen=True)
class LevelState:
    """The net that stands for one requested level."""

    state: dict[str, Tensor]  # state dict, CPU
    masks: Masks  # CPU
    reached: bool  # False: the budget ended first, and this is the last state
    facts: LevelFacts


@dataclass(frozen=True)
class Pruned:
    """What a method returns: a net for each level, and how it came to them."""

    levels: dict[float, LevelState]  # one for each requested level
    history: list[dict[str, Any]]  # one row an epoch
    events: Sequence[Event]
    epochs: int  # in all
