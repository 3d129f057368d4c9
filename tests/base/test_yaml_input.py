import re

import pytest

from sharpminima.base.errors import ConfigError
from sharpminima.base.yaml_input import parse_mapping, parse_yaml, read_yaml

FAULTS = [
    (b"levels: [0.5", r": is not YAML: "),
    (b"title: a\n? [seeds]\n: 1\n", r": is not YAML: .*found unhashable key"),
    (b"epochs: 010\n", r": is not YAML: 010 is 8 in YAML 1\.1, and 10 elsewhere"),
    (b"seeds: [0, 0017]\n", r": is not YAML: 0017 is 15 in YAML 1\.1"),
    (b"epochs: 1:30\n", r": is not YAML: 1:30 is a number of base 60 in YAML 1\.1"),
    (b"lr: 1:30.5\n", r": is not YAML: 1:30\.5 is a number of base 60"),
    (b"inner: {a: 1, b: 2, a: 3}\n", r": is not YAML: the key 'a' stands twice"),
    (b"title: 2020-13-45\n", r": is not YAML: '2020-13-45' is no timestamp; mend it, or quote it .*line 1"),
    (b"lr: !!int abc\n", r": is not YAML: 'abc' is no int"),
    (b"lr: !!int ''\n", r": is not YAML: '' is no int"),
    (b"lr: !!bool abc\n", r": is not YAML: 'abc' is no bool"),
    (b"seeds: [0b_]\n", r": is not YAML: '0b_' is no int"),
    (b"title: !!timestamp abc\n", r": is not YAML: 'abc' is no timestamp"),
    (b"[" * 5000 + b"]" * 5000, r": cannot be read: lists or mappings stand too deep within each other"),
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


def test_numbers_that_all_readers_read_alike_are_numbers():
    assert parse_yaml("[0, 10, 0x10, 1_000, 0.5, .5, -0, '010', '1:30']", "x") == [
        *(0, 10, 16, 1000, 0.5, 0.5, 0),
        *("010", "1:30"),
    ]


def test_json_is_read_too():
    assert parse_mapping('{"lr": 0.001, "names": ["a"]}', "--parameters") == {"lr": 0.001, "names": ["a"]}
