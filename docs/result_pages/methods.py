"""The page on the pruning methods compared: tables and sentences from what finished runs measured (paper/measured)."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd

from sharpminima.base.names import level_name
from sharpminima.catalogue.methods import METHODS
from sharpminima.report.methods_table import COLLAPSED, UNREACHED, as_markdown, published_as_markdown, sizes_as_markdown
from sharpminima.report.published import beside_published
from sharpminima.report.rounding import fixed
from sharpminima.report.tables import ranking, read_table
from sharpminima.report.titles import title_of_net

ROOT = Path(__file__).parents[2]
MEASURED = ROOT / "paper/measured"
_FIRST = 8  # methods that a sentence names as those of the lowest errors
_CHANCE = 80  # percent: of ten classes, what errs more has learnt next to nothing
_TEXT = (Path(__file__).parent / "methods.md.in").read_text(encoding="utf-8")


def results_of(study: str) -> pd.DataFrame:
    """The results table of a study of methods, as its runs wrote it."""
    return read_table("results", MEASURED / f"{study}.csv")


def measures_of(study: str) -> pd.DataFrame:
    """The table of measures of such a study."""
    return read_table("measures", MEASURED / f"{study}-measures.csv")


def published_errors() -> pd.DataFrame:
    """What others have published for nets on MNIST."""
    return read_table("published_errors", ROOT / "paper/published/mnist-pruned.csv")


def published_accuracies() -> pd.DataFrame:
    """What Mikler's thesis has published in its table 3.1."""
    return read_table("published", ROOT / "paper/published/mikler-table31.csv")


def page() -> str:
    """The page, from the tracked tables."""
    mnist, epochs = ranking(results_of("methods-mnist")), ranking(results_of("methods-epochs"))
    beside = beside_published(results_of("methods-mnist"), published_errors())
    return _TEXT.format(
        thesis=_thesis(),
        mnist=as_markdown(mnist),
        marks=f"{UNREACHED} level not reached by all runs, at the strengths that were tried; {COLLAPSED} collapsed.",
        mnist_in_words="\n".join(_in_words(mnist)),
        sizes=sizes_as_markdown(measures_of("methods-mnist")),
        beside=published_as_markdown(beside[beside["source"].notna()]),
        recipes=_recipes(),
        epochs=as_markdown(epochs),
        epochs_in_words="\n".join(_in_words(epochs)),
        published=published_as_markdown(pd.read_csv(MEASURED / "methods-published.csv")),
    )


def _in_words(ranked: pd.DataFrame) -> Iterator[str]:
    """An item a net: the lowest errors at its highest level, and what has no rank there."""
    for (dataset, model), rows in ranked.groupby(["dataset", "model"], sort=False):
        top = rows[rows["level"] == rows["level"].max()]
        placed = top[top["rank"].notna()].sort_values("rank")
        first = [f"`{row.method}` ({fixed(row.error_mean, 2)})" for row in placed.head(_FIRST).itertuples()]
        said = [f"the lowest mean errors are those of {_joined(first)}"]
        kinds = (
            placed.assign(kind=[METHODS[name].kind for name in placed["method"]]).groupby("kind", sort=False).head(1)
        )
        best = [f"{row.kind} `{row.method}` ({fixed(row.error_mean, 2)})" for row in kinds.itertuples()]
        said.append(f"the best of each kind: {_joined(best)}")
        for which, what in (
            (~top["reached"].astype(bool), "not reached by"),
            (top["collapsed"].astype(bool), "collapsed:"),
            (top["error_mean"] > _CHANCE, f"above {_CHANCE} % error:"),
        ):
            names = [f"`{name}`" for name in sorted(top[which]["method"])]
            if names:
                said.append(f"{what} {_joined(names)}")
        yield f"- {title_of_net(model, dataset)}, {level_name(1 - top['level'].iloc[0])} % left: {'; '.join(said)}."


def _joined(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _thesis() -> str:
    accuracy = pd.read_csv(MEASURED / "thesis-table31.csv")
    ours = (100 - accuracy.set_index("strategy")["test_error_percent"]).groupby("strategy")
    lines = ["| strategy | thesis | ours |", "| --- | --- | --- |"]
    for row in published_accuracies().itertuples():
        own = ours.get_group(row.strategy)
        theirs = f"{row.accuracy_percent:.3f} ± {row.spread_percent:.3f}"
        lines.append(f"| `{row.strategy}` | {theirs} | {fixed(own.mean(), 3)} ± {fixed(own.std(), 3)} |")
    return "\n".join(lines)


def _recipes() -> str:
    """Errors of run 0 by three recipes: plain, with momentum, with momentum and weight decay."""
    trials = pd.read_csv(MEASURED / "authors-recipe.csv").query("initialisation == 'default'")
    published = published_errors().query("model == 'lenet300'").set_index(["method", "density_percent"])
    lines = [
        "| method at | published | plain, few epochs | 60 epochs, momentum | and weight decay 5e-4 |",
        "| --- | --- | --- | --- | --- |",
    ]
    for (method, sparsity), rows in trials.groupby(["method", "sparsity"]):
        longer = rows.sort_values(["momentum", "weight_decay"])
        left = round(100 * (1 - sparsity))
        errors = [f"{error:.2f}" for error in longer["test_error_percent"]]
        theirs = f"{published.loc[(method, left), 'error_percent']:.2f}"
        lines.append(f"| `{method}`, {left} % | {theirs} | {' | '.join(errors)} |")
    return "\n".join(lines)
