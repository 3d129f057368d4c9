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
            "The gradually pruned nets do lie in sharper minima, by the largest eigenvalue of the Hessian",
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
_OPPOSITE = {REPRODUCED: NOT_REPRODUCED, NOT_REPRODUCED: REPRODUCED}
_CONTESTED = {
    "sharper": "Whether the gradually pruned nets lie in sharper minima depends on the measure: by the paper's, the "
    "largest eigenvalue of the Hessian of all parameters, they do"
}
"""What is said in place of the first where a claim is reproduced and another reading comes to the opposite."""

_FEW = 3  # claims that are quoted; the tables have all


def outcome(claims: Iterable[Mapping[str, Any]], *, of_paper: bool = True) -> list[str]:
    """Sentences on the paper's main claims, as far as the study has them, and on the verdicts on all.

    The last says how many came out how, and which of the others are refuted or outside the study. Where the paper
    states a claim for some of the study's nets only, the sentence names them and says how the others came out, as it
    does where another reading of the claim comes to the opposite, the new runs alone to another verdict, or Holm's
    correction to none.

    Args:
        claims: with ``id``, ``verdict`` and ``results``, and ``new_runs`` where there are any.
        of_paper: whether they are the paper's; those of another ledger are counted alone.

    >>> outcome([{"id": "sharper", "verdict": "reproduced", "results": []}])[0]
    'The gradually pruned nets do lie in sharper minima, by the largest eigenvalue of the Hessian.'
    """
    judged = {claim["id"]: claim for claim in claims}
    sentences = []
    for parts in _SENTENCES:
        said = [
            _form(claim, forms, against) + _reach(claim, against)
            for name, forms in parts.items()
            if (claim := judged.get(name)) and claim["verdict"] in _FORMS
            for against in [_against(claim)]
        ]
        if said:
            text = "; ".join(said)
            sentences.append(f"{text[0].upper()}{text[1:]}.")
    return [*sentences, _counted(list(judged.values()), "the paper's " if of_paper else "") + _others(judged)]


def _form(claim: Mapping[str, Any], forms: tuple[str, str, str], against: Set[str]) -> str:
    form = forms[_FORMS.index(claim["verdict"])]
    return _CONTESTED.get(claim["id"], form) if claim["verdict"] == REPRODUCED and against else form


def _reach(claim: Mapping[str, Any], against: Set[str]) -> str:
    """Of which nets a verdict speaks where those are not all, and what speaks against it, the new runs too."""
    results: list[Result] = claim["results"]
    decided = {_net(result) for result in deciding_results(results)}
    notes = [] if claim["verdict"] == UNDECIDED or not decided else _beside(claim["verdict"], results, decided, against)
    if claim.get("holm") is False and claim["verdict"] != UNDECIDED:
        notes.append("not by Holm's correction for all claims")
    alone = claim.get("new_runs")
    if alone and alone["verdict"] not in (claim["verdict"], ABSENT):
        notes.append(f"by the new runs alone {alone['verdict']}")
    return f" ({'; '.join(notes)})" if notes else ""


def _beside(verdict: str, results: Sequence[Result], decided: Set[str], against: Set[str]) -> list[str]:
    """How other nets and other readings came out beside the verdict on the nets that decide it."""
    notes = []
    opposite = _OPPOSITE[verdict]
    if others := [result for result in results if not (result["stated"] or result["sensitivity"])]:
        notes.append(f"judged on {_listed(decided)}")
        ways = {verdict: "likewise on", opposite: "the contrary on", UNDECIDED: "undecided on"}
        found_on = {
            way: {_net(result) for result in others if result["verdict"] == found} for found, way in ways.items()
        }
        said = {way: nets for way, nets in found_on.items() if nets}
        for way, nets in said.items():
            alike = len(said) == 1 and len(nets) > 1
            notes.append(f"{way} {'the other nets' if alike else _listed(nets)}")
    if len(against) == 1:
        notes.append(f"{opposite} by another reading: {next(iter(against))}")
    elif against:
        notes.append(f"{opposite} by {len(against)} other readings")
    return notes


def _against(claim: Mapping[str, Any]) -> set[str]:
    """Other readings on the nets that decide a claim which come to the opposite of its verdict."""
    results: list[Result] = claim["results"]
    decided = {_net(result) for result in deciding_results(results)}
    opposite = _OPPOSITE.get(claim["verdict"])
    return {
        f"{result['detail']} ({result['remark']})" if result["remark"] else result["detail"]
        for result in results
        if result["sensitivity"] and _net(result) in decided and result["verdict"] == opposite
    }


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


def _others(judged: Mapping[str, Mapping[str, Any]]) -> str:
    """The claims that no sentence has told of and that are refuted, or outside the study; none of a long list."""
    told = {name for parts in _SENTENCES for name in parts}
    said = ""
    for verdict, head in ((NOT_REPRODUCED, "Not reproduced"), (ABSENT, "Outside this study")):
        claims = {name: claim["says"] for name, claim in judged.items() if claim["verdict"] == verdict}
        others = [f"“{says}”" for name, says in claims.items() if name not in told]
        if 0 < len(others) <= _FEW:
            said += f" {head}{' too' * (len(others) < len(claims))}: {' '.join(others)}"
    return said


def _are(count: int) -> str:
    return "is" if count == 1 else "are"
