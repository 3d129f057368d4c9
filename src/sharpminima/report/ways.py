"""The ways in which a study with PSP-entropy trains each of its nets: what its figure and tables show of every beta."""

from collections.abc import Mapping, Sequence
from typing import Any

from sharpminima.base.names import DENSE, GRADUAL
from sharpminima.catalogue.models import unlabelled
from sharpminima.report.experiments import BySeed, Experiment, Key
from sharpminima.report.intervals import Summary, describe
from sharpminima.report.tables import ENDS

_ENTROPIES = ("entropy_1_bits", "entropy_2_joint_bits")


class Known(Summary):
    """Of runs, and each one's value."""

    by_seed: BySeed


class Way(Key):
    """One net, trained with one beta.

    Pruned nets are those of the highest level, of the runs that reached it, as in the claims: the others are denser,
    and so better.
    """

    beta: float  # nats per bit; 0: without PSP-entropy
    runs: int
    runs_that_reached: int
    removed_percent: Known | None  # of G; None: no run has it
    nets: dict[str, dict[str, Known]]  # dense, gradual, rewind -> quantity; without what no run has
    probed_on: str | None  # the dataset of the linear probes


def ways(experiments: Sequence[Experiment], study: Mapping[str, Any]) -> list[Way]:
    """The ways by dataset, net and beta; none where no experiment of the study trains with PSP-entropy.

    Args:
        study: the study as its file says it.
    """
    entropies = {(e["dataset"], e["model"]): e.get("psp_entropy") for e in study.get("experiments", ())}
    if not any(entropies.values()):
        return []
    found = [_way(experiment, entropies[experiment["dataset"], experiment["model"]]) for experiment in experiments]
    return sorted(found, key=lambda way: (way["dataset"], unlabelled(way["model"]), way["beta"]))


def by_net(ways: Sequence[Way]) -> dict[tuple[str, str], list[Way]]:
    """The ways of each net, by dataset and model without its label, in their order."""
    found: dict[tuple[str, str], list[Way]] = {}
    for way in ways:
        found.setdefault((way["dataset"], unlabelled(way["model"])), []).append(way)
    return found


def _way(experiment: Experiment, entropy: Mapping[str, Any] | None) -> Way:
    level = experiment["levels"][-1]
    cells = {**level["strategies"], **({DENSE: experiment["dense"]} if experiment["dense"] else {})}
    measured = experiment["analysis"]["psp"] if experiment["analysis"] else {}
    to, modes = next(iter(experiment["transfer"].items()), (None, {}))
    probes = modes.get("probe", {})
    nets: dict[str, dict[str, Known]] = {}
    for net, end in {DENSE: DENSE, **ENDS}.items():
        by_run: dict[str, BySeed] = {}
        if net in cells:
            by_run["test_error_percent"] = cells[net]["by_seed"]["test_error_percent"]
        for quantity in _ENTROPIES:
            if quantity in measured:
                by_run[quantity] = measured[quantity]["by_seed"].get(end, {})
        if net in probes:
            by_run["probe_error_percent"] = probes[net]["by_seed"]["test_error_percent"]
        short = () if net == DENSE else level["short"]
        known = {quantity: _known(values, short) for quantity, values in by_run.items()}
        nets[net] = {quantity: values for quantity, values in known.items() if values}
    removed = cells[GRADUAL]["by_seed"]["removed_percent"] if GRADUAL in cells else {}
    return {
        "dataset": experiment["dataset"],
        "model": experiment["model"],
        "method": experiment["method"],
        "beta": float(entropy["beta"]) if entropy else 0.0,
        "runs": experiment["highest"]["runs"],
        "runs_that_reached": experiment["highest"]["runs_that_reached"],
        "removed_percent": _known(removed, level["short"]),
        "nets": nets,
        "probed_on": to if probes else None,
    }


def _known(values: BySeed, short: Sequence[str]) -> Known | None:
    """Of the runs that are not short of the level; None without any."""
    kept = {run: value for run, value in values.items() if run not in short}
    return {**describe(kept.values()), "by_seed": kept} if kept else None
