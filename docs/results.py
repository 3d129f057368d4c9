"""Write docs/results: what the study `paper` came to, from its tables; ``python docs/results.py`` after a run.

The pages hold what the tables say and nothing typed by hand; a test compares them with the tables that are tracked.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from sharpminima.base.files import read_json
from sharpminima.figures import fig1, forest
from sharpminima.figures.style import styled
from sharpminima.report.claims import as_markdown
from sharpminima.report.tables import read_table
from sharpminima.study.jobs import Layout
from sharpminima.study.read import read_config

FOLDER = Path(__file__).parent / "results"
STUDY = "paper"
_STRATEGIES = ("gradual", "rewind", "reinit", "random-structure")
_HEADS = ("removed", "LOBSTER (G)", "1-S", "new initialisations", "random structures")
_TEXT = """\
# What came out

<!-- Written by docs/results.py from the tables of the study `paper`. -->

{outcome}

![Every comparison that decides a claim, in units of the smallest difference that matters](forest.png)

*Every comparison that decides a claim: difference and 95 % interval, in units of the smallest difference that matters
or, where a claim states a bound, of that. The shaded part of a line is where the claim wants the whole interval.*

## The claims

Each claim of the paper, its verdict by the rules of `paper/claims.yaml`, and the differences that decide it with their
95 % intervals. An asterisk stands at verdicts that survive Holm's correction over all claims. `sharpminima claims
--study paper` prints what was compared, and other readings.

{claims}

## Test errors

![Test error against the share of removed parameters](fig1.png)

Mean ± standard deviation (number of nets), in percent.
{errors}
"""


def main_text(numbers: Mapping[str, Any]) -> str:
    """The page, from the numbers of the study."""
    return _TEXT.format(
        outcome="\n".join(f"- {sentence}" for sentence in numbers["outcome"]),
        claims=as_markdown(numbers["claims"]),
        errors="\n".join(table for experiment in numbers["experiments"] for table in _errors(experiment)),
    )


def _errors(experiment: Mapping[str, Any]) -> Iterator[str]:
    dense = experiment["dense"]["test_error_percent"]
    yield f"\n**{experiment['title']}**; the dense nets err on {_stat(dense)} %.\n"
    yield f"| {' | '.join(_HEADS)} |\n|{' --- |' * len(_HEADS)}"
    for level in experiment["levels"]:
        cells = level["strategies"]
        errors = (_stat(cells[name]["test_error_percent"]) if name in cells else "–" for name in _STRATEGIES)
        yield f"| {cells['gradual']['removed_percent']['mean']:.2f} % | {' | '.join(errors)} |"


def _stat(summary: Mapping[str, Any]) -> str:
    digits = 2 if summary["mean"] < 10 else 1
    spread = "" if summary["sd"] is None else f" ± {summary['sd']:.{digits}f}"
    return f"{summary['mean']:.{digits}f}{spread} ({summary['n']})"


def write() -> None:
    """Write the page and its two figures."""
    layout = Layout(*read_config(STUDY, None))
    numbers = read_json(Path(layout.numbers()))
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / "paper.md").write_text(main_text(numbers), encoding="utf-8")
    results = read_table("results", layout.table("results"))
    drawn = {"fig1": fig1.error_against_removed(results), "forest": forest.forest(numbers["claims"])}
    for name, figure in drawn.items():
        with styled():
            figure.savefig(FOLDER / f"{name}.png", dpi=150, metadata={"Software": None})


if __name__ == "__main__":
    write()
