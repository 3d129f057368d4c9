"""What came out, in sentences without numbers: the report's abstract and the README begin with them."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence, Set
from typing import Any

from sharpminima.report.claims import ABSENT, NOT_REPRODUCED, REPRODUCED, UNDECIDED, Result, deciding_results
from sharpminima.report.titles import title_of_net

_SENTENCES: tuple[dict[str, tuple[str, str, str]], ...] = (
    {
        "retraining-fails": (
            "At the highest compression retraining does fall behind gradual pruning, as the paper says",
            "At the highest compression retraining does not fall behind gradual pruning, against the paper",
            "Whether retraining falls behind gradual pruning at the highest compression, these runs cannot tell",
        ),
        "original-initialisation": (
            "the original initialisation is better than a new one",
            "the original initialisation is no better than a new one",
            "whether the original initialisation is better than a new one stays open",
        ),
    },
    {
        "sharper": (
            "The gradually pruned nets do lie in sharper minima, by the largest eigenvalue of the Hessian of all "
            "parameters",
            "The gradually pruned nets do not lie in sharper minima",
            "Whether the gradually pruned nets lie in sharper minima stays open",
        ),
        "generalises-well": (
            "these minima generalise well",
            "these minima do not generalise well",
            "how well these minima generalise is not decided for every net",
        ),
    },
    {
        "higher-second-order": (
            "Their second-order PSP-entropy is higher",
            "A higher second-order PSP-entropy, by which the paper explains this, is not there",
            "Whether their second-order PSP-entropy is higher stays open",
        ),
        "comparable-first-order": (
            "the first-order entropies of both are alike",
            "the first-order entropies of both differ",
            "whether the first-order entropies of both are alike stays open",
        ),
    },
)
"""Sentences of two parts: claim -> what is said where it is reproduced, is not, and is undecided."""
_FORMS = (REPRODUCED, NOT_REPRODUCED, UNDECIDED)


def outcome(claims: Iterable[Mapping[str, Any]], *, of_paper: bool = True) -> list[str]:
    """Sentences on the paper's main claims, as far as the study has them, and one that counts the verdicts on all.

    Where the paper states a claim for some of the study's nets only, the sentence names them and says how the others
    came out, as it does where another reading of the claim comes to the opposite, or the new runs alone to another
    verdict.

    Args:
        claims: with ``id``, ``verdict`` and ``results``, and ``new_runs`` where there are any.
        of_paper: whether they are the paper's; those of another ledger are counted alone.

    >>> outcome([{"id": "sharper", "verdict": "reproduced", "results": []}])[0]
    'The gradually pruned nets do lie in sharper minima, by the largest eigenvalue of the Hessian of all parameters.'
    """
    judged = {claim["id"]: claim for claim in claims}
    sentences = []
    for parts in _SENTENCES:
        said = [
            forms[_FORMS.index(claim["verdict"])] + _reach(claim)
            for name, forms in parts.items()
            if (claim := judged.get(name)) and claim["verdict"] in _FORMS
        ]
        if said:
            text = "; ".join(said)
            sentences.append(f"{text[0].upper()}{text[1:]}.")
    return [*sentences, _counted(list(judged.values()), "the paper's " if of_paper else "")]


def _reach(claim: Mapping[str, Any]) -> str:
    """Of which nets a verdict speaks where those are not all, and what speaks against it, the new runs too."""
    results: list[Result] = claim["results"]
    decided = {_net(result) for result in deciding_results(results)}
    notes = [] if claim["verdict"] == UNDECIDED or not decided else _beside(claim["verdict"], results, decided)
    alone = claim.get("new_runs")
    if alone and alone["verdict"] not in (claim["verdict"], ABSENT):
        notes.append(f"by the new runs alone {alone['verdict']}")
    return f" ({'; '.join(notes)})" if notes else ""


def _beside(verdict: str, results: Sequence[Result], decided: Set[str]) -> list[str]:
    """How other nets and other readings came out beside the verdict on the nets that decide it."""
    notes = []
    opposite = REPRODUCED if verdict == NOT_REPRODUCED else NOT_REPRODUCED
    if others := [result for result in results if not (result["stated"] or result["sensitivity"])]:
        notes.append(f"judged on {_listed(decided)}")
        ways = {verdict: "likewise on", opposite: "the contrary on", UNDECIDED: "undecided on"}
        for found, way in ways.items():
            if nets := {_net(result) for result in others if result["verdict"] == found}:
                notes.append(f"{way} {_listed(nets)}")
    readings = [result for result in results if result["sensitivity"] and _net(result) in decided]
    against = {
        f"{result['detail']} ({result['remark']})" if result["remark"] else result["detail"]
        for result in readings
        if result["verdict"] == opposite
    }
    if against:
        several = "other readings" if len(against) > 1 else "another reading"
        notes.append(f"{opposite} by {several}: {', and '.join(sorted(against))}")
    return notes


def _listed(names: Iterable[str]) -> str:
    *others, last = sorted(names)
    return f"{', '.join(others)} and {last}" if others else last


def _net(result: Result) -> str:
    return title_of_net(result["model"], result["dataset"])


def _counted(claims: Sequence[Mapping[str, Any]], whose: str) -> str:
    """How many claims have each verdict."""
    verdicts = Counter(claim["verdict"] for claim in claims)
    reproduced, refuted, undecided, absent = (verdicts[verdict] for verdict in (*_FORMS, ABSENT))
    beyond = f"; {absent} {_are(absent)} outside this study" if absent else ""
    survive = sum(claim.get("holm") is True for claim in claims)
    corrected = f". {survive} of these verdicts survive{'s' * (survive == 1)} Holm's correction over all claims"
    return (
        f"Of {whose}{len(claims)} claims {reproduced} {_are(reproduced)} reproduced, {refuted} not "
        f"reproduced and {undecided} undecided{beyond}{corrected if reproduced + refuted else ''}."
    )


def _are(count: int) -> str:
    return "is" if count == 1 else "are"
