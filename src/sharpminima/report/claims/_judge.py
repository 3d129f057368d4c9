"""Claims held against the summarised numbers of a study."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import singledispatch
from typing import Any, cast

from sharpminima.catalogue.columns import ALL, RELATIVE
from sharpminima.catalogue.models import unlabelled
from sharpminima.report.claims._ledger import (
    UNDRAWN,
    Against,
    CarryOver,
    Difference,
    Eigenvalue,
    Ledger,
    LowerElsewhere,
    Margins,
    Nets,
    Positive,
    Psp,
    Reached,
    Transfer,
)
from sharpminima.report.claims._results import (
    Corrected,
    Decision,
    Examined,
    Judged,
    JudgedClaim,
    OfNewRuns,
    Result,
    Value,
    deciding_results,
)
from sharpminima.report.claims._text import REMOVED
from sharpminima.report.claims._verdict import (
    ENOUGH,
    FEW,
    NOT_REPRODUCED,
    REPRODUCED,
    UNDECIDED,
    common,
    common_p,
    common_remark,
    decide,
    holm,
    most_needed,
)
from sharpminima.report.experiments import Cell, Ends, Experiment, Key, Level, Map, Quantity, Spectrum
from sharpminima.report.intervals import Published, Summary, describe, paired, predicted, unpaired
from sharpminima.report.rounding import fixed
from sharpminima.report.titles import short_title_of, title_of_dataset, title_of_model, title_of_net

_Named = tuple[str, str, Summary | Published]  # name and unit of what has been summarised
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
_AGAINST = {
    "entropy_1_live_bits": "first-order PSP-entropy of live neurons",
    "entropy_2_joint_live_bits": "second-order PSP-entropy of live neurons, joint",
    "probe_error_percent": "test error of a linear probe on the other dataset",
    "largest_eigenvalue": "largest eigenvalue",
    "largest_eigenvalue_relative": "largest eigenvalue, relative changes",
    "entropy_1_bits": "first-order PSP-entropy",
    "entropy_2_joint_bits": "second-order PSP-entropy, joint",
}
_AGAINST_UNITS = {
    "probe_error_percent": "%",
    **dict.fromkeys(
        ("entropy_1_bits", "entropy_1_live_bits", "entropy_2_joint_bits", "entropy_2_joint_live_bits"), "bits"
    ),
}
_SPACES = {
    "all": "all parameters",
    "surviving": "surviving parameters",
    RELATIVE: "relative changes of surviving parameters",
}
_FEW_MAPS = 3  # of which each is told by itself


def judge(ledger: Ledger, experiments: Sequence[Experiment], new: Sequence[Experiment] = ()) -> list[JudgedClaim]:
    """Every claim with its verdict, and a result for each test and experiment that bears on it.

    The verdict of a claim that is partly ``missing`` is that of the others.

    Args:
        ledger: the claims.
        experiments: as `sharpminima.report.numbers` summarises them.
        new: the same of the new runs alone (`Ledger.new_runs_from`).
    """
    judged = _judged(ledger, experiments)
    alone: list[OfNewRuns | None] = [None] * len(judged)
    if new:
        alone = [
            OfNewRuns(
                verdict=one["verdict"],
                remark=one["remark"],
                needed=one["needed"],
                holm=one["holm"],
                missing=one["missing"],
                results=one["results"],
            )
            for one in _judged(ledger, new)
        ]
    return [{**claim, "new_runs": by_new} for claim, by_new in zip(judged, alone, strict=True)]


def _judged(ledger: Ledger, experiments: Sequence[Experiment]) -> list[Corrected]:
    judged: dict[str, Judged] = {}
    places = {_place(e) for e in experiments}
    for claim in ledger.claims:
        stated_for = claim.deciding(places)
        results: list[Result] = [
            {
                **_key(e),
                "stated": _place(e) in stated_for,
                "sensitivity": test in claim.sensitivity,
                "carried_from": None,
                **result,
            }
            for test in (*claim.tests, *claim.sensitivity)
            if not isinstance(test, CarryOver)
            for e in experiments
            if _place(e) in stated_for or (claim.elsewhere and unlabelled(e["model"]) == e["model"])
            for result in (
                against(test, e, experiments, ledger.margins)
                if isinstance(test, Against)
                else examine(test, e, ledger.margins)
            )
        ]
        carried = {
            name: [result for result in judged[name]["results"] if _place(result) in stated_for]
            for test in claim.tests
            if isinstance(test, CarryOver)
            for name in test.claims
        }
        for name, brought in carried.items():
            results += [
                {**result, "stated": True, "carried_from": name, "detail": f"{_words(name)}: {result['detail']}"}
                for result in brought
            ]
        deciding = deciding_results(results)
        needed = [result["needed"] for result in deciding if result["verdict"] == UNDECIDED]
        verdict = common(result["verdict"] for result in deciding)
        judged[claim.id] = {
            "id": claim.id,
            "source": claim.source,
            "says": claim.says,
            "stated_for": list(stated_for),
            "verdict": verdict,
            # Of comparisons that are carried over each says its own.
            "remark": None if carried else common_remark(verdict, deciding),
            "p": common_p(verdict, deciding),
            "needed": most_needed(needed),
            "missing": _missing(stated_for, deciding, carried),
            "results": results,
        }
    survives = holm([claim["p"] for claim in judged.values()])
    return [{**claim, "holm": holds} for claim, holds in zip(judged.values(), survives, strict=True)]


def _missing(
    stated_for: Sequence[str], deciding: Sequence[Result], carried: Mapping[str, Sequence[Result]]
) -> list[str]:
    tried = {_place(result) for result in deciding}
    if not tried:
        return []  # the verdict says so
    missing = [_net(place) for place in stated_for if place not in tried]
    for name, results in carried.items():
        lacking = tried - {_place(result) for result in results if not result["sensitivity"]}
        missing += [f"{_words(name)} for {_net(place)}" for place in stated_for if place in lacking]
    return missing


def _words(name: str) -> str:
    """What a claim is called in words."""
    return name.replace("-", " ")


def _net(place: str) -> str:
    dataset, model = place.split("/")
    return title_of_net(model, dataset)


def _key(experiment: Experiment) -> Key:
    return {"dataset": experiment["dataset"], "model": experiment["model"], "method": experiment["method"]}


def _place(experiment: Experiment | Result) -> str:
    return f"{experiment['dataset']}/{experiment['model']}"


@singledispatch
def examine(test: Any, experiment: Experiment, margins: Margins | None) -> Iterator[Examined]:
    """The results of a test in one experiment; none where the experiment lacks what is compared."""
    raise TypeError(type(test).__name__)


def _result(detail: str, values: Sequence[_Named], decided: Decision, brief: str = "") -> Examined:
    shown = [
        Value(name=name, unit=unit, mean=value["mean"], sd=None if value["n"] is None else value["sd"], n=value["n"])
        for name, unit, value in values
    ]
    return {"detail": detail, "brief": brief, "values": shown, **decided}


def _counted(verdict: str) -> Decision:
    """A verdict by counts alone."""
    return {
        "interval": None,
        "side": None,
        "bound": None,
        "margin": None,
        "verdict": verdict,
        "remark": None,
        "p": None,
        "needed": None,
    }


def _margin(margins: Margins | None, test: Difference, quantity: str, dataset: str, *values: Summary) -> float | None:
    """The smallest difference that matters to a test; none where it has a bound of its own."""
    if margins is None or test.bound or test.is_ == "within":
        return None
    return margins.of(quantity, dataset, [value["mean"] for value in values])


@examine.register
def _nets(test: Nets, experiment: Experiment, margins: Margins | None) -> Iterator[Examined]:
    everyone = _cells(test, experiment)
    cells, left_out = _near(test, experiment, everyone)
    if left_out and not cells and any(name in everyone for name in test.first):
        detail = f"{_NAMES[test.quantity]}, {test.level} level; no run's net was near it"
        yield _result(detail, [], {**_counted(UNDECIDED), "remark": FEW}, "no run near the level")
        return
    known = [name for name in test.first if name in cells]
    if not known:
        return
    first = min(known, key=lambda name: cells[name][test.quantity]["mean"])
    where = f"{test.level} level" if isinstance(test.level, str) else f"{100 * test.level:.6g} %"
    brief = where
    if "gradual" in cells:  # what is really removed may be far from what was asked
        brief = f"{fixed(cells['gradual']['removed_percent']['mean'], 2)} % removed"
        where += f" ({brief})"
    detail = f"{_NAMES[test.quantity]}, {where}" + (f", {test.is_} {test.bound:g}" if test.bound else "")
    if left_out:
        runs = len(everyone["gradual"]["by_seed"]["removed_percent"])
        detail += f"; {left_out} of {runs} runs left out, whose net was not near the level"
    if test.same_mask:
        for result in _at_one_mask(detail, cells, first, test, experiment["dataset"], margins):
            yield {**result, "brief": brief}
    else:

        def margin(*values: Summary) -> float | None:
            return _margin(margins, test, test.quantity, experiment["dataset"], *values)

        for result in _compared(detail, cells, first, test.second, test.quantity, test, margin):
            yield {**result, "brief": brief}


def _at_one_mask(
    detail: str, cells: Mapping[str, Any], first: str, test: Nets, dataset: str, margins: Margins | None
) -> Iterator[Examined]:
    """Draws at one run's mask, and the net of that run."""
    assert isinstance(test.second, str)  # checked when read
    draws, single = cells[first], cells.get(test.second)
    run = draws.get("drawn_at")
    if single is None or run is None or run not in single["by_seed"][test.quantity]:
        return
    value = describe([single["by_seed"][test.quantity][run]])
    decided = decide(
        lambda n: predicted(draws[test.quantity], value["mean"], n),
        test.is_,
        test.bound,
        margin=_margin(margins, test, test.quantity, dataset, draws[test.quantity], value),
        of="draws",
    )
    unit = _UNITS[test.quantity]
    values = [
        (short_title_of(first), unit, draws[test.quantity]),
        (f"{short_title_of(test.second)} of run {run}", unit, value),
    ]
    yield _result(f"{detail}, at the mask of one run", values, decided)


def _compared(
    detail: str,
    cells: Mapping[str, Any],
    first: str,
    second: str | float,
    quantity: str,
    test: Nets | Transfer,
    margin: Callable[..., float | None],
) -> Iterator[Examined]:
    """Two cells, or one and a published value.

    In pairs by run where neither is drawn anew, or several runs have a draw at their own mask; else by groups.
    """
    if first not in cells or (isinstance(second, str) and second not in cells):
        return
    undrawn = first in UNDRAWN and second in UNDRAWN
    by_run = _by_run(cells[first], cells[second], quantity) if isinstance(second, str) else None
    if undrawn and by_run is None:
        return
    of_first = cells[first][quantity]
    of_second: Summary | Published
    if by_run is not None and (undrawn or by_run[1]["n"] > 1):
        (of_first, of_second), difference = by_run
        names = [short_title_of(name) for name in (first, str(second))]
        decided = decide(lambda n: paired(difference, n), test.is_, test.bound, margin=margin(of_first, of_second))
    else:
        drawn = isinstance(second, str)
        names = [_with_mask(name, cells[name]) if name in cells else "published" for name in (first, str(second))]
        of_second = cells[second][quantity] if isinstance(second, str) else {"mean": second, "sd": 0.0, "n": None}
        decided = decide(
            lambda n: unpaired(of_first, of_second, n),
            test.is_,
            test.bound,
            margin=margin(of_first, of_second),
            of="nets of each kind" if drawn else "runs" if first in UNDRAWN else "nets",
        )
    values = [(name, _UNITS[quantity], of) for name, of in zip(names, (of_first, of_second), strict=True)]
    yield _result(detail, values, decided)


def _with_mask(name: str, cell: Mapping[str, Any]) -> str:
    """What a group is called; of draws at one mask with the share that it removes, which is not that of other runs."""
    title, run = short_title_of(name), cell.get("drawn_at")
    if run is None or cell["removed_percent"]["n"] == 1:
        return title
    return f"{title} at the mask of run {run} ({fixed(cell['removed_percent']['mean'], 2)} % removed)"


@examine.register
def _transfer(test: Transfer, experiment: Experiment, margins: Margins | None) -> Iterator[Examined]:
    names = {"probe": "linear probe", "finetune": "fine-tuned"}
    for to, modes in experiment["transfer"].items():
        place = title_of_dataset(to)
        detail = f"test error on {place}, {names[test.mode]}"

        def margin(*values: Summary, to: str = to) -> float | None:
            return _margin(margins, test, "transfer_error_percent", to, *values)

        cells = modes.get(test.mode, {})
        for result in _compared(detail, cells, test.first, test.second, "test_error_percent", test, margin):
            yield {**result, "brief": f"then {place}"}


def against(
    test: Against, experiment: Experiment, experiments: Sequence[Experiment], margins: Margins | None
) -> Iterator[Examined]:
    """The results of a comparison of an experiment with another one of the study; none where a side is missing.

    A run that did not reach the level in one of the two is left out, since its net is denser than the other. Where that
    leaves less than `ENOUGH` of the runs that both have, nothing is decided.
    """
    key = (experiment["dataset"], test.other, experiment["method"])
    other = next((e for e in experiments if (e["dataset"], e["model"], e["method"]) == key), None)
    if other is None or other is experiment:
        return
    values = [_values_by_run(test, one) for one in (experiment, other)]
    pairs = [run for run in values[0] if run in values[1]]
    if not pairs:
        return
    denser = [[run for run in pairs if run in _short_at(test, one)] for one in (experiment, other)]
    runs = [run for run in pairs if not any(run in each for each in denser)]
    nets = short_title_of(test.of)
    name = _AGAINST.get(test.quantity) or _NAMES.get(test.quantity) or _PSP[test.quantity]
    detail = f"{name} of {nets}"
    if test.of != "dense":
        detail += f", {test.level} level" if isinstance(test.level, str) else f", {100 * test.level:.6g} %"
    titles = [title_of_model(e["model"]) for e in (experiment, other)]
    if left_out := len(pairs) - len(runs):
        by_way = ", ".join(f"{title} {len(each)}" for title, each in zip(titles, denser, strict=True))
        detail += f"; {left_out} of {len(pairs)} runs left out, which one of both ways did not bring there ({by_way})"
    if len(runs) < ENOUGH * len(pairs):
        yield _result(detail, [], {**_counted(UNDECIDED), "remark": FEW}, nets)
        return
    ours, theirs = (describe(each[run] for run in runs) for each in values)
    difference = describe(values[0][run] - values[1][run] for run in runs)
    size = (abs(ours["mean"]) + abs(theirs["mean"])) / 2 if test.relative else 1.0
    margin = _margin(margins, test, test.quantity, experiment["dataset"], ours, theirs)
    decided = decide(lambda n: paired(difference, n), test.is_, test.bound * size, margin=margin)
    unit = _UNITS.get(test.quantity, _AGAINST_UNITS.get(test.quantity, ""))
    yield _result(detail, [(titles[0], unit, ours), (titles[1], unit, theirs)], decided, nets)


def _values_by_run(test: Against, experiment: Experiment) -> Mapping[str, float]:
    """The quantity of each run's net; empty where the experiment has none."""
    match test.quantity:
        case "test_error_percent" | "training_loss_nats":
            cell = _cells(test, experiment).get(test.of)
            return cell["by_seed"][test.quantity] if cell else {}
        case "probe_error_percent":
            modes = next(iter(experiment["transfer"].values()), {})
            moved = modes.get("probe", {}).get(test.of)
            return moved["by_seed"]["test_error_percent"] if moved else {}
        case "largest_eigenvalue" | "largest_eigenvalue_relative":
            spectrum = _spectrum(experiment, "all" if test.quantity == "largest_eigenvalue" else RELATIVE)
            return spectrum["ranks"][0]["by_seed"].get(short_title_of(test.of), {}) if spectrum else {}
    readings = experiment["analysis"]["psp_readings"] if experiment["analysis"] else {}
    quantities = next(iter(readings.values()), {}).get(ALL, {})
    return quantities[test.quantity]["by_seed"].get(short_title_of(test.of), {}) if test.quantity in quantities else {}


def _short_at(test: Against, experiment: Experiment) -> Sequence[str]:
    """The runs that did not reach the level of a test; of dense nets none."""
    at_level = [] if test.of == "dense" else _at_level(test, experiment)
    return at_level[0]["short"] if at_level else ()


def _at_level(test: Nets | Against, experiment: Experiment) -> Sequence[Level]:
    levels = experiment["levels"]
    if test.level == "highest":
        return [entry for entry in levels if abs(entry["level"] - experiment["highest"]["level"]) < 1e-9]
    if test.level == "lowest":
        return levels[:1]
    return [entry for entry in levels if abs(entry["level"] - test.level) < 1e-9]


def _cells(test: Nets | Against, experiment: Experiment) -> dict[str, Cell]:
    at_level = _at_level(test, experiment)
    if not at_level:
        return {}
    dense = {"dense": experiment["dense"]} if experiment["dense"] else {}
    return {**at_level[0]["strategies"], **dense}


def _near(test: Nets, experiment: Experiment, cells: dict[str, Cell]) -> tuple[dict[str, Cell], int]:
    """The cells by the runs near the level (`Nets.excess`), and how many runs are not; no cells where none is."""
    if test.excess is None or "gradual" not in cells:
        return cells, 0
    (entry,) = _at_level(test, experiment)
    removed = cells["gradual"]["by_seed"]["removed_percent"]
    most = 100 * (entry["level"] + test.excess)
    near = [run for run, share in removed.items() if run not in entry["short"] and share <= most + 1e-9]
    known = {name: [run for run in near if run in cell["by_seed"][test.quantity]] for name, cell in cells.items()}
    return {name: _by_runs(cells[name], runs) for name, runs in known.items() if runs}, len(removed) - len(near)


def _by_runs(cell: Cell, runs: Sequence[str]) -> Cell:
    """The cell of some runs, in what is known of each run."""
    kept = {quantity: {run: of[run] for run in runs} for quantity, of in cell["by_seed"].items()}
    return cast("Cell", {**cell, **{quantity: describe(of.values()) for quantity, of in kept.items()}, "by_seed": kept})


def _by_run(
    first: Mapping[str, Any], second: Mapping[str, Any], quantity: str
) -> tuple[tuple[Summary, Summary], Summary] | None:
    """Both over the runs that both have, and their differences."""
    values = first["by_seed"][quantity], second["by_seed"][quantity]
    runs = [seed for seed in values[0] if seed in values[1]]
    if not runs:
        return None
    first_of, second_of = (describe(value[seed] for seed in runs) for value in values)
    return (first_of, second_of), describe(values[0][seed] - values[1][seed] for seed in runs)


@examine.register
def _reached(test: Reached, experiment: Experiment, margins: Margins | None) -> Iterator[Examined]:
    highest = experiment["highest"]
    removed = highest["removed_percent"]
    if highest["level"] < test.level - 1e-9 or removed is None:
        return
    reached, runs = highest["runs_that_reached"], highest["runs"]
    verdict = REPRODUCED if reached == runs else UNDECIDED  # more epochs might have brought the others there
    values = [("G", REMOVED, removed)]
    yield _result(f"{reached} of {runs} runs removed {100 * test.level:.6g} %", values, _counted(verdict))


@examine.register
def _psp(test: Psp, experiment: Experiment, margins: Margins | None) -> Iterator[Examined]:
    readings = experiment["analysis"]["psp_readings"] if experiment["analysis"] else {}
    part = next(iter(readings), "") if test.part is None else test.part
    layers = [layer for layer in readings.get(part, {}) if layer != ALL]
    for layer, quantities in readings.get(part, {}).items():
        if (layer != ALL) == (test.layers == "each") and test.quantity in quantities:
            place = [f"hidden layer {layers.index(layer) + 1} of {len(layers)}"] if layer != ALL else []
            places = place + [f"{part} images"] * (test.part is not None)
            margin = _margin(margins, test, test.quantity, experiment["dataset"], *_pair(quantities[test.quantity]))
            yield _psp_result(test, quantities[test.quantity], places, margin)


def _psp_result(test: Psp, quantity: Quantity, places: Sequence[str], margin: float | None) -> Examined:
    size = (abs(quantity["G"]["mean"]) + abs(quantity["1-S"]["mean"])) / 2 if test.relative else 1.0
    decided = decide(lambda n: paired(quantity["difference"], n), test.is_, test.bound * size, margin=margin)
    values: list[_Named] = [("G", quantity["unit"], quantity["G"]), ("1-S", quantity["unit"], quantity["1-S"])]
    return _result(", ".join([_PSP.get(test.quantity, test.quantity), *places]), values, decided, ", ".join(places))


@examine.register
def _eigenvalue(test: Eigenvalue, experiment: Experiment, margins: Margins | None) -> Iterator[Examined]:
    spectrum = _spectrum(experiment, test.space)
    if spectrum is None:
        return
    first = spectrum["ranks"][0]
    margin = _margin(margins, test, "eigenvalue", experiment["dataset"], *_pair(first))
    decided = decide(lambda n: paired(first["difference"], n), test.is_, test.bound, margin=margin)
    yield _result(f"largest eigenvalue, {_SPACES[test.space]}", _ends(first), decided)


def _spectrum(experiment: Experiment, space: str) -> Spectrum | None:
    return experiment["analysis"]["hessian"].get(space) if experiment["analysis"] else None


def _pair(quantity: Ends) -> tuple[Summary, Summary]:
    return quantity["G"], quantity["1-S"]


def _ends(quantity: Ends) -> list[_Named]:
    return [("G", "", quantity["G"]), ("1-S", "", quantity["1-S"])]


@examine.register
def _positive(test: Positive, experiment: Experiment, margins: Margins | None) -> Iterator[Examined]:
    spectrum = _spectrum(experiment, test.space)
    if spectrum is None:
        return
    verdict = REPRODUCED if spectrum["positive"] == spectrum["values"] else NOT_REPRODUCED
    detail = f"{spectrum['positive']} of {spectrum['values']} values positive, {_SPACES[test.space]}; the lowest rank"
    yield _result(detail, _ends(spectrum["ranks"][-1]), _counted(verdict))


@examine.register
def _lower_elsewhere(test: LowerElsewhere, experiment: Experiment, margins: Margins | None) -> Iterator[Examined]:
    maps = experiment["maps"]
    if not maps:
        return
    name = _PSP[test.quantity]
    at_g = [one["G"]["loss_nats"] for one in maps]
    lowest = [one["lower_than_at_G"][test.quantity]["lowest_loss_nats"] for one in maps]
    there = [loss for loss in lowest if loss is not None]
    detail = f"{name} lower than at G on {_points(test, maps)}; training loss, lowest there"
    values = [("G", "nats", describe(at_g))]
    if len(there) < len(lowest):
        yield _result(detail, values, _counted(NOT_REPRODUCED), name)
        return
    difference = describe(loss - at for loss, at in zip(there, at_g, strict=True))
    both = describe(there), describe(at_g)
    margin = None
    if margins is not None:
        margin = margins.of("training_loss_nats", experiment["dataset"], [loss["mean"] for loss in both])
    decided = decide(lambda n: paired(difference, n), "above", 0.0, margin=margin, of="mapped runs")
    yield _result(detail, [("there", "nats", both[0]), *values], decided, name)


def _points(test: LowerElsewhere, maps: Sequence[Map]) -> str:
    """On how many points of each map, of many maps the fewest and the most."""
    counts = [one["lower_than_at_G"][test.quantity]["points"] for one in maps]
    all_points = {one["points"] for one in maps}
    if len(maps) <= _FEW_MAPS or len(all_points) > 1:
        of_runs = zip(counts, maps, strict=True)
        return "points of the map: " + ", ".join(f"{n} of {one['points']} (run {one['seed']})" for n, one in of_runs)
    return f"{min(counts)} to {max(counts)} of the {all_points.pop()} points of a map ({len(maps)} maps)"
