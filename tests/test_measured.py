"""The measured numbers in the documentation are those of the tables beside it."""

import re
from pathlib import Path

import pandas as pd
import pytest

DOCS = Path("docs/methods.md")
MEASURED = Path("paper/measured")


def test_the_thesis_table_is_that_of_the_runs() -> None:
    results = pd.read_csv(MEASURED / "thesis-table31.csv")
    published = pd.read_csv("paper/published/mikler-table31.csv").set_index("strategy")
    accuracy = 100 - results.set_index("strategy")["test_error_percent"]
    line = re.compile(r"^\| `([a-z-]+)` \| ([\d.]+) ± ([\d.]+) \| ([\d.]+) ± ([\d.]+) \|$", flags=re.MULTILINE)
    rows = {name: [float(value) for value in values] for name, *values in line.findall(DOCS.read_text("utf-8"))}
    assert set(rows) == set(published.index)
    for name, row in rows.items():
        ours = accuracy[name]
        assert len(ours) == 5
        assert row[:2] == published.loc[name, ["accuracy_percent", "spread_percent"]].tolist()
        assert row[2:] == pytest.approx([ours.mean(), ours.std()], abs=5e-4), name
    # Each net is at the level, and each strategy's of another seed.
    pruned = results[results.strategy != "dense"]
    assert pruned.sparsity.between(0.9599, 0.9601).all()
    assert (pruned.groupby("strategy")["seed"].nunique() == 5).all()
