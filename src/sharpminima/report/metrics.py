"""The main numbers of a study, one a key, for ``dvc metrics``: means over runs and replicas."""

from collections.abc import Mapping
from typing import Any

from sharpminima.base.names import DENSE, level_name


def main_numbers(numbers: Mapping[str, Any]) -> dict[str, Any]:
    """Errors, removed shares and what was measured of nets, out of `sharpminima.report.numbers.summarise`.

    Keys: ``dataset/model/method``, then ``level-L`` and strategy, or a measured quantity and net. Beside them
    ``claims``, the count of each verdict over the paper's claims.
    """
    main: dict[str, Any] = {"claims": dict(numbers["verdicts"])}
    for experiment in numbers["experiments"]:
        levels = {
            f"level-{level_name(entry['level'])}": {
                strategy: {name: cell[name]["mean"] for name in ("test_error_percent", "removed_percent")}
                for strategy, cell in entry["strategies"].items()
            }
            for entry in experiment["levels"]
        }
        dense, analysis = experiment["dense"], experiment["analysis"]
        key = "/".join(experiment[name] for name in ("dataset", "model", "method"))
        main[key] = {
            **({"dense": {"test_error_percent": dense["test_error_percent"]["mean"]}} if dense else {}),
            **levels,
            **(_measured(analysis) if analysis else {}),
        }
    return main


def _measured(analysis: Mapping[str, Any]) -> dict[str, Any]:
    quantities = dict(analysis["psp"])
    for space, spectrum in analysis["hessian"].items():
        quantities[f"largest_eigenvalue_{space}"] = spectrum["ranks"][0]
    nets = ("G", "1-S", DENSE)
    return {name: {net: ends[net]["mean"] for net in nets if net in ends} for name, ends in quantities.items()}
