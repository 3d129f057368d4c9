"""The pipeline trains one net in two ways, and draws what PSP-entropy does."""

import shutil
from pathlib import Path

import pandas as pd
import pytest

from sharpminima.base.files import read_json

from .cases import ROOT, checkout, snakemake


@pytest.mark.slow
@pytest.mark.long
def test_a_study_in_two_ways_ends_with_fig7_and_the_report(tmp_path: Path) -> None:
    folder = checkout(tmp_path / "checkout")
    shutil.copy(ROOT / "tests/studies/entropy-tiny.yaml", folder / "workflow/studies")
    snakemake(folder, "--cores", "2", study="entropy-tiny")
    root = folder / "results/entropy-tiny"
    results = pd.read_csv(root / "tables/results.csv")
    assert set(results["model"]) == {"lenet300", "lenet300@plus"}
    numbers = read_json(root / "tables/numbers.json")
    plain, plus = ({e["model"]: e for e in numbers["experiments"]}[name] for name in ("lenet300", "lenet300@plus"))
    for strategy in ("G", "1-S"):
        low, high = (e["analysis"]["psp"]["entropy_1_bits"][strategy]["mean"] for e in (plain, plus))
        assert low < high
    assert len(numbers["claims"]) == 10
    assert (root / "figures/fig7.svg").stat().st_size > 10_000
    assert (folder / "paper/build/entropy-tiny.pdf").read_bytes().startswith(b"%PDF")
    assert snakemake(folder, "--cores", "2", "--dry-run", study="entropy-tiny").count("Nothing to be done") == 1
