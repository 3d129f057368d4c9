"""Claims held against the summarised numbers of a study."""

from collections.abc import Iterator, Mapping, Sequence
from functools import singledispatch
from typing import Any

from sharpminima.catalogue.columns import ALL, RELATIVE
from sharpminima.claims._ledger import (
    CarryOver,
    Claim,
    Eigenvalue,
    Ledger,
    LowerElsewhere,
    Nets,
    Positive,
    Psp,
    Reached,
    Transfer,
)
from sharpminima.claims._text import REMOVED
from sharpminima.claims._verdict import NOT_REPRODUCED, REPRODUCED, UNDECIDED, common, decide, most_needed
from sharpminima.intervals import describe, paired, predicted, unpaired

_Experiment = Mapping[str, Any]
_Result = dict[str, Any]
_UNITS = {"test_error_percent": "%", "training_loss_nats": "nats", "best_epoch": "epochs", "epochs": "epochs"}
_NAMES = {
    "test_error_percent": "test error",
    "training_loss_nats": "training loss",
    "best_epoch": "epochs until the net was found",
    "epochs": "epochs of the whole training",
}
_PSP = {
    "psp_norm": "PSP norm",
    "psp_norm_with_output": "PSP norm with the output layer",
    "entropy_1_bits": "first order",
    "entropy_1_live_bits": "first order, live neurons",
    "entropy_2_joint_bits": "second order, joint",
    "entropy_2_joint_live_bits": "second order, joint, live neurons",
    "entropy_2_agreement_bits": "second order, agreement",
    "psp_entropy_1_bits": "first-order entropy",
    "psp_entropy_2_bits": "second-order entropy",
}
_SPACES = {
    "all": "all parameters",
    "surviving": "surviving parameters",
    RELATIVE: "relative changes of surviving parameters",
}
_SHORT = {"gradual": "G", "rewind": "1-S"}
_UNDRAWN = ("gradual", "rewind", "rewind-long", "dense")  # one net a run


def judge(ledger: Ledger, experiments: Sequence[_Experiment]) -> list[dict[str, Any]]:
    """Every claim with its verdict, and a result for each test and experiment that bears on it.

    A result: dataset, model, method, ``stated`` (whether the paper states the claim for it), ``sensitivity`` (whether
    it is another reading, which decides nothing), ``detail`` (what was compared), ``values`` (name, unit, mean, sd,
    n), the difference's ``interval`` or None, ``verdict``, and ``needed`` where more would decide.
    A claim's ``missing``: the nets, and the parts of what carries over, for which the paper states it and no test was
    possible; its verdict is that of the others.

    Args:
        ledger: the claims.
        experiments: as `sharpminima.figures.numbers` summarises them.
    """
    judged: dict[str, dict[str, Any]] = {}
    for claim in ledger.claims:
        results = [
            {**_key(e), "stated": _place(e) in claim.stated_for, "sensitivity": test in claim.sensitivity, **result}
            for test in (*claim.tests, *claim.sensitivity)
            if not isinstance(test, CarryOver)
            for e in experiments
            if claim.elsewhere or _place(e) in claim.stated_for
            for result in examine(test, e)
        ]
        carried = {
            name: [result for result in judged[name]["results"] if _place(result) in claim.stated_for]
            for test in claim.tests
            if isinstance(test, CarryOver)
            for name in test.claims
        }
        for name, found in carried.items():
            results += [{**result, "stated": True, "detail": f"{name}: {result['detail']}"} for result in found]
        deciding = [result for result in results if result["stated"] and not result["sensitivity"]]
        needed = [result["needed"] for result in deciding if result["verdict"] == UNDECIDED]
        judged[claim.id] = {
            **claim.model_dump(mode="json", include={"id", "source", "says", "stated_for"}),
            "verdict": common(result["verdict"] for result in deciding),
            "needed": most_needed(needed),
            "missing": _missing(claim, deciding, carried),
            "results": results,
        }
    return list(judged.values())


def _missing(claim: Claim, deciding: Sequence[_Result], carried: Mapping[str, Sequence[_Result]]) -> list[str]:
    tried = {_place(result) for result in deciding}
    if not tried:
        return []  # the verdict says so
    found = [_net(place) for place in claim.stated_for if place not in tried]
    for name, results in carried.items():
        lacking = tried - {_place(result) for result in results if not result["sensitivity"]}
        found += [f"{name} for {_net(place)}" for place in claim.stated_for if place in lacking]
    return found


def _net(place: str) -> str:
    dataset, model = place.split("/")
    return f"{model} on {dataset}"


def _key(experiment: _Experiment) -> dict[str, Any]:
    return {name: experiment[name] for name in ("dataset", "model", "method")}


def _place(experiment: _Experiment) -> str:
    return f"{experiment['dataset']}/{experiment['model']}"


@singledispatch
def examine(test: Any, experiment: _Experiment) -> Iterator[_Result]:
    """The results of a test in one experiment; none where the experiment lacks what is compared."""
    raise TypeError(type(test).__name__)


def _result(detail: str, values: Sequence[tuple[str, str, Mapping[str, Any]]], **decided: Any) -> _Result:
    shown = [
        {"name": name, "unit": unit, **{part: value[part] for part in ("mean", "sd", "n")}}
        for name, unit, value in values
    ]
    return {"detail": detail, "values": shown, "interval": None, "needed": None, **decided}


@examine.register
def _nets(test: Nets, experiment: _Experiment) -> Iterator[_Result]:
    cells = _cells(test, experiment)
    known = [name for name in test.first if name in cells]
    if not known:
        return
    first = min(known, key=lambda name: cells[name][test.quantity]["mean"])
    where = f"{test.level} level" if isinstance(test.level, str) else f"{100 * test.level:.6g} %"
    if "gradual" in cells:  # what is really removed may be far from what was asked
        where += f" ({cells['gradual']['removed_percent']['mean']:.2f} % removed)"
    detail = f"{_NAMES[test.quantity]}, {where}" + (f", {test.is_} {test.bound:g}" if test.bound else "")
    if test.same_mask:
        yield from _at_one_mask(f"{detail}, at the mask of one run", cells, first, test)
    else:
        yield from _compared(detail, cells, first, test.second, test.quantity, test)


def _at_one_mask(detail: str, cells: Mapping[str, Any], first: str, test: Nets) -> Iterator[_Result]:
    """Draws at one run's mask, and the net of that run."""
    draws, single = cells[first], cells.get(test.second)
    runs = list(draws["by_seed"][test.quantity])
    if single is None or len(runs) != 1 or runs[0] not in single["by_seed"][test.quantity]:
        return
    value = single["by_seed"][test.quantity][runs[0]]
    decided = decide(lambda n: predicted(draws[test.quantity], value, n), test.is_, test.bound, of="draws")
    unit = _UNITS[test.quantity]
    values = [
        (_SHORT.get(first, first), unit, draws[test.quantity]),
        (f"{_SHORT.get(test.second, test.second)} of run {runs[0]}", unit, describe([value])),
    ]
    yield _result(detail, values, **decided)


def _compared(
    detail: str, cells: Mapping[str, Any], first: str, second: str | float, quantity: str, test: Nets | Transfer
) -> Iterator[_Result]:
    """Two cells, or one and a published value; in pairs by run where neither is drawn anew."""
    if first not in cells or (isinstance(second, str) and second not in cells):
        return
    if first in _UNDRAWN and second in _UNDRAWN:
        found = _by_run(cells[first], cells[second], quantity)
        if found is None:
            return
        groups, difference = found
        decided = decide(lambda n: paired(difference, n), test.is_, test.bound)
    else:
        published = {"mean": second, "sd": 0.0, "n": None}
        of_second = cells[second][quantity] if isinstance(second, str) else published
        groups = (cells[first][quantity], of_second)
        of = "nets of each kind" if isinstance(second, str) else "runs" if first in _UNDRAWN else "nets"
        decided = decide(lambda n: unpaired(*groups, n), test.is_, test.bound, of=of)
    values = [(_SHORT.get(first, first), _UNITS[quantity], groups[0])]
    if isinstance(second, str):
        values.append((_SHORT.get(second, second), _UNITS[quantity], groups[1]))
    else:
        values.append(("published", _UNITS[quantity], {**published, "sd": None}))  # its spread is not known
    yield _result(detail, values, **decided)


@examine.register
def _transfer(test: Transfer, experiment: _Experiment) -> Iterator[_Result]:
    names = {"probe": "linear probe", "finetune": "fine-tuned"}
    for to, modes in experiment["transfer"].items():
        detail = f"test error on {to}, {names[test.mode]}"
        yield from _compared(detail, modes.get(test.mode, {}), test.first, test.second, "test_error_percent", test)


def _cells(test: Nets, experiment: _Experiment) -> dict[str, Any]:
    levels = experiment["levels"]
    if test.level == "highest":
        found = [entry for entry in levels if abs(entry["level"] - experiment["highest"]["level"]) < 1e-9]
    elif test.level == "lowest":
        found = levels[:1]
    else:
        found = [entry for entry in levels if abs(entry["level"] - test.level) < 1e-9]
    if not found:
        return {}
    dense = {"dense": experiment["dense"]} if experiment["dense"] else {}
    return {**found[0]["strategies"], **dense}


def _by_run(first: Mapping[str, Any], second: Mapping[str, Any], quantity: str) -> Any:
    values = first["by_seed"][quantity], second["by_seed"][quantity]
    runs = [seed for seed in values[0] if seed in values[1]]
    if not runs:
        return None
    groups = tuple(describe(value[seed] for seed in runs) for value in values)
    return groups, describe(values[0][seed] - values[1][seed] for seed in runs)


@examine.register
def _reached(test: Reached, experiment: _Experiment) -> Iterator[_Result]:
    highest = experiment["highest"]
    if highest["level"] < test.level - 1e-9:
        return
    reached, runs = highest["runs_that_reached"], highest["runs"]
    verdict = REPRODUCED if reached == runs else UNDECIDED if reached else NOT_REPRODUCED
    values = [("G", REMOVED, highest["removed_percent"])]
    yield _result(f"{reached} of {runs} runs removed {100 * test.level:.6g} %", values, verdict=verdict)


@examine.register
def _psp(test: Psp, experiment: _Experiment) -> Iterator[_Result]:
    readings = (experiment["analysis"] or {}).get("psp_readings", {})
    part = next(iter(readings), None) if test.part is None else test.part
    for layer, quantities in readings.get(part, {}).items():
        if (layer != ALL) == (test.layers == "each") and test.quantity in quantities:
            places = [f"layer {layer}"] * (layer != ALL) + [f"{part} images"] * (test.part is not None)
            yield _psp_result(test, quantities[test.quantity], places)


def _psp_result(test: Psp, quantity: Mapping[str, Any], places: Sequence[str]) -> _Result:
    size = (abs(quantity["G"]["mean"]) + abs(quantity["1-S"]["mean"])) / 2 if test.relative else 1.0
    decided = decide(lambda n: paired(quantity["difference"], n), test.is_, test.bound * size)
    values = [(net, quantity["unit"], quantity[net]) for net in ("G", "1-S")]
    return _result(", ".join([_PSP.get(test.quantity, test.quantity), *places]), values, **decided)


@examine.register
def _eigenvalue(test: Eigenvalue, experiment: _Experiment) -> Iterator[_Result]:
    spectrum = (experiment["analysis"] or {}).get("hessian", {}).get(test.space)
    if spectrum is None:
        return
    first = spectrum["ranks"][0]
    decided = decide(lambda n: paired(first["difference"], n), test.is_, test.bound)
    yield _result(f"largest eigenvalue, {_SPACES[test.space]}", _ends(first), **decided)


def _ends(quantity: Mapping[str, Any]) -> list[tuple[str, str, Mapping[str, Any]]]:
    return [(net, "", quantity[net]) for net in ("G", "1-S")]


@examine.register
def _positive(test: Positive, experiment: _Experiment) -> Iterator[_Result]:
    spectrum = (experiment["analysis"] or {}).get("hessian", {}).get(test.space)
    if spectrum is None:
        return
    verdict = REPRODUCED if spectrum["positive"] == spectrum["values"] else NOT_REPRODUCED
    detail = f"{spectrum['positive']} of {spectrum['values']} values positive, {_SPACES[test.space]}; the lowest rank"
    yield _result(detail, _ends(spectrum["ranks"][-1]), verdict=verdict)


@examine.register
def _lower_elsewhere(test: LowerElsewhere, experiment: _Experiment) -> Iterator[_Result]:
    maps = experiment["maps"]
    if not maps:
        return
    name = _PSP[test.quantity]
    at_g = [one["G"]["loss_nats"] for one in maps]
    there = [one["lower_than_at_G"][test.quantity]["lowest_loss_nats"] for one in maps]
    points = ", ".join(
        f"{one['lower_than_at_G'][test.quantity]['points']} of {one['points']} (run {one['seed']})" for one in maps
    )
    detail = f"{name} lower than at G on points of the map: {points}; training loss, lowest there"
    values = [("G", "nats", describe(at_g))]
    if None in there:
        yield _result(detail, values, verdict=NOT_REPRODUCED)
        return
    difference = describe(lowest - at for lowest, at in zip(there, at_g, strict=True))
    decided = decide(lambda n: paired(difference, n), "above", 0.0)
    yield _result(detail, [("there", "nats", describe(there)), *values], **decided)
