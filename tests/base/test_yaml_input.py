import re

import pytest

from sharpminima.base.errors import ConfigError
from sharpminima.base.yaml_input import parse_mapping, parse_yaml, read_yaml

FAULTS = [
    (b"levels: [0.5", r": is not YAML: "),
    (b"title: a\n? [seeds]\n: 1\n", r": is not YAML: .*found unhashable key"),
    (b"inner: {a: 1, b: 2, a: 3}\n", r": is not YAML: the key 'a' stands twice"),
]
NO_TEXT = (b"title: caf\xe9\n", r": is not UTF-8 text \(invalid continuation byte at byte 10\); save it as UTF-8")


@pytest.mark.parametrize(("content", "fault"), [*FAULTS, NO_TEXT])
def test_a_file_with_a_fault_is_named(tmp_path, content, fault):
    path = tmp_path / "own.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=re.escape(str(path)) + "(?s:" + fault + ")"):
        read_yaml(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"absent\.yaml: cannot be read"):
        read_yaml(tmp_path / "absent.yaml")


@pytest.mark.parametrize(("content", "fault"), FAULTS)
def test_an_option_with_a_fault_is_named(content, fault):
    with pytest.raises(ConfigError, match="--grid(?s:" + fault + ")"):
        parse_yaml(content.decode(), "--grid")


@pytest.mark.parametrize("text", ["{a: ", "[1]", "3", "{1: a}"])
def test_an_option_that_is_no_mapping_is_refused(text):
    with pytest.raises(ConfigError, match="--parameters: "):
        parse_mapping(text, "--parameters")


def test_json_is_read_too():
    assert parse_mapping('{"lr": 0.001, "names": ["a"]}', "--parameters") == {"lr": 0.001, "names": ["a"]}
