"""The claims of the paper as a list that filters, each verdict with the comparisons behind it."""

from collections.abc import Sequence
from html import escape
from typing import Any

from sharpminima.report.claims import VERDICTS, measured_text, new_runs_text, verdict_text
from sharpminima.report.titles import title_of_net

_MARKS = {"reproduced": "✓", "not reproduced": "✗", "undecided": "?", "not in this study": "–"}


def claims_list(claims: Sequence[Any]) -> str:
    """HTML: filters, and a claim each with its verdict, which opens to its comparisons.

    Args:
        claims: those of the numbers file, as `sharpminima.report.claims.judge` has them.
    """
    switches = "".join(
        f'<label class=switch><input type=checkbox name=verdict value="{verdict}" checked>'
        f'<span class="verdict {_class(verdict)}">{_MARKS[verdict]} {verdict}</span> '
        f"{sum(claim['verdict'] == verdict for claim in claims)}</label>"
        for verdict in VERDICTS
    )
    return (
        f"<form id=claims-filter><fieldset><legend>Verdicts</legend>{switches}</fieldset>"
        "<label class=one>Words <input type=search name=words placeholder='entropy, LeNet-5, …'></label></form>"
        "<p id=claims-count role=status></p>" + "\n".join(map(_claim, claims))
    )


def _claim(claim: Any) -> str:
    verdict = claim["verdict"]
    alone = new_runs_text(claim)
    remarks = [verdict_text(claim)]
    if claim["holm"] is not None and verdict != "undecided":
        remarks.append(f"{'survives' if claim['holm'] else 'does not survive'} Holm's correction over all claims")
    if alone:
        remarks.append(f"by the new runs alone: {alone}")
    return (
        f'<details class=claim data-verdict="{verdict}"><summary><span class="verdict {_class(verdict)}">'
        f"{_MARKS[verdict]} {verdict}</span> {escape(claim['says'])} "
        f"<small>{escape(claim['source'])}; {escape(claim['id'])}</small></summary>"
        f"<p>{escape('; '.join(remarks))}.</p>{_comparisons(claim['results'])}</details>"
    )


def _comparisons(results: Sequence[Any]) -> str:
    if not results:
        return "<p>No comparison of this study bears on it.</p>"
    rows = "".join(
        f"<tr><td>{escape(title_of_net(result['model'], result['dataset']))}, {escape(result['method'])}"
        f"<td>{escape(result['detail'])}<td>{escape(measured_text(result))}"
        f"<td>{_bearing(result)}<td>{escape(verdict_text(result))}"
        for result in results
    )
    heads = "<tr><th>net<th>comparison<th>measured<th>decides<th>verdict"
    return f'<div class="wide"><table>{heads}{rows}</table></div>'


def _bearing(result: Any) -> str:
    if result["sensitivity"]:
        return "no: another reading"
    return "yes" if result["stated"] else "no: the paper states it of other nets"


def _class(verdict: str) -> str:
    return verdict.replace(" ", "-")
