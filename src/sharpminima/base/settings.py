"""Settings: typed, frozen, and closed to unknown keys."""

from typing import Annotated, Any, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator


class Settings(BaseModel):
    """Base of all settings."""

    # Most processes read few of the settings: each builds its validator at its first use, not at import.
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, defer_build=True)

    @model_validator(mode="before")
    @classmethod
    def _no_truth_value_for_a_number(cls, given: Any) -> Any:
        """Refuse ``yes``, ``no``, ``on`` and ``off``, which YAML reads as truth values, where they would be 1 and 0."""
        for name, field in cls.model_fields.items() if isinstance(given, dict) else ():
            value = given.get(field.alias or name)
            has_truth_value = any(isinstance(one, bool) for one in (value if isinstance(value, list) else [value]))
            if has_truth_value and not _takes_truth(field.annotation):
                raise ValueError(f"{name}: {value!r} given, as which YAML reads yes and no too: write a number")
        return given


def distinct(given: tuple[Any, ...]) -> tuple[Any, ...]:
    """The values, if none stands twice.

    Raises:
        ValueError: one does.
    """
    if twice := [value for place, value in enumerate(given) if value in given[:place]]:
        raise ValueError(f"{twice[0]!r} stands twice; give each once")
    return given


Distinct = AfterValidator(distinct)
"""Marks a setting in which no value may stand twice."""
HIGHEST_SEED = 2**63 - 1
Seed = Annotated[int, Field(ge=0, le=HIGHEST_SEED)]
MOST_THREADS, MOST_REPLICAS = 1024, 1000  # more are a slip of the keyboard
PositiveInt = Annotated[int, Field(gt=0)]
Share = Annotated[float, Field(gt=0, le=1)]
Strength = Annotated[float, Field(gt=0)]


def _takes_truth(annotation: Any) -> bool:
    """Whether a truth value may stand somewhere in a setting."""
    return annotation in (bool, Any) or annotation is True or any(map(_takes_truth, get_args(annotation)))
