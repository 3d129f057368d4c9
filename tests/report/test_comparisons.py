"""What decides a claim, and what a comparison is called, alike in the table of the claims and in the forest plot."""

from typing import Any

import pytest

from sharpminima.figures.forest import forest
from sharpminima.report.claims import as_markdown, as_text, comparison_title, deciding_results


def comparison(**changed: Any) -> Any:
    """A comparison of LeNet-5 on MNIST, 0.3 [0.1, 0.5]."""
    return {
        **{"dataset": "mnist", "model": "lenet5", "method": "lobster", "stated": True, "sensitivity": False},
        **{"carried_from": None, "brief": "", "detail": "one", "values": [], "verdict": "reproduced", "side": "above"},
        **{"interval": {"mean": 0.3, "low": 0.1, "high": 0.5}, "bound": 0.0, "margin": 0.2},
        **changed,
    }


def test_other_nets_and_other_readings_decide_nothing() -> None:
    own = comparison()
    results = [own, comparison(stated=False), comparison(sensitivity=True), comparison(stated=False, sensitivity=True)]
    assert deciding_results(results) == [own]


@pytest.mark.parametrize(
    ("brief", "title"), [("", "LeNet-5 on MNIST"), ("then Fashion-MNIST", "LeNet-5 on MNIST, then Fashion-MNIST")]
)
def test_table_and_figure_call_a_comparison_the_same(brief: str, title: str) -> None:
    result = comparison(brief=brief)
    claim: Any = {
        **{"id": "it", "source": "Sec. 4", "says": "It holds.", "verdict": "reproduced", "holm": None},
        **{"remark": None, "needed": None, "missing": [], "new_runs": None, "results": [result]},
    }
    assert comparison_title(result) == title
    assert f"| {title}: +0.30 [+0.10, +0.50] |" in as_markdown([claim])
    assert title in [text.get_text() for text in forest([claim]).axes[0].texts]


def test_halves_are_rounded_as_in_the_report() -> None:
    result = comparison(
        interval={"mean": 0.285, "low": 0.125, "high": 0.445},
        values=[{"name": "G", "unit": "%", "mean": 2.155, "sd": 0.09, "n": 10}],
    )
    claim: Any = {
        **{"id": "it", "source": "Sec. 4", "says": "It holds.", "verdict": "reproduced", "holm": None},
        **{"remark": None, "needed": None, "missing": [], "new_runs": None, "results": [result]},
    }
    assert "LeNet-5 on MNIST: +0.29 [+0.13, +0.45] points" in as_markdown([claim])
    assert "G 2.16 ± 0.09 % (n = 10), difference 0.285 [0.125, 0.445] points" in as_text([claim])
