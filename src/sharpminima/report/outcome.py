"""What came out, in sentences without numbers: the report's abstract and the README begin with them."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from sharpminima.report.claims import ABSENT, NOT_REPRODUCED, REPRODUCED, UNDECIDED

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
            "The gradually pruned nets do lie in sharper minima, by the largest eigenvalues of the Hessian",
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


def outcome(claims: Iterable[Mapping[str, Any]]) -> list[str]:
    """Sentences on the paper's main claims, as far as the study has them, and one that counts the verdicts on all.

    Args:
        claims: with ``id`` and ``verdict``.

    >>> outcome([{"id": "sharper", "verdict": "reproduced"}, {"id": "other", "verdict": "undecided"}])[0]
    'The gradually pruned nets do lie in sharper minima, by the largest eigenvalues of the Hessian.'
    """
    verdicts = {claim["id"]: claim["verdict"] for claim in claims}
    sentences = []
    for parts in _SENTENCES:
        said = [forms[_FORMS.index(verdicts[claim])] for claim, forms in parts.items() if verdicts.get(claim) in _FORMS]
        if said:
            text = "; ".join(said)
            sentences.append(f"{text[0].upper()}{text[1:]}.")
    return [*sentences, _counted(Counter(verdicts.values()))]


def _counted(verdicts: Mapping[str, int]) -> str:
    """How many claims have each verdict."""
    reproduced, refuted, undecided, absent = (verdicts.get(verdict, 0) for verdict in (*_FORMS, ABSENT))
    beyond = f"; {absent} {_are(absent)} outside this study" if absent else ""
    return (
        f"Of the paper's {sum(verdicts.values())} claims {reproduced} {_are(reproduced)} reproduced, {refuted} not "
        f"reproduced and {undecided} undecided{beyond}."
    )


def _are(count: int) -> str:
    return "is" if count == 1 else "are"
