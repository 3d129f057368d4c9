"""The claims by another setting of the method: the same net in an experiment of its own, under a label."""

from collections.abc import Sequence
from typing import cast

from sharpminima.catalogue.models import unlabelled
from sharpminima.report.claims._judge import judge
from sharpminima.report.claims._ledger import Ledger
from sharpminima.report.claims._results import BySetting, ClaimBySetting, Result, deciding_results
from sharpminima.report.experiments import Experiment


def judge_settings(ledger: Ledger, experiments: Sequence[Experiment]) -> list[BySetting]:
    """The verdicts on each net that the study has by another setting (`Ledger.other_settings`) as well.

    They and the usual verdicts beside them are of this net alone, so that they may differ from the claim's verdict,
    which is of all nets.

    Args:
        ledger: the claims.
        experiments: as `sharpminima.report.numbers` summarises them.
    """
    found: list[BySetting] = []
    for setting in ledger.other_settings:
        for experiment in experiments:
            model = unlabelled(experiment["model"])
            if experiment["model"] != f"{model}@{setting.label}":
                continue
            key = (experiment["dataset"], model, experiment["method"])
            usual = [e for e in experiments if (e["dataset"], e["model"], e["method"]) == key]
            here = [cast("Experiment", {**experiment, "model": model})]
            claims: list[ClaimBySetting] = [
                {
                    "id": other["id"],
                    "says": other["says"],
                    "usual": one["verdict"],
                    "verdict": other["verdict"],
                    "remark": other["remark"],
                    "needed": other["needed"],
                    "results": results,
                }
                for one, other in zip(judge(ledger, usual), judge(ledger, here), strict=True)
                if (results := _own(other["results"])) and _own(one["results"])
            ]
            found.append(
                {
                    "label": setting.label,
                    "says": setting.says,
                    "dataset": experiment["dataset"],
                    "model": model,
                    "claims": claims,
                }
            )
    return found


def _own(results: Sequence[Result]) -> list[Result]:
    return [result for result in deciding_results(results) if result["carried_from"] is None]
