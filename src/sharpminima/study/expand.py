"""Experiments that differ in model or method only, written as one: lists in a study's file, expanded before anything
else reads them."""

import itertools
from collections.abc import Sequence
from typing import Any

LISTED = ("model", "method")
"""The keys of an experiment that may hold a list."""

Place = dict[str, int]
"""Where an expanded experiment stands in the file: ``experiments``, and of each listed key the place in its list."""


def expand(study: Any) -> tuple[Any, list[Place]]:
    """A study as its file has it, with each combination of listed models and methods as an experiment of its own.

    Whatever is no study, or no list, is left as it is: its faults are for the typed models to find.

    Returns:
        The study, and the places of its experiments.

    >>> study, places = expand({"experiments": [{"model": ["lenet300", "lenet5"], "method": {"name": "snip"}}]})
    >>> [experiment["model"] for experiment in study["experiments"]], places[1]
    (['lenet300', 'lenet5'], {'experiments': 0, 'model': 1})
    """
    if not isinstance(study, dict) or not isinstance(study.get("experiments"), list):
        return study, []
    expanded, places = [], []
    for number, experiment in enumerate(study["experiments"]):
        listed = [key for key in LISTED if isinstance(experiment, dict) and _is_filled(experiment.get(key))]
        for chosen in itertools.product(*(enumerate(experiment[key]) for key in listed)):
            values = {key: value for key, (_, value) in zip(listed, chosen, strict=True)}
            expanded.append({**experiment, **values} if listed else experiment)
            at = {key: position for key, (position, _) in zip(listed, chosen, strict=True)}
            places.append({"experiments": number, **at})
    return {**study, "experiments": expanded}, places


def _is_filled(value: Any) -> bool:
    return isinstance(value, list) and bool(value)


def in_file(location: Sequence[Any], places: Sequence[Place]) -> tuple[Any, ...]:
    """The location of a fault in the file, from its location in the expanded study.

    >>> in_file(("experiments", 1, "model"), [{"experiments": 0, "model": 0}, {"experiments": 0, "model": 1}])
    ('experiments', 0, 'model', 1)
    """
    if len(location) < 2 or location[0] != "experiments" or not places:
        return tuple(location)
    place = places[location[1]]
    rest = location[2:]
    listed = [place[rest[0]]] if rest and rest[0] in place else []
    return "experiments", place["experiments"], *rest[:1], *listed, *rest[1:]


def allow_lists(schema: dict[str, Any]) -> dict[str, Any]:
    """The JSON schema of a study, with lists of `LISTED` allowed in its experiments."""
    properties = schema["$defs"]["Experiment"]["properties"]
    for key in LISTED:
        several = {"type": "array", "items": {"$ref": f"#/$defs/Experiment/properties/{key}/anyOf/0"}, "minItems": 1}
        properties[key] = {
            "anyOf": [properties[key], several],
            "description": "a list stands for an experiment each",
            "title": key.capitalize(),
        }
    return schema
