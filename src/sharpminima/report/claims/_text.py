"""Verdicts as text."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from sharpminima.report.claims._results import BySetting, Examined, JudgedClaim, Result, deciding_results
from sharpminima.report.claims._verdict import ABSENT, UNDECIDED, VERDICTS
from sharpminima.report.rounding import fixed, significant, with_spread
from sharpminima.report.titles import title_of_net

REMOVED = "% removed"
"""The unit of a share removed, which is written to a hundredth: the last percent is what counts."""
_ASTERISK = r"\*"
_TINY = 1e-3
"""Values below it have a power of ten."""


def as_text(claims: Sequence[JudgedClaim]) -> str:
    """Each claim with its verdict, and below it what was compared; other readings are marked with ``~``.

    Verdicts of the new runs alone stand beside those of all, where there are new runs.
    """
    lines = []
    for claim in claims:
        lines += [f"{verdict_text(claim)}: {claim['says']} [{claim['id']}; {claim['source']}]"]
        lines += [f"  {remark}" for remark in (_corrected(claim), _alone(claim)) if remark]
        for result in claim["results"]:
            mark = "~" if result["sensitivity"] else "-" if result["stated"] else "+"
            place = title_of_net(result["model"], result["dataset"])
            lines.append(f"  {mark} {place}, {result['detail']}: {measured_text(result)}; {verdict_text(result)}")
    return "\n".join(lines)


def settings_text(settings: Sequence[BySetting]) -> str:
    """Each net that the study has by another setting, and its verdicts by that beside the usual ones."""
    lines = []
    for setting in settings:
        lines.append(f"{title_of_net(setting['model'], setting['dataset'])} by {setting['says']}:")
        for claim in setting["claims"]:
            differs = "" if claim["verdict"] == claim["usual"] else f" (by the study's setting: {claim['usual']})"
            lines.append(f"  {verdict_text(claim)}{differs}: {claim['says']} [{claim['id']}]")
            lines += [f"    - {result['detail']}: {measured_text(result)}" for result in claim["results"]]
    return "\n".join(lines)


def as_markdown(claims: Sequence[JudgedClaim], *, head: str = "the paper says") -> str:
    """A table of the claims, their verdicts, and the differences that decide them with their 95 % intervals.

    A verdict that survives Holm's correction over all claims has an asterisk. The new runs alone have a column where
    there are any.

    Args:
        head: what stands over the claims.
    """
    alone = any(claim["new_runs"] for claim in claims)
    heads = [head, "verdict", *(["new runs alone"] if alone else []), "difference (95 %)"]
    rows = [f"| {' | '.join(heads)} |", f"|{' --- |' * len(heads)}"]
    for claim in claims:
        cells = [f"{claim['says']} ({claim['source']})", f"**{verdict_text(claim)}**{_ASTERISK * bool(claim['holm'])}"]
        if alone:
            starred = claim["new_runs"] is not None and claim["new_runs"]["holm"]
            cells.append((new_runs_text(claim) or "–") + _ASTERISK * bool(starred))
        rows.append(f"| {' | '.join([*cells, _differences(claim)])} |")
    return "\n".join(rows)


def readings_as_markdown(claims: Sequence[JudgedClaim]) -> str:
    """A table of the other readings of claims: what was compared, its verdict and its difference.

    A claim stands at the first of its readings.
    """
    rows = ["| claim | another reading | verdict | difference (95 %) |", "| --- | --- | --- | --- |"]
    for claim in claims:
        says = claim["says"]
        for result in claim["results"]:
            if result["sensitivity"] and result["stated"]:
                net = title_of_net(result["model"], result["dataset"])
                cells = [says, f"{net}, {result['detail']}", verdict_text(result), _difference(result)]
                rows.append(f"| {' | '.join(cells)} |")
                says = ""
    return "\n".join(rows)


def _differences(claim: JudgedClaim) -> str:
    """What decides a claim, a line a net; of one that says that others carry over, the counts."""
    results = deciding_results(claim["results"])
    if any(result["carried_from"] for result in results):
        verdicts = Counter(result["verdict"] for result in results)
        counted = ", ".join(f"{verdicts[verdict]} {verdict}" for verdict in VERDICTS if verdicts[verdict])
        return f"of {len(results)} comparisons {counted}"
    return "<br>".join(_in_brief(result, claim["verdict"]) for result in results) or "–"


def comparison_title(result: Result) -> str:
    """The net of a comparison and, in a few words, what was compared: a line of a table, a row of a figure."""
    net = title_of_net(result["model"], result["dataset"])
    return f"{net}, {result['brief']}" if result["brief"] else net


def _in_brief(result: Result, verdict: str) -> str:
    """The comparison and its difference; its own verdict, where that of the claim is another."""
    own = "" if result["verdict"] == verdict else f"; {result['verdict']}"
    return f"{comparison_title(result)}: {_difference(result)}{own}"


def _difference(result: Result) -> str:
    interval = result["interval"]
    if interval is None:
        return "by counting"
    unit = next((f" {unit_of_difference(value['unit'])}" for value in result["values"] if value["unit"]), "")
    low, high = interval["low"], interval["high"]
    ends = "" if low is None or high is None else f" [{_signed(low)}, {_signed(high)}]"
    return f"{_signed(interval['mean'])}{ends}{unit}"


def unit_of_difference(unit: str) -> str:
    """The unit of a difference of two values: of two percentages it is points."""
    return "points" if unit == "%" else unit


def _signed(value: float) -> str:
    return ("" if value < 0 else "+") + significant(value, 2)


def measured_text(result: Examined) -> str:
    """Values and difference of a result: mean ± standard deviation (n), the interval in brackets."""
    shown = [
        f"{value['name']} {_with_spread(value['mean'], value['sd'], value['unit'])}"
        + (f" {value['unit']}" if value["unit"] else "")
        + (f" (n = {value['n']})" if value["n"] is not None else "")
        for value in result["values"]
    ]
    interval = result["interval"]
    if interval is not None:
        low, high = interval["low"], interval["high"]
        ends = "" if low is None or high is None else f" [{_number(low)}, {_number(high)}]"
        points = " points" * any(value["unit"] == "%" for value in result["values"])
        shown.append(f"difference {_number(interval['mean'])}{ends}{points}")
    return ", ".join(shown)


def _with_spread(mean: float, spread: float | None, unit: str) -> str:
    """As in the report; a share removed to a hundredth."""
    if unit == REMOVED:
        return fixed(mean, 2) + (f" ± {fixed(spread, 2)}" if spread else "")
    if 0 < abs(mean) < _TINY:
        return _number(mean) + (f" ± {_number(spread)}" if spread else "")
    return with_spread(mean, spread or None)


def _number(value: float) -> str:
    return significant(value, 3)


def verdict_text(judged: Mapping[str, Any]) -> str:
    """A verdict with what is remarked on it, would decide it, or is missing: of a claim, of new runs, of a result."""
    hints = [judged["remark"]] if judged.get("remark") else []
    if judged["verdict"] == UNDECIDED and (needed := judged["needed"]):
        hints.append(needed["says"])
    if missing := judged.get("missing"):
        hints.append(f"without {', '.join(missing)}")
    return judged["verdict"] + (f" ({'; '.join(hints)})" if hints else "")


def _corrected(claim: JudgedClaim) -> str | None:
    """Whether the verdict survives the correction for all claims."""
    return {
        True: "survives Holm's correction over all claims",
        False: "does not survive Holm's correction over all claims",
        None: None,
    }[None if claim["verdict"] == UNDECIDED else claim["holm"]]


def new_runs_text(claim: JudgedClaim) -> str | None:
    """The verdict of the new runs alone; None where they say nothing that all runs do not: there are none."""
    if claim["new_runs"] is None or claim["verdict"] == ABSENT:
        return None
    return "not measured" if claim["new_runs"]["verdict"] == ABSENT else verdict_text(claim["new_runs"])


def _alone(claim: JudgedClaim) -> str | None:
    text = new_runs_text(claim)
    if text is None or claim["new_runs"] is None:
        return None
    differs = " (disagrees)" if claim["new_runs"]["verdict"] not in (claim["verdict"], ABSENT) else ""
    return f"by the new runs alone: {text}{differs}"
