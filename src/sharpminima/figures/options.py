"""Mappings given on the command line."""

from typing import Any

import yaml

from sharpminima.errors import FigureError


def parse_mapping(text: str, option: str) -> dict[str, Any]:
    """A mapping with names as keys, from YAML or JSON text.

    Raises:
        FigureError: the text is not YAML, or not such a mapping.
    """
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise FigureError(f"{option}: is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise FigureError(f"{option}: {text!r} given; names with values are needed, as in {{results: results.csv}}")
    return value
