"""The keys of a typed model, from pydantic: what is allowed, the default, what it means."""

import json
from pkgutil import resolve_name
from typing import Any

from pydantic import BaseModel

from site_pages.text import prose

_SIGNS = {"minimum": "≥", "maximum": "≤", "exclusiveMinimum": ">", "exclusiveMaximum": "<"}


def of_class(name: str, *hidden: str) -> str:
    """A table of the settings of a model, named as ``module:Class``, without the hidden ones."""
    model = resolve_name(name)
    return f"{prose(model.__doc__ or '')}\n\n{table(model, hidden)}"


def table(model: type[BaseModel], hidden: tuple[str, ...] = ()) -> str:
    """A list-table of a model's settings."""
    schema = model.model_json_schema(by_alias=True)
    required = schema.get("required", [])
    rows = [".. list-table::", "   :header-rows: 1", "   :widths: 20 25 15 40", ""]
    rows += ["   * - key", "     - allowed", "     - default", "     - meaning"]
    for key, value in schema["properties"].items():
        if key not in hidden:
            default = "*needed*" if key in required else f"``{_value(value.get('default'))}``"
            cells = (
                f"``{key}``",
                allowed(value, schema.get("$defs", {})),
                default,
                prose(value.get("description", "")),
            )
            rows += [f"   {'* -' if place == 0 else '  -'} {cell}" for place, cell in enumerate(cells)]
    return "\n".join(rows) + "\n"


def allowed(value: dict[str, Any], definitions: dict[str, Any]) -> str:
    """What a key takes, in words."""
    if "$ref" in value:
        name = value["$ref"].rpartition("/")[2]
        return f":ref:`{name}`" if name in _SECTIONS else name
    if "const" in value:
        return f"``{_value(value['const'])}``"
    if "enum" in value:
        return ", ".join(f"``{choice}``" for choice in value["enum"])
    if several := value.get("anyOf") or value.get("oneOf") or value.get("allOf"):
        if "discriminator" in value:
            return ":doc:`a method <methods>`"
        return " or ".join(dict.fromkeys(allowed(one, definitions) for one in several))
    kind = value.get("type", "anything")
    if kind == "array":
        inner = value.get("items") or next(iter(value.get("prefixItems", [])), {})
        return f"list of {allowed(inner, definitions)}"
    if kind == "object":
        named = value.get("additionalProperties")
        keys = allowed(value["propertyNames"], definitions) if "propertyNames" in value else "names"
        return f"mapping of {keys} to {allowed(named, definitions)}" if isinstance(named, dict) else "mapping"
    bounds = ", ".join(f"{sign} {value[name]:g}" for name, sign in _SIGNS.items() if name in value)
    return f"{kind} {bounds}".strip()


_SECTIONS = (
    "RecipeSettings",
    "BatchNormSettings",
    "DataSettings",
    "StrategySettings",
    "Retraining",
    "TransferSettings",
)
_SECTIONS += ("Experiment", "Focus", "DataLocation", "AnalysisSettings")
"""Models that have a section of docs/reference/study.rst, under a label of their name."""


def _value(value: Any) -> str:
    """A value as YAML writes it."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_value(one)}" for key, one in value.items() if key != "revision") + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_value(one) for one in value) + "]"
    if value is None or isinstance(value, bool):
        return str(json.dumps(value))
    return f"{value:g}" if isinstance(value, float) else str(value)
