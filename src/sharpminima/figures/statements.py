"""What the numbers say of the paper's statements, by rules that are the same for all.

An interval is the 95 % interval of a difference of means, by Student's t: of the runs' own differences where
G and 1-S of a run are compared, by Welch's formula between other groups.

- A stated sign *agrees* where the whole interval has it, *does not agree* where the whole interval has the
  other one; else it *cannot be told*, as where a single net leaves the spread unknown.
- "Comparable" and "recovers" allow a margin: ``COMPARABLE`` of the mean, ``RECOVERED`` percentage points.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from scipy.special import stdtrit

from sharpminima.figures.tables import describe

AGREES, DISAGREES, UNDECIDED, ABSENT = "agrees", "does not agree", "cannot be told", "not in this study"
OUTCOMES = (AGREES, DISAGREES, UNDECIDED, ABSENT)
COMPARABLE = 0.1
RECOVERED = 0.5
_NEAR_ACCURACY = 0.2  # percentage points around the 99.20 % that the paper says are "about" that

_Experiment = Mapping[str, Any]
_Results = list[dict[str, Any]]


def t_quantile(freedom: float) -> float:
    """97.5 % quantile of Student's t."""
    return float(stdtrit(freedom, 0.975))


def paired(difference: Mapping[str, Any]) -> dict[str, Any]:
    """Mean difference of pairs with its interval, from mean, sd and n; no interval for one pair."""
    mean, n = difference["mean"], difference["n"]
    if n < 2:
        return {"mean": mean, "low": None, "high": None}
    half = t_quantile(n - 1) * difference["sd"] / math.sqrt(n)
    return {"mean": mean, "low": mean - half, "high": mean + half}


def unpaired(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    """Difference first - second of two groups' means with its interval; none for a single net."""
    mean = first["mean"] - second["mean"]
    if min(first["n"], second["n"]) < 2:
        return {"mean": mean, "low": None, "high": None}
    parts = [group["sd"] ** 2 / group["n"] for group in (first, second)]
    if sum(parts) == 0:
        return {"mean": mean, "low": mean, "high": mean}
    terms = [part**2 / (group["n"] - 1) for part, group in zip(parts, (first, second), strict=True)]
    half = t_quantile(sum(parts) ** 2 / sum(terms)) * math.sqrt(sum(parts))
    return {"mean": mean, "low": mean - half, "high": mean + half}


def positive(interval: Mapping[str, Any], above: float = 0.0) -> str:
    """Whether a difference is larger than ``above``."""
    low, high = interval["low"], interval["high"]
    if low is None:
        return UNDECIDED
    return AGREES if low > above else DISAGREES if high < above else UNDECIDED


def within(interval: Mapping[str, Any], margin: float) -> str:
    """Whether a difference is at most ``margin`` in size."""
    low, high = interval["low"], interval["high"]
    if low is None:
        return UNDECIDED
    if low > margin or high < -margin:
        return DISAGREES
    return AGREES if -margin <= low and high <= margin else UNDECIDED


def negated(interval: Mapping[str, Any]) -> dict[str, Any]:
    """The difference the other way round."""
    low, high = interval["low"], interval["high"]
    return {
        "mean": -interval["mean"],
        "low": None if high is None else -high,
        "high": None if low is None else -low,
    }


def decide_all(experiments: Sequence[_Experiment]) -> list[dict[str, Any]]:
    """The paper's statements, each with a result for every experiment that bears on it.

    A result: dataset, model, ``detail`` (what was compared), ``values`` (name, unit, mean, sd, n), the
    difference's ``interval`` or None, and ``outcome``. A statement that nothing in the study bears on has one
    result without values.
    """
    decided = []
    for name, figure, says, examine in _STATEMENTS:
        results = [
            {"dataset": e["dataset"], "model": e["model"], "method": e["method"], **result}
            for e in experiments
            for result in examine(e)
        ]
        empty = {"dataset": None, "model": None, "method": None, **_result("", [], None, ABSENT)}
        decided.append({"id": name, "figure": figure, "says": says, "results": results or [empty]})
    return decided


def _result(
    detail: str, values: Sequence[tuple[str, str, Mapping[str, Any]]], interval: Any, outcome: str
) -> dict[str, Any]:
    shown = [
        {"name": name, "unit": unit, **{part: value[part] for part in ("mean", "sd", "n")}}
        for name, unit, value in values
    ]
    return {"detail": detail, "values": shown, "interval": interval, "outcome": outcome}


def _single(value: float) -> dict[str, Any]:
    return describe([value])


def _strategies(experiment: _Experiment, level: float | None = None) -> Mapping[str, Any]:
    """The strategies at a level; without one at the highest."""
    wanted = experiment["highest"]["level"] if level is None else level
    found = [entry["strategies"] for entry in experiment["levels"] if abs(entry["level"] - wanted) < 1e-9]
    return found[0] if found else {}


def _against_gradual(
    at: Mapping[str, Any], retrained: str, column: str, unit: str
) -> tuple[list[tuple[str, str, Mapping[str, Any]]], dict[str, Any]]:
    """Values of G and of a retraining without draws in the runs that have both; interval of the excess."""
    first, second = at[retrained]["by_seed"][column], at["gradual"]["by_seed"][column]
    runs = [seed for seed in first if seed in second]
    values = [
        ("G", unit, describe(second[seed] for seed in runs)),
        ("1-S" if retrained == "rewind" else retrained, unit, describe(first[seed] for seed in runs)),
    ]
    return values, paired(describe(first[seed] - second[seed] for seed in runs))


def _gap(e: _Experiment) -> _Results:
    at = _strategies(e)
    # Retraining that fails must also fail with the method's own number of epochs.
    known = [name for name in ("rewind", "rewind-long") if name in at]
    if not known or "gradual" not in at:
        return []
    best = min(known, key=lambda name: at[name]["test_error_percent"]["mean"])
    values, interval = _against_gradual(at, best, "test_error_percent", "%")
    return [_result("test error at the highest level", values, interval, positive(interval))]


def _initialisation(e: _Experiment) -> _Results:
    at = _strategies(e)
    if not {"rewind", "reinit"} <= set(at):
        return []
    random, original = at["reinit"]["test_error_percent"], at["rewind"]["test_error_percent"]
    interval = unpaired(random, original)
    values = [("random", "%", random), ("original", "%", original)]
    return [_result("test error at the highest level", values, interval, positive(interval))]


def _recovery(e: _Experiment) -> _Results:
    at = e["levels"][0]["strategies"]
    if "rewind" not in at or e["dense"] is None:
        return []
    retrained, dense = at["rewind"]["test_error_percent"], e["dense"]["test_error_percent"]
    interval = unpaired(retrained, dense)
    # One-sided: a retrained net that errs less than the dense one has recovered too.
    outcome = {AGREES: DISAGREES, DISAGREES: AGREES}.get(positive(interval, RECOVERED), UNDECIDED)
    return [
        _result(
            "test error at the lowest level",
            [("1-S", "%", retrained), ("dense", "%", dense)],
            interval,
            outcome,
        )
    ]


def _cost(e: _Experiment) -> _Results:
    at = e["levels"][0]["strategies"]
    if not {"rewind", "gradual"} <= set(at):
        return []
    values, excess = _against_gradual(at, "rewind", "epochs", "epochs")
    interval = negated(excess)
    return [_result("epochs of training (G: of its whole run)", values, interval, positive(interval))]


def _is(e: _Experiment, dataset: str, model: str) -> bool:
    return (e["dataset"], e["model"]) == (dataset, model)


def _accuracy_at_98(e: _Experiment) -> _Results:
    at = _strategies(e, 0.98)
    if not _is(e, "mnist", "lenet5") or "gradual" not in at:
        return []
    error = at["gradual"]["test_error_percent"]
    interval = unpaired(error, {"mean": 0.80, "sd": 0.0, "n": 2})
    return [_result("test error at 98 %", [("G", "%", error)], interval, within(interval, _NEAR_ACCURACY))]


def _highest(e: _Experiment) -> _Results:
    highest = e["highest"]
    if not _is(e, "mnist", "lenet5") or highest["level"] < 0.9957:
        return []
    reached = highest["runs_that_reached"]
    outcome = AGREES if reached == highest["runs"] else UNDECIDED if reached else DISAGREES
    return [_result(f"{reached} of {highest['runs']} runs", [("G", "%", highest["removed_percent"])], None, outcome)]


def _fashion(e: _Experiment) -> _Results:
    at = _strategies(e, 0.8)
    if not _is(e, "fashion-mnist", "lenet5") or not {"rewind", "gradual"} <= set(at):
        return []
    values, interval = _against_gradual(at, "rewind", "test_error_percent", "%")
    return [_result("test error at 80 %", values, interval, positive(interval))]


def _resnet_gap(e: _Experiment) -> _Results:
    return _gap(e) if _is(e, "cifar10", "resnet32") else []


def _loss(e: _Experiment) -> _Results:
    at = _strategies(e)
    if e["analysis"] is None or not {"rewind", "gradual"} <= set(at):
        return []
    values, interval = _against_gradual(at, "rewind", "training_loss_nats", "nats")
    return [_result("training loss", values, interval, positive(interval))]


def _generalises(e: _Experiment) -> _Results:
    at = _strategies(e)
    if e["analysis"] is None or not {"rewind", "gradual"} <= set(at):
        return []
    values, interval = _against_gradual(at, "rewind", "test_error_percent", "%")
    return [_result("test error", values, interval, positive(interval))]


def _all_positive(e: _Experiment) -> _Results:
    found = []
    for space, facts in (e["analysis"] or {}).get("hessian", {}).items():
        last = facts["ranks"][-1]
        detail = f"{facts['positive']} of {facts['values']} values positive, {space} parameters; the lowest rank"
        outcome = AGREES if facts["positive"] == facts["values"] else DISAGREES
        found.append(_result(detail, [("G", "", last["G"]), ("1-S", "", last["1-S"])], None, outcome))
    return found


def _sharper(e: _Experiment) -> _Results:
    found = []
    for space, facts in (e["analysis"] or {}).get("hessian", {}).items():
        first = facts["ranks"][0]
        interval = paired(first["difference"])
        values = [("G", "", first["G"]), ("1-S", "", first["1-S"])]
        found.append(_result(f"largest eigenvalue, {space} parameters", values, interval, positive(interval)))
    return found


def _psp(
    columns: Mapping[str, str], judge: Callable[[Mapping[str, Any], Mapping[str, Any]], str]
) -> Callable[[_Experiment], _Results]:
    """Examine PSP quantities; ``judge`` takes the interval of G - 1-S and the quantity."""

    def examine(e: _Experiment) -> _Results:
        found = []
        for column, detail in columns.items():
            quantity = (e["analysis"] or {}).get("psp", {}).get(column)
            if quantity is not None:
                interval = paired(quantity["difference"])
                values = [(net, quantity["unit"], quantity[net]) for net in ("G", "1-S")]
                found.append(_result(detail, values, interval, judge(interval, quantity)))
        return found

    return examine


def _comparable(interval: Mapping[str, Any], quantity: Mapping[str, Any]) -> str:
    size = (abs(quantity["G"]["mean"]) + abs(quantity["1-S"]["mean"])) / 2
    return within(interval, COMPARABLE * size)


def _lower_elsewhere(e: _Experiment) -> _Results:
    names = {
        "psp_norm": "PSP norm",
        "psp_entropy_1_bits": "first-order entropy",
        "psp_entropy_2_bits": "second-order entropy",
    }
    found = []
    for one in e["maps"]:
        for column, name in names.items():
            lower = one["lower_than_at_G"][column]
            at_g = one["G"]["loss_nats"]
            values = [("loss at G", "nats", _single(at_g))]
            outcome = DISAGREES
            if lower["points"]:
                values.append(("lowest loss there", "nats", _single(lower["lowest_loss_nats"])))
                outcome = AGREES if lower["lowest_loss_nats"] > at_g else DISAGREES
            detail = f"{name} lower than at G on {lower['points']} of {one['points']} points (run {one['seed']})"
            found.append(_result(detail, values, None, outcome))
    return found


def _nothing(_: _Experiment) -> _Results:
    return []


_STATEMENTS: tuple[tuple[str, str, str, Callable[[_Experiment], _Results]], ...] = (
    (
        "gap",
        "1",
        "Once most parameters are removed (LeNet-300/MNIST: more than 95 %), retraining no longer "
        "reaches the low error of the gradually pruned net.",
        _gap,
    ),
    ("accuracy-98", "1", "LeNet-5/MNIST: about 99.20 % accuracy with 98 % removed.", _accuracy_at_98),
    ("highest", "1", "LeNet-5/MNIST: 99.57 % can be removed.", _highest),
    ("fashion", "1", "LeNet-5/Fashion-MNIST: retrained nets degrade from 80 % removed on.", _fashion),
    ("resnet", "1", "ResNet-32/CIFAR-10: retraining falls behind, by the largest gap.", _resnet_gap),
    (
        "initialisation",
        "1",
        "The original initialisation is slightly better than random ones.",
        _initialisation,
    ),
    ("recovery", "1", "At low compression retraining recovers the original accuracy.", _recovery),
    ("cost", "1", "At low compression retraining costs less.", _cost),
    ("loss", "2", "G lies in a region of lower loss than 1-S.", _loss),
    ("positive", "2", "The top-5 Hessian eigenvalues are all positive.", _all_positive),
    ("sharper", "2", "They are larger at G: its minimum is narrower.", _sharper),
    ("generalises", "2", "G generalises slightly better although its minimum is narrower.", _generalises),
    (
        "norm",
        "3",
        "The PSP norm is lower at G.",
        _psp(
            {"psp_norm": "hidden layers", "psp_norm_with_output": "with the output layer"},
            lambda interval, _: positive(negated(interval)),
        ),
    ),
    (
        "first-order",
        "4",
        "The first-order PSP-entropy is comparable.",
        _psp({"entropy_1_bits": "all neurons", "entropy_1_live_bits": "live neurons"}, _comparable),
    ),
    (
        "second-order",
        "4",
        "The second-order PSP-entropy is higher at G.",
        _psp(
            {
                "entropy_2_joint_bits": "joint",
                "entropy_2_agreement_bits": "agreement",
                "entropy_2_joint_live_bits": "joint, live neurons",
            },
            lambda interval, _: positive(interval),
        ),
    ),
    (
        "elsewhere",
        "3, 4",
        "There are regions of lower PSP norm and of lower entropy, but at higher loss.",
        _lower_elsewhere,
    ),
    ("transfer", "–", "Highly sparse gradual nets extract features that transfer better.", _nothing),
)
"""(name, figure, what the paper says, what examines an experiment)."""
