"""What an entry of a pruning method says."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from sharpminima.base.settings import Settings
from sharpminima.catalogue.registry import Code, loaded

Dial = Literal["weights", "at most", "units", "none"]
"""What is removed to the number asked for; at most: weights, of which fewer may be left; none: methods that have
strengths."""


class MethodSettings(Settings, ABC):
    """Base of the settings of all methods."""

    @abstractmethod
    def planned_epochs(self, levels: Sequence[float]) -> tuple[float, float]:
        """Of a run at these levels, all trainings together: expected, and at most."""


@dataclass(frozen=True, eq=False)
class Method:
    """A pruning method."""

    name: str
    settings: type[MethodSettings]
    paper: str
    kind: str  # e.g. "gradual"
    code: Code  # (run, settings) -> Pruned; in a family, what it makes a run of
    dial: Dial = "weights"
    family: Code | None = None  # (run, settings, name, code) -> Pruned: what methods of a kind share

    def load(self) -> Callable[[Any, Any], Any]:
        """(`sharpminima.pruning.Run`, settings) -> `sharpminima.pruning.Pruned`."""
        if self.family is None:
            return loaded(self.code)
        return partial(_in_family, loaded(self.family), self.name, loaded(self.code))

    def prune(self, run: Any, settings: Any) -> Any:
        """Run the method: `load` it and call it with a run and its settings."""
        return self.load()(run, settings)


def _in_family(family: Callable[..., Any], name: str, code: Any, run: Any, settings: Any) -> Any:
    return family(run, settings, name, code)
