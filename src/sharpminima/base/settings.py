"""Settings: typed, frozen, and closed to unknown keys."""

from typing import Annotated, Any, get_args

from pydantic import BaseModel, ConfigDict, Field, model_validator


class Settings(BaseModel):
    """Base of all settings."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _no_truth_value_for_a_number(cls, given: Any) -> Any:
        """Refuse ``yes``, ``no``, ``on`` and ``off``, which YAML reads as truth values, where they would be 1 and 0."""
        for name, field in cls.model_fields.items() if isinstance(given, dict) else ():
            value = given.get(field.alias or name)
            found = any(isinstance(one, bool) for one in (value if isinstance(value, list) else [value]))
            if found and not _takes_truth(field.annotation):
                raise ValueError(f"{name}: {value!r} given, as which YAML reads yes and no too: write a number")
        return given


PositiveInt = Annotated[int, Field(gt=0)]
Share = Annotated[float, Field(gt=0, le=1)]
Strength = Annotated[float, Field(gt=0)]


def _takes_truth(annotation: Any) -> bool:
    """Whether a truth value may stand somewhere in a setting."""
    return annotation in (bool, Any) or annotation is True or any(map(_takes_truth, get_args(annotation)))
