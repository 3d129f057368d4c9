"""YAML from files and from command lines, with one clear error for whatever is wrong with it."""

import os
import re
from pathlib import Path
from typing import Any

import yaml

from sharpminima.base.errors import ConfigError


def read_yaml(path: str | os.PathLike[str]) -> Any:
    """The content of a YAML file.

    Raises:
        ConfigError: it cannot be read, is not UTF-8 or not YAML, gives a key twice, or writes a number in a way that
            YAML 1.1 reads as another one.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{path}: is not UTF-8 text ({error.reason} at byte {error.start}); save it as UTF-8"
        ) from error
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from error
    return parse_yaml(text, str(path))


def parse_yaml(text: str, origin: str) -> Any:
    """The content of YAML text.

    Args:
        text: YAML, and so JSON, too.
        origin: what to call the text in an error.

    Raises:
        ConfigError: it is not YAML, gives a key twice, or writes a number in a way that YAML 1.1 reads as another one.

    >>> parse_yaml("lr: 010", "--settings")
    Traceback (most recent call last):
    sharpminima.base.errors.ConfigError: --settings: is not YAML: 010 is 8 in YAML 1.1, and 10 elsewhere; write ...
    """
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        raise ConfigError(f"{origin}: is not YAML: {error}") from error
    except RecursionError as error:
        raise ConfigError(f"{origin}: cannot be read: lists or mappings stand too deep within each other") from error


def parse_mapping(text: str, origin: str) -> dict[str, Any]:
    """A mapping with names as keys, from YAML text as in `parse_yaml`.

    Raises:
        ConfigError: it is not YAML, gives a key twice, or is not such a mapping.
    """
    value = parse_yaml(text, origin)
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise ConfigError(f"{origin}: {text!r} given; names with values are needed, as in {{results: results.csv}}")
    return value


class _Loader(yaml.SafeLoader):
    """Refuses a key that stands twice, of which the last would count, and numbers of base 8 and 60."""

    def construct_object(self, node: Any, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except (ValueError, AttributeError, LookupError, ArithmeticError) as error:
            # What PyYAML's constructors raise where a scalar only looks like a date or a number, or is called one.
            kind, shown = node.tag.rpartition(":")[2], f"{str(node.value)[:40]!r}"
            fault = f"{shown} is no {kind}; mend it, or quote it where it is text"
            raise yaml.constructor.ConstructorError(None, None, fault, node.start_mark) from error

    def construct_scalar(self, node: Any) -> Any:
        value = super().construct_scalar(node)
        digits = str(value).lstrip("+-").replace("_", "")
        fault = None
        if node.tag == "tag:yaml.org,2002:int" and re.fullmatch("0+[1-7][0-7]*", digits):
            fault = f"is {int(digits, 8)} in YAML 1.1, and {int(digits)} elsewhere; write the one that is meant"
        elif node.tag in ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float") and ":" in digits:
            fault = "is a number of base 60 in YAML 1.1; write it out, or quote it"
        if fault is not None:
            raise yaml.constructor.ConstructorError(None, None, f"{value} {fault}", node.start_mark)
        return value

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        seen = set()
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if key.value in seen:
                raise yaml.composer.ComposerError(None, None, f"the key {key.value!r} stands twice", key.start_mark)
            seen.add(key.value)
        return node
