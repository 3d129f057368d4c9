"""What code of a plug-in does wrong is one line that names it; being asked to stop is none of its faults."""

import copy
import errno
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import plugin_page
import pytest
import torch
from torch import nn
from typer.testing import CliRunner

from sharpminima import cli
from sharpminima.base.errors import PluginError
from sharpminima.base.stop import Stopped
from sharpminima.catalogue import plugins
from sharpminima.catalogue.brought import fault_of, running
from sharpminima.catalogue.models import MODELS
from sharpminima.catalogue.registry import loaded
from sharpminima.cli import analysis
from sharpminima.nets.usable import check_usable
from sharpminima.report.numbers import _measured

RECIPE = {"batch_size": 30, "max_epochs": 1}
METHOD = {"name": "large_start", "epochs": 1, "batch_size": 30, "recipe": RECIPE}
NET = """

from torch import nn
import torch


class Net(nn.Sequential):
    def __init__(self, num_classes):
        super().__init__(nn.Flatten(), nn.Linear(64, num_classes))

    def forward(self, images):
        outputs = super().forward(images)
        {forward}


MODEL = Model("small-net", (1, 8, 8), Net)
"""


@pytest.fixture
def said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., str | None]]:
    """Runs commands on the page's plug-in with other code at its end; what the last one, which fails, says."""
    monkeypatch.chdir(tmp_path)

    def ran(code: str, *commands: list[str]) -> str | None:
        listed = "\n\nSHARPMINIMA = [METHOD, MODEL, DATASET, ANALYSIS]\n"
        Path("mine.py").write_text(plugin_page.entries() + code + listed)
        plugins.use_stated(["mine.py"])
        analysis.add_commands()
        *before, last = commands
        for arguments in before:
            result = CliRunner().invoke(cli.app, arguments, catch_exceptions=False)
            assert result.exit_code == 0, result.output
        with pytest.raises(BaseException) as caught:  # noqa: PT011 # the runner takes the exit of a plug-in for an end
            cli.app(last)
        return cli._said_of(caught.value)

    builtin = list(analysis.commands.registered_commands)
    yield ran
    analysis.commands.registered_commands[:] = builtin
    plugins.use([])


PREPARE = ["prepare", "stripes", "--out", "data"]
INIT = ["init", "--data", "data", "--model", "small-net", "--seed", "0", "--out", "w0"]
START = ["--data", "data", "--init", "w0", "--device", "cpu"]
DENSE = ["dense", *START, "--out", "dense", "--settings", json.dumps(RECIPE)]
PRUNE = ["prune", *START, "--out", "m", "--level", "0.5", "--settings", json.dumps(METHOD)]
CELL = "m/level-50/{}/seed-0"
GRADUAL, REWIND = (f"{CELL.format(name)}/checkpoint.safetensors" for name in ("gradual", "rewind"))
RETRAIN = ["retrain", *START, "--pruned", GRADUAL, "--strategy", "rewind", "--out", CELL.format("rewind")]
NORMS = ["norms", "--data", "data", "--gradual", GRADUAL, "--rewind", REWIND, "--out", "norms.csv", "--device", "cpu"]


def command(folder: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    given = [sys.executable, "-m", "sharpminima", *map(str, arguments), "--plugin", "mine.py"]
    return subprocess.run(given, cwd=folder, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("code", "status", "says"),
    [
        ("import os, signal\nos.kill(os.getpid(), signal.SIGTERM)\n", 143, ""),
        (
            # A test behind a shell's & inherits a Ctrl-C that is ignored.
            "import signal\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"
            "signal.raise_signal(signal.SIGINT)\n",
            1,
            "Aborted!\n",
        ),
        ("import sys\nsys.exit(143)\n", 1, "error: mine.py: raises SystemExit: 143 (line 2)\n"),
        ("import sys\nsys.exit()\n", 1, "error: mine.py: raises SystemExit (line 2)\n"),
    ],
    ids=["SIGTERM", "SIGINT", "exit", "exit without status"],
)
def test_a_request_to_stop_while_a_plugin_is_read_is_no_fault_of_it(
    code: str, status: int, says: str, tmp_path: Path
) -> None:
    (tmp_path / "mine.py").write_text(code)
    done = command(tmp_path, "methods")
    assert (done.returncode, done.stderr) == (status, says)


def test_the_line_that_raises_when_it_is_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text("def half(of):\n    return 1 / of\n\n\nhalf(0)\n")
    with pytest.raises(PluginError, match=r"^mine\.py: raises ZeroDivisionError: division by zero \(line 2 in half\)$"):
        plugins.use(["mine.py"])
    (tmp_path / "mine.py").write_text("from sharpminima.catalogue.models import MODELS\n\nMODELS.register(3)\n")
    with pytest.raises(PluginError, match=r"line 3, which calls sharpminima/catalogue/registry\.py line \d+\)$"):
        plugins.use(["mine.py"])


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("def stripes(*_): return None\n", "stripes: its code returned None; return sharpminima.data.RawImages"),
        (
            "def stripes(*_): raise KeyError('x')\n",
            r"mine\.py: dataset 'stripes': raises KeyError: 'x' \(line \d+ in stripes\); mend it there",
        ),
        (
            "def stripes(): pass\n",
            r"mine\.py: dataset 'stripes': raises TypeError: stripes\(\) takes 0 .*; its code takes \(dataset, root, ",
        ),
        ("def stripes(*_): raise SystemExit(0)\n", r"mine\.py: dataset 'stripes': raises SystemExit: 0 \(line \d+ in"),
        ("def stripes(*_): raise EOFError\n", r"mine\.py: dataset 'stripes': raises EOFError \(line \d+ in stripes\)"),
        (
            "def stripes(*_): open('not-there')\n",
            r"mine\.py: raises FileNotFoundError: .*'not-there' \(line \d+ in stripes\); mend it there",
        ),
        (
            "stripes = 'not_there.at_all:read'\n",
            r"mine\.py: dataset 'stripes': raises ModuleNotFoundError: .*not_there",
        ),
    ],
)
def test_code_of_a_dataset(code: str, says: str, said: Callable[..., str | None]) -> None:
    message = said(f"\n\n{code}\nimport dataclasses\nDATASET = dataclasses.replace(DATASET, code=stripes)\n", PREPARE)
    assert re.match(says, message or "None"), message
    assert "\n" not in str(message)


def builder(body: str) -> str:
    return f"\n\nimport torch\nfrom torch import nn\n\n\n{body}\n\n\nMODEL = Model('small-net', (1, 8, 8), build)\n"


def of(layer: str) -> str:
    return builder(f"def build(num_classes):\n    return nn.Sequential(nn.Flatten(), {layer})")


@pytest.mark.parametrize(
    ("code", "says"),
    [
        (
            builder("def build(): pass"),
            r"raises TypeError: build\(\) got .*'num_classes'; its builder takes num_classes",
        ),
        (builder("def build(num_classes):\n    1 / 0"), r"raises ZeroDivisionError: .* \(line \d+ in build\); mend it"),
        (builder("def build(num_classes):\n    raise SystemExit"), r"raises SystemExit \(line \d+ in build\)"),
        (builder("def build(num_classes): pass"), "its builder returned None; its builder takes num_classes"),
        (
            builder("def build(num_classes): return nn.Linear"),
            "its builder returned <class .*Linear'>; its builder takes",
        ),
        (builder("build = 'not_there.at_all:build'"), "raises ModuleNotFoundError: No module named 'not_there'; its b"),
        (of("nn.Identity()"), "has no parameters, and so nothing to prune; build it of these layers"),
        (of("nn.BatchNorm1d(64)"), "has parameters, but no weight of nn.Linear or nn.Conv2d, and so nothing"),
        (of("nn.Linear(64, 2)"), r"gives \[4, 2\] in train mode; \[4, 3\] is needed, an output a class: num_classes"),
        (of("nn.Linear(64, num_classes).half()"), r"1\.weight is torch\.float16; build the net in float32"),
        (of("nn.Linear(64, num_classes, device='meta')"), r"1\.weight is on meta; build the net on the CPU"),
        (of("nn.LazyLinear(num_classes)"), r"1\.weight is made in a first pass; build the net of layers"),
        (
            builder(
                "def build(num_classes):\n    net = nn.Sequential(nn.Flatten(), nn.Linear(64, num_classes))\n"
                "    nn.init.constant_(net[1].bias, float('nan'))\n    return net"
            ),
            r"1\.bias has values that are not finite before any training",
        ),
        (NET.format(forward="return None"), "gives None in train mode; return one tensor"),
        (NET.format(forward="return outputs, images"), r"gives a tuple in train mode; return one tensor \[4, 3\]"),
        (NET.format(forward="return outputs.half()"), r"gives torch\.float16 in train mode; return float32"),
        (NET.format(forward="return outputs.argmax(1, True).expand(-1, 3)"), r"gives torch\.int64 in train mode"),
        (NET.format(forward="return outputs / 0"), "its outputs in train mode are NaN or infinite before any training"),
        (
            NET.format(forward="raise RuntimeError('two\\nlines')"),
            r"raises RuntimeError: two lines \(line \d+ in Net.forward\); mend it there",
        ),
        (
            NET.format(forward="return outputs if self.training else outputs['x']"),
            r"raises (Index|Type)Error: .* \(line \d+ in Net.forward\); mend it there",
        ),
        (NET.format(forward="return outputs if self.training else None"), "gives None in eval mode; return one tensor"),
        (
            NET.format(forward="return outputs if self.training else outputs.log()"),
            "its outputs in eval mode are NaN or infinite before any training",
        ),
        (
            of("nn.Linear(63, num_classes)"),
            r"raises RuntimeError: mat1 .*; in train mode its forward takes float32 \[4, 1",
        ),
    ],
)
def test_code_of_a_model(code: str, says: str, said: Callable[..., str | None]) -> None:
    message = said(code, PREPARE, INIT)
    assert re.match(rf"mine\.py: model 'small-net': {says}", message or "None"), message
    assert "\n" not in str(message)


def test_a_net_with_a_mask_of_minus_infinity_and_dropout_is_usable_and_left_as_it_was() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(), nn.Linear(8, 3)).eval()
    net.register_buffer("mask", torch.tensor([float("-inf"), 0.0]))
    before, draws = copy.deepcopy(net.state_dict()), torch.get_rng_state()
    check_usable("own", net, torch.ones(2, 1, 2, 2), 3)
    assert not net.training
    assert torch.equal(torch.get_rng_state(), draws)
    assert all(torch.equal(values, before[name]) for name, values in net.state_dict().items())


@pytest.mark.parametrize(
    ("code", "says"),
    [
        (builder("def build(num_classes):\n    1 / 0"), r"raises ZeroDivisionError: .* \(line \d+ in build\)"),
        (builder("def build(num_classes): pass"), "its builder returned None"),
        (of("nn.Identity()"), "has no parameters, and so nothing to prune"),
        (
            NET.format(forward="return outputs * float(outputs.max())"),
            r"raises .* \(line \d+ in Net.forward\); mend it there, or state the sizes of a net",
        ),
    ],
)
def test_a_model_whose_sizes_are_asked_for(code: str, says: str, said: Callable[..., str | None]) -> None:
    said(code, ["methods"])
    with pytest.raises(PluginError, match=rf"^mine\.py: model 'small-net': {says}"):
        _ = MODELS["small-net@label"].facts


@pytest.mark.parametrize(
    "forward",
    [
        "if len(images) == 30: raise RuntimeError('too many')\n        return outputs",
        "if len(images) == 30: raise SystemExit\n        return outputs",
    ],
)
def test_a_net_that_raises_in_the_middle_of_a_training(forward: str, said: Callable[..., str | None]) -> None:
    message = said(NET.format(forward=forward), PREPARE, INIT, DENSE)
    assert re.match(r"mine\.py: raises \w+(: too many)? \(line \d+ in Net.forward\); mend it there$", str(message))


@pytest.mark.parametrize(
    ("code", "says"),
    [
        (
            "def search(run, level, settings, resume):\n    1 / 0",
            r"raises ZeroDivisionError: .* \(line \d+ in search\)",
        ),
        (
            "def search(run):\n    pass",
            r"raises TypeError: search\(\) takes 1 .*; docs/plugins\.md has what its code takes",
        ),
        (
            "def search(run, level, settings, resume):\n    pass",
            "its search returns a NoneType; return search_result",
        ),
        (
            "import dataclasses\ndef search(run, settings):\n    pass\n"
            "METHOD = dataclasses.replace(METHOD, family=None, code=search)",
            r"returns a NoneType; return a sharpminima\.pruning\.Pruned",
        ),
    ],
)
def test_code_of_a_method(code: str, says: str, said: Callable[..., str | None]) -> None:
    again = "METHOD = searched_method('large_start', search, LargeStartSettings, 'Us (2026)', 'scored')\n"
    code = f"\n\n{code}\n\n" if "METHOD" in code else f"\n\n{code}\n\n\n{again}"
    message = said(code, PREPARE, INIT, PRUNE)
    assert re.match(rf"mine\.py: method 'large_start': {says}", message or "None"), message


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("def norms(*_):\n    pass", r"has not written norms\.csv; its code takes .* and writes its table to out"),
        ("def norms(*_):\n    write_csv(3, [], [])", r"raises NameError: .* \(line \d+ in norms\); mend it there"),
        (
            "def norms(data, *_):\n    from sharpminima.data import load_prepared\n    load_prepared(3)",
            r"raises TypeError: .* \(line \d+ in norms, which calls sharpminima/data/prepared\.py line \d+\); mend",
        ),
    ],
)
def test_code_of_an_analysis(code: str, says: str, said: Callable[..., str | None]) -> None:
    again = "import dataclasses\nANALYSIS = dataclasses.replace(ANALYSIS, code=norms)\n"
    settings = ["--settings", json.dumps(RECIPE)]
    message = said(f"\n\n{code}\n\n\n{again}", PREPARE, INIT, PRUNE, [*RETRAIN, *settings], NORMS)
    assert re.match(rf"mine\.py: analysis 'norms': {says}", message or "None"), message


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("return None", r"raises TypeError: .*; its summary takes the rows of an experiment and returns a dictionary"),
        ("return rows['nothing']", r"raises KeyError: 'nothing' \(line \d+ in mean_norms\); mend it there"),
    ],
)
def test_what_an_analysis_says_of_a_study(body: str, says: str, said: Callable[..., str | None]) -> None:
    again = "import dataclasses\nANALYSIS = dataclasses.replace(ANALYSIS, summary=mean_norms)\n"
    said(f"\n\ndef mean_norms(rows):\n    {body}\n\n\n{again}", ["methods"])
    key = {"dataset": "stripes", "model": "small-net", "method": "large_start"}
    with pytest.raises(PluginError, match=rf"mine\.py: analysis 'norms': {says}"):
        _measured({"norms": pd.DataFrame([{**key, "norm": 1.0}])}, tuple(key.values()))


def test_what_is_no_fault_of_a_plugin_stays_what_it_is(said: Callable[..., str | None]) -> None:
    """A full disk, an extra that is missing, a request to stop; and what a built-in entry raises."""
    for known in (OSError(errno.ENOSPC, "full"), ModuleNotFoundError("no pandas", name="pandas"), Stopped()):
        said("", ["methods"])
        with pytest.raises(type(known)) as caught, running("model", "small-net", ""):
            raise known
        assert caught.value is known
    with pytest.raises(ZeroDivisionError), running("model", "lenet300", ""):
        1 / 0  # noqa: B018
    full = "\n\ndef stripes(*_): raise OSError(28, 'full', 'x')\nimport dataclasses\n"
    message = said(f"{full}DATASET = dataclasses.replace(DATASET, code=stripes)\n", PREPARE)
    assert message == "x: cannot be written (full); free some space"
    stopped = "\n\ndef stop():\n    from sharpminima.base.stop import Ended\n    raise Ended(143)\n"
    said(f"{stopped}\nMODEL = Model('small-net', (1, 8, 8), stop)\n", ["methods"])
    with pytest.raises(SystemExit) as ended:
        loaded(MODELS["small-net"].code)()
    assert fault_of(ended.value) is None
