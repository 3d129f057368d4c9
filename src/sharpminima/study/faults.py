"""What is wrong with settings, one line a fault: where, what was given, what is allowed."""

import difflib
from collections.abc import Sequence
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from sharpminima.catalogue.methods import METHODS
from sharpminima.study.expand import Place, in_file
from sharpminima.study.schema import Catalogued, method_model


def validated(model: type[BaseModel], value: Any, origin: str, faults: list[str], places: Sequence[Place] = ()) -> Any:
    try:
        return model.model_validate(value)
    except ValidationError as error:
        items = error.errors(include_url=False)
        locations = [item["loc"] for item in items]
        for item in items:
            inside = [p for p in locations if len(p) > len(item["loc"]) and p[: len(item["loc"])] == item["loc"]]
            # A list whose entries have faults is also called too short; the entries' faults say more.
            if not (item["type"] == "too_short" and inside):
                faults.append(_fault(model, item, origin, places))
        return None


def _fault(model: type[BaseModel], item: Any, origin: str, places: Sequence[Place]) -> str:
    """One line for one fault of pydantic's: path, what was given, what is allowed, and the nearest valid name."""
    kind, given = item["type"], item["input"]
    whole = in_file(item["loc"], places)
    location = [part for place, part in enumerate(whole) if not _names_method(whole, place)]
    path = ".".join(str(part) for part in location if part != "[key]") or "(whole file)"
    context = item.get("ctx", {})
    if kind == "extra_forbidden":
        allowed = _keys(model, item["loc"][:-1])
        return f"{origin}: {path}: no such key; there are {', '.join(allowed)}{nearest(str(location[-1]), allowed)}"
    if kind == "literal_error":
        choices = [c.strip("'\" ") for c in context["expected"].replace(" or ", ", ").split(",")]
        return f"{origin}: {path}: {given!r} given, allowed: {', '.join(choices)}{nearest(str(given), choices)}"
    if kind == "union_tag_invalid":
        return f"{origin}: {path}.name: {context['tag']!r} given, allowed: {', '.join(METHODS)}" + nearest(
            context["tag"], list(METHODS)
        )
    if kind == "union_tag_not_found":
        return f"{origin}: {path}: has no name; add name: one of {', '.join(METHODS)}"
    if kind in ("tuple_type", "list_type"):
        return f"{origin}: {path}: {given!r} given; a list is needed, as in [{given}]"
    if kind in ("model_type", "dict_type", "model_attributes_type"):
        return f"{origin}: {path}: {given!r} given; names with values are needed"
    if kind == "missing":
        return f"{origin}: {path}: is missing"
    if kind == "value_error":
        return f"{origin}: {path}: {context['error']}"
    shown = "" if isinstance(given, dict | list) else f"{given!r} given; "
    return f"{origin}: {path}: {shown}{item['msg'][0].lower()}{item['msg'][1:]}"


def _names_method(location: Sequence[Any], place: int) -> bool:
    """Whether a part of a location is the tag of a method's settings, which the file does not have as a key."""
    before = [part for part in location[:place] if not isinstance(part, int)]
    return location[place] in METHODS and before[-1:] in ([], ["method"])


def _keys(model: type[BaseModel], location: tuple[Any, ...]) -> list[str]:
    """The keys allowed at a location of an error inside ``model``."""
    current: Any = model
    for place, part in enumerate(location):
        field = getattr(current, "model_fields", {}).get(part)
        models = [] if field is None else [m for given in (field.annotation, *field.metadata) for m in _models(given)]
        if _names_method(location, place):
            models = [method_model(METHODS[part])]
        if models:
            current = models[0]
    return [field.alias or name for name, field in current.model_fields.items()]


def _models(annotation: Any) -> list[type[BaseModel]]:
    """The models inside an annotation such as ``tuple[Experiment, ...] | None``."""
    if isinstance(annotation, Catalogued):
        return list(annotation.models())
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in _models(part)]


def nearest(given: str, allowed: list[str]) -> str:
    match = difflib.get_close_matches(given, allowed, n=1)
    return f"; did you mean {match[0]}?" if match else ""
