"""Write docs/results: what the studies came to, in pages and figures; ``python docs/results.py`` after a run.

The pages hold what the tables say and nothing typed by hand; a test compares them with the tables that are tracked.
"""

from pathlib import Path
from typing import Any

from result_pages import entropy, methods, paper
from sharpminima.base.files import read_json
from sharpminima.figures import fig1, fig7, forest, modifications
from sharpminima.figures.methods import methods_compared
from sharpminima.figures.style import styled
from sharpminima.report.tables import read_table
from sharpminima.study.jobs import Layout
from sharpminima.study.read import read_config

FOLDER = Path(__file__).parent / "results"


def write() -> None:
    """Write the pages and their figures."""
    layout, of_paper = _numbers_of("paper")
    _, of_entropy = _numbers_of("entropy")
    pages = {"paper": paper.page(of_paper), "entropy": entropy.page(of_entropy), "methods": methods.page()}
    for name, text in pages.items():
        (FOLDER / f"{name}.md").write_text(text, encoding="utf-8")
    published, thesis = methods.published_errors(), methods.results_of("thesis-table31")
    drawn = {
        "fig1": fig1.error_against_removed(read_table("results", layout.table("results"))),
        "forest": forest.forest(of_paper["claims"]),
        "entropy": fig7.against_beta(of_entropy),
        "methods-mnist": methods_compared(methods.results_of("methods-mnist"), published),
        "thesis-table31": modifications.modifications(thesis, methods.published_accuracies()),
        "methods-epochs": methods_compared(methods.results_of("methods-epochs")),
    }
    for name, figure in drawn.items():
        with styled():
            figure.savefig(FOLDER / f"{name}.png", dpi=150, metadata={"Software": None})


def _numbers_of(study: str) -> tuple[Layout, dict[str, Any]]:
    layout = Layout(*read_config(study, None))
    return layout, read_json(Path(layout.numbers()))


if __name__ == "__main__":
    write()
