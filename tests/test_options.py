"""Options of commands: what makes no sense is refused before any work, by name."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from sharpminima.base.errors import ConfigError
from sharpminima.cli import app


def refused(*arguments: object) -> str:
    """What a command prints, or raises, that must not begin."""
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert done.exit_code != 0
    if isinstance(done.exception, ConfigError):
        return str(done.exception)
    assert isinstance(done.exception, SystemExit), done.exception
    return " ".join(done.output.split())


@pytest.mark.parametrize(
    ("command", "out", "said"),
    [
        (("init", "--model", "lenet300", "--seed", 0, "--data", "d"), ".", ". is a folder; name a file in it"),
        (("hessian", "--data", "d", "--gradual", "g", "--rewind", "r"), ".", ". is a folder; name a file in it"),
        (("dense", "--data", "d", "--init", "i"), "file", "file is a file; name a folder"),
        (("dense", "--data", "d", "--init", "i"), "file/cell", "is no folder you may write to"),
        (("prune", "--data", "d", "--init", "i", "--level", 0.5), "file/cell", "is no folder you may write to"),
        (("tune", "--data", "d", "--init", "i", "--level", 0.5), "file/cell", "is no folder you may write to"),
        (
            ("hessian", "--data", "d", "--gradual", "g", "--rewind", "r"),
            "/dev/null/t.csv",
            "/dev/null/t.csv cannot be written",
        ),
    ],
)
def test_an_output_that_cannot_be_written_is_known_before_the_work(
    command: tuple[object, ...], out: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    assert said in refused(*command, "--out", out)


def test_seeds_threads_and_replicas_have_limits() -> None:
    assert "for '--seed': Input should be greater than or equal to 0" in refused(
        "prepare", "digits", "--seed", -1, "--out", "o"
    )
    assert "for '--seed': Input should be greater than" in refused(
        "init", "--data", "d", "--model", "m", "--seed", -1, "--out", "o"
    )
    retrain = ("retrain", "--data", "d", "--init", "i", "--pruned", "p", "--out", "o")
    assert "for '--replicas': Input should be less than or equal to 1000" in refused(
        *retrain, "--strategy", "reinit", "--replicas", 2000
    )
    assert "for '--threads': Input should be less than or equal to 1024" in refused(
        *retrain, "--strategy", "reinit", "--threads", 4096
    )
    said = "--replicas: 3 given; rewind draws nothing, so 1 is all"
    assert refused(*retrain, "--strategy", "rewind", "--replicas", 3) == said
