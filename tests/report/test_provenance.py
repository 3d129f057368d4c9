"""The chain of a figure, from files that no training made: what is hashed, what follows from what, what is refused."""

import json
from pathlib import Path

import pytest
import torch

from sharpminima.base.errors import CheckpointError, SharpminimaError
from sharpminima.base.files import sha256_file, write_csv, write_text
from sharpminima.catalogue.columns import TRANSFER_COLUMNS
from sharpminima.nets.checkpoint import FORMAT_RELEASE, save_checkpoint
from sharpminima.report.provenance import chain, lines, write_chains
from sharpminima.study.jobs import EXPLORE, Layout


def test_a_chain_reaches_from_the_figure_to_the_raw_data(synthetic: Layout) -> None:
    found = chain(synthetic, "fig3")
    origins = found["origins"]
    assert found["files"] == ["results/tiny/figures/fig3.pdf", "results/tiny/figures/fig3.svg"]
    drawn = origins[found["files"][0]]
    assert "notebooks/fig3.ipynb" in drawn["from"]
    (table,) = [path for path in drawn["from"] if path.endswith(".csv.bz2")]
    assert origins[table]["step"] == "surface"
    assert origins[table]["settings"]["grid"] == 3
    ends = [path for path in origins[table]["from"] if "checkpoint" in path]
    assert ["/gradual/" in ends[0], "/rewind/" in ends[1]] == [True, True]
    assert origins[ends[0]]["settings"]["name"] == "lobster"
    assert origins[ends[0]]["mask_sha256"] == origins[ends[1]]["mask_sha256"]
    (init,) = [path for path in origins[ends[0]]["from"] if "/init/" in path]
    assert "mask_sha256" not in origins[init]
    (data,) = origins[init]["from"]
    assert origins[data]["sha256"] == "d" * 64
    assert list(origins[data]["raw_sha256"]) == ["sklearn.datasets.load_digits"]
    for path, node in origins.items():
        if node["kind"] != "data":
            assert node["sha256"] == sha256_file(path), path


def test_the_page_of_a_study_has_a_chain_through_those_of_its_figures(synthetic: Layout) -> None:
    for path in [*synthetic.explore_job().inputs, synthetic.explorer()]:
        if not Path(path).exists():
            write_text(path, path)
    for path in synthetic.transfer_tables():
        write_csv(path, [dict.fromkeys(TRANSFER_COLUMNS) | {"to_sha256": "t" * 64}], TRANSFER_COLUMNS)
    found = chain(synthetic, EXPLORE)
    origins = found["origins"]
    assert found["files"] == ["results/tiny/explore.html"]
    page = origins[found["files"][0]]
    assert (page["kind"], page["step"], page["sha256"]) == ("page", "explore", sha256_file(found["files"][0]))
    assert {"results/tiny/tables/results.csv", "results/tiny/figures/fig1.json"} <= set(page["from"])
    assert origins["results/tiny/figures/fig1.json"]["step"] == "provenance"
    assert "results/tiny/figures/fig1.svg" in origins["results/tiny/figures/fig1.json"]["from"]
    assert "src/sharpminima/explore/page/charts.js" in page["from"]
    assert next(lines(found)) == f"explore of study tiny, sharpminima {FORMAT_RELEASE}"


def test_a_chain_holds_what_the_figure_needs_and_nothing_else(synthetic: Layout) -> None:
    checkpoints = {
        name: [path for path, node in chain(synthetic, name)["origins"].items() if node["kind"] == "checkpoint"]
        for name in ("fig1", "fig3")
    }
    assert any("/reinit/" in path for path in checkpoints["fig1"])
    assert not any("/reinit/" in path or "/dense/" in path for path in checkpoints["fig3"])
    assert len(checkpoints["fig3"]) == 3  # W0, G, 1-S


def test_the_json_beside_a_figure_is_the_same_in_another_place(synthetic: Layout, tmp_path: Path) -> None:
    write_chains(synthetic, ["fig1", "fig3"])
    first = Path(synthetic.provenance("fig3")).read_bytes()
    assert json.loads(first) == chain(synthetic, "fig3")
    assert str(tmp_path).encode() not in first
    write_chains(synthetic, ["fig3"])
    assert Path(synthetic.provenance("fig3")).read_bytes() == first


def test_a_chain_names_the_release_that_its_checkpoints_record(synthetic: Layout) -> None:
    # Not the one that runs: chains are attached to the PDF, whose hash is recorded.
    assert chain(synthetic, "fig1")["package"] == {"name": "sharpminima", "version": FORMAT_RELEASE}


def test_the_printed_chain_names_each_file_once(synthetic: Layout) -> None:
    found = chain(synthetic, "fig2")
    printed = list(lines(found))
    for path in found["origins"]:
        assert sum(f" {path}: sha256" in line for line in printed) == 1, path


def test_what_is_missing_damaged_or_mixed_is_refused(synthetic: Layout) -> None:
    with pytest.raises(SharpminimaError, match="fig9: study tiny has no such figure; it draws fig1"):
        chain(synthetic, "fig9")
    path = Path(synthetic.cell(**next(synthetic.cells(synthetic.study.experiments[0])).key))
    before = path.read_bytes()
    path.write_bytes(before[:-1] + bytes([before[-1] ^ 1]))
    with pytest.raises(CheckpointError, match="is damaged"):
        chain(synthetic, "fig1")
    save_checkpoint(path, [{"weight": torch.ones(2)}], metadata={"dataset_sha256": "e" * 64})
    with pytest.raises(SharpminimaError, match=r"was trained on other data \(eeeeeeeeeeee\)"):
        chain(synthetic, "fig1")
    path.write_bytes(before)
    Path(synthetic.table("results")).unlink()
    with pytest.raises(SharpminimaError, match=r"results\.csv: is missing; run `snakemake`, or `dvc pull`"):
        chain(synthetic, "fig1")
