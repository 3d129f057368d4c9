import json
import math

import pytest

from sharpminima.errors import FigureError
from sharpminima.figures import statements
from sharpminima.figures.numbers import summarise

from . import cases


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tables")
    return {
        "folder": folder,
        "results": cases.write(folder, "results", cases.results() + cases.results(model="lenet300")),
        "psp": [cases.write(folder, "psp", cases.psp(seed=s), f"psp-{s}") for s in cases.SEEDS],
        "hessian": [cases.write(folder, "hessian", cases.hessian(seed=s), f"hessian-{s}") for s in cases.SEEDS],
        "surface": [cases.write(folder, "surface", cases.surface())],
    }


def _summary(files, name="numbers.json", **changed):
    out = files["folder"] / name
    chosen = {key: files[key] for key in ("results", "psp", "hessian", "surface")} | changed
    summarise(**chosen, study={"title": "a study"}, out=out)
    return out


@pytest.fixture(scope="module")
def numbers(files):
    return json.loads(_summary(files).read_text())


def _results(numbers, name):
    return next(s for s in numbers["statements"] if s["id"] == name)["results"]


def test_equal_tables_give_equal_bytes(files, numbers):
    assert _summary(files, "again.json").read_bytes() == _summary(files).read_bytes()
    assert numbers["study"] == {"title": "a study"}


def test_errors_known_answer(numbers):
    lenet5 = numbers["experiments"][0]
    assert (lenet5["model"], lenet5["parameters"], lenet5["test_images"]) == ("lenet5", 431080, 360)
    assert lenet5["dense"]["test_error_percent"] == pytest.approx({"mean": 1.1, "sd": 0.1, "n": 3})
    top = lenet5["levels"][-1]["strategies"]
    assert top["gradual"]["test_error_percent"] == pytest.approx({"mean": 1.55, "sd": 0.05, "n": 3})
    assert top["reinit"]["test_error_percent"] == pytest.approx({"mean": 8.8, "sd": 0.1, "n": 3})
    assert lenet5["levels"][1]["strategies"]["gradual"]["test_error_percent"]["n"] == 2
    assert lenet5["unreached"] == [{"level": 0.95, "runs": 1, "removed": pytest.approx(0.945)}]
    assert lenet5["highest"]["runs_that_reached"] == 2


def test_analysis_known_answer(numbers):
    analysis = numbers["experiments"][0]["analysis"]
    assert numbers["experiments"][1]["analysis"] is None
    norm = analysis["psp"]["psp_norm"]
    assert norm["G"] == {"mean": 1.0, "sd": 0.0, "n": 3}
    assert norm["1-S"] == pytest.approx({"mean": 2.1, "sd": 0.1, "n": 3})
    assert norm["difference"] == pytest.approx({"mean": -1.1, "sd": 0.1, "n": 3, "positive": 0})
    assert analysis["psp"]["entropy_2_joint_live_bits"]["difference"]["positive"] == 3
    first = analysis["hessian"]["surviving"]["ranks"][0]
    assert first["G"] == pytest.approx({"mean": 21.0, "sd": 1.0, "n": 3})
    assert (analysis["hessian"]["all"]["positive"], analysis["hessian"]["all"]["values"]) == (30, 30)
    assert analysis["live_share"]["G"]["mean"] == pytest.approx(0.3)


def test_statements_follow_the_numbers(numbers):
    assert [r["outcome"] for r in _results(numbers, "norm")] == ["agrees", "agrees"]
    assert [r["outcome"] for r in _results(numbers, "first-order")] == ["agrees", "agrees"]
    assert [r["outcome"] for r in _results(numbers, "sharper")] == ["agrees", "agrees"]
    assert [r["outcome"] for r in _results(numbers, "gap")] == ["agrees", "agrees"]
    assert [r["outcome"] for r in _results(numbers, "recovery")] == ["agrees", "agrees"]
    assert [r["outcome"] for r in _results(numbers, "loss")] == ["cannot be told"]
    assert [r["outcome"] for r in _results(numbers, "transfer")] == ["not in this study"]
    gap = _results(numbers, "gap")[0]["interval"]
    # The runs' own differences are 5.10, 5.15, 5.20.
    half = 4.302653 * 0.05 / math.sqrt(3)
    assert gap == pytest.approx({"mean": 5.15, "low": 5.15 - half, "high": 5.15 + half})
    assert sum(numbers["outcomes"].values()) == sum(len(s["results"]) for s in numbers["statements"])


def test_a_negative_eigenvalue_decides(files):
    tables = [cases.write(files["folder"], "hessian", cases.hessian(lowest=-0.1), "negative")]
    numbers = json.loads(_summary(files, "negative.json", hessian=tables).read_text())
    assert [r["outcome"] for r in _results(numbers, "positive")] == ["does not agree"] * 2
    assert [r["outcome"] for r in _results(numbers, "sharper")] == ["cannot be told"] * 2


def test_a_study_of_trained_nets_only(files):
    numbers = json.loads(_summary(files, "trained.json", psp=[], hessian=[], surface=[]).read_text())
    assert all(e["analysis"] is None and e["maps"] == [] for e in numbers["experiments"])


def test_a_value_that_is_not_finite_is_refused(files):
    rows = cases.results()
    rows[0]["test_error_percent"] = float("nan")
    with pytest.raises(FigureError, match="finite"):
        _summary(files, "bad.json", results=cases.write(files["folder"], "results", rows, "bad"))
    rows = cases.surface()
    rows[0]["loss_nats"] = float("inf")
    with pytest.raises(FigureError, match="finite"):
        _summary(files, "bad.json", surface=[cases.write(files["folder"], "surface", rows, "bad")])
    assert not (files["folder"] / "bad.json").exists()


@pytest.mark.parametrize(("freedom", "quantile"), [(1, 12.7062), (2, 4.30265), (10, 2.22814), (1e9, 1.95996)])
def test_t_quantile(freedom, quantile):
    assert statements.t_quantile(freedom) == pytest.approx(quantile, rel=1e-5)


def test_welch_known_answer():
    first, second = {"mean": 3.0, "sd": 1.0, "n": 4}, {"mean": 1.0, "sd": 2.0, "n": 4}
    # Standard error sqrt(1/4 + 1), 75/17 degrees of freedom: a quantile between those of 4 (2.776) and 5 (2.571).
    half = 2.677175 * math.sqrt(1.25)
    expected = {"mean": 2.0, "low": 2 - half, "high": 2 + half}
    assert statements.unpaired(first, second) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("low", "high", "sign", "close"),
    [
        (0.1, 0.2, "agrees", "agrees"),
        (-0.2, -0.1, "does not agree", "agrees"),
        (-0.1, 0.9, "cannot be told", "cannot be told"),
        (0.6, 0.9, "agrees", "does not agree"),
        (None, None, "cannot be told", "cannot be told"),
    ],
)
def test_rules(low, high, sign, close):
    interval = {"mean": 0.0, "low": low, "high": high}
    assert statements.positive(interval) == sign
    assert statements.within(interval, 0.5) == close
    assert statements.negated(statements.negated(interval)) == interval
