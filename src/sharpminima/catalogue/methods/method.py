"""What an entry of a pruning method says."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Literal, get_args

from pydantic import GetJsonSchemaHandler, model_validator
from pydantic_core import CoreSchema

from sharpminima.base.errors import ConfigError
from sharpminima.base.settings import Settings
from sharpminima.catalogue.brought import running
from sharpminima.catalogue.methods.published import UNKNOWN, Published
from sharpminima.catalogue.registry import Code, loaded

_PUBLISHED = "published"
_HELD = "sharpminima.pruning.engine.promises:prune"

Dial = Literal["weights", "at most", "units", "structures", "none"]
"""What is removed to the number asked for; at most: weights, of which fewer may be left; structures: kernels, or
positions within them; none: methods that have strengths."""


class MethodSettings(Settings, ABC):
    """Base of the settings of all methods.

    ``recipe: published`` stands for what the authors trained with, where that is `published`: it gives several
    settings at once, all of which are recorded, and any of which may be given beside it.
    """

    published: ClassVar[Published | None] = None
    not_offered: ClassVar[str] = UNKNOWN
    """Why, where nothing is `published`."""

    @model_validator(mode="before")
    @classmethod
    def _as_published(cls, given: Any) -> Any:
        if not (isinstance(given, dict) and given.get("recipe") == _PUBLISHED):
            return given
        if cls.published is None:
            raise ValueError(
                f"recipe: published is not offered for this method: {cls.not_offered} (sharpminima methods tells of "
                "which it is); give a recipe's settings"
            )
        return {**cls.published.settings, **{name: value for name, value in given.items() if name != "recipe"}}

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """For pydantic: the schema, with ``recipe: published`` where that is offered."""
        whole = handler.resolve_ref_schema(handler(schema))
        if cls.published is not None:
            recipe = whole["properties"].get("recipe", {"anyOf": []})  # a method may have no other
            said = {key: recipe.pop(key) for key in ("description", "default") if key in recipe}
            whole["properties"]["recipe"] = {
                "anyOf": [{"const": _PUBLISHED}, *recipe.get("anyOf", [recipe])],
                **said,
            }
        return whole

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
    whole_units: bool = False  # whether it removes filters and hidden units, whatever its dial
    title: str = ""  # as a person writes it; without, the name in words

    def __post_init__(self) -> None:
        """Refuse a dial that promises nothing since it is unknown.

        Raises:
            ConfigError: there is no such dial.
        """
        if self.dial not in get_args(Dial):
            raise ConfigError(f"method {self.name}: dial {self.dial!r} given, allowed: {', '.join(get_args(Dial))}")

    @property
    def needs_units(self) -> bool:
        """Whether the model must have filters or hidden units that can be left out."""
        return self.whole_units or self.dial == "units"

    def load(self) -> Callable[[Any, Any], Any]:
        """(`sharpminima.pruning.Run`, settings) -> `sharpminima.pruning.Pruned`."""
        if self.family is None:
            return loaded(self.code)
        return partial(_in_family, loaded(self.family), self.name, loaded(self.code))

    def prune(self, run: Any, settings: Any) -> Any:
        """Run the method, and hold what it returns to the entry (`sharpminima.pruning.engine.promises.prune`).

        Raises:
            PluginError: a plug-in's code cannot be called or raised, or gave what cannot be used.
        """
        with running("method", self.name, "docs/plugins.md has what its code takes and returns"):
            return loaded(_HELD)(self, run, settings)


def _in_family(family: Callable[..., Any], name: str, code: Any, run: Any, settings: Any) -> Any:
    return family(run, settings, name, code)
