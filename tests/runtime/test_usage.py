"""What jobs take."""

from pathlib import Path

import pytest

from sharpminima.runtime.usage import read_usage, usage_recorded


def test_attempts_of_a_job_add_up_and_the_next_job_begins_anew(tmp_path: Path) -> None:
    with pytest.raises(KeyError), usage_recorded(tmp_path):
        raise KeyError
    first = read_usage(tmp_path)
    assert (first["attempts"], first["finished"]) == (1, False)
    with usage_recorded(tmp_path):
        spent = sum(range(1_000_000))
    second = read_usage(tmp_path)
    assert spent
    assert (second["attempts"], second["finished"]) == (2, True)
    assert second["wall_s"] > first["wall_s"]
    assert second["cpu_s"] > first["cpu_s"]
    assert second["peak_mb"] >= first["peak_mb"] > 10
    assert (second["gpu_s"], second["gpu_peak_mb"], second["device"]) == (0, 0, "cpu")
    with usage_recorded(tmp_path):
        pass
    third = read_usage(tmp_path)
    assert (third["attempts"], third["finished"]) == (1, True)
    assert third["wall_s"] < second["wall_s"]


def test_a_broken_record_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "usage.json").write_text("{")
    with usage_recorded(tmp_path):
        pass
    assert read_usage(tmp_path)["attempts"] == 1


def test_nobody_measured(tmp_path: Path) -> None:
    assert read_usage(tmp_path) == {}
