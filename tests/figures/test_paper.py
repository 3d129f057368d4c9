import json
import re
import shutil
from pathlib import Path

import pandas as pd
import pytest
import typst

from sharpminima.base.errors import FigureError
from sharpminima.base.files import write_json
from sharpminima.figures import fig1, fig2, fig3, fig4, fig5, fig6, style
from sharpminima.report import tables
from sharpminima.report.numbers import summarise
from sharpminima.report.paper import compile_paper
from sharpminima.study.read import load_config
from sharpminima.study.schema import CLAIMS

from . import cases

SOURCE = Path("paper/paper.typ")


@pytest.fixture(scope="module")
def study():
    config = {"study": "demo", "device": "cpu", "threads": 1, "data": {"root": None}, "results": "results"}
    return {"name": "demo", **load_config(config)[1].model_dump(mode="json", by_alias=True)}


@pytest.fixture(scope="module")
def whole(tmp_path_factory, study):
    """Numbers and figures of a study with everything."""
    folder = tmp_path_factory.mktemp("whole")
    results = cases.write(folder, "results", cases.results() + cases.results(model="lenet300"))
    psp = [cases.write(folder, "psp", cases.psp(seed=s), f"psp-{s}") for s in cases.SEEDS]
    hessian = [cases.write(folder, "hessian", cases.hessian(seed=s), f"hessian-{s}") for s in cases.SEEDS]
    surface = cases.write(folder, "surface", cases.surface())
    transfer = [cases.write(folder, "transfer", cases.transfer(seed=s), f"transfer-{s}") for s in cases.SEEDS]
    style.save_figure(fig6.transfer_errors(tables.read_table("transfer", transfer)), folder / "fig6")
    barrier = [cases.write(folder, "barrier", cases.barrier(seed=s), f"barrier-{s}") for s in cases.SEEDS]
    lines = [cases.write(folder, "line", cases.line(seed=s), f"line-{s}") for s in cases.SEEDS]
    measured = {"psp": psp, "hessian": hessian, "surface": [surface], "barrier": barrier, "line": lines}
    summarise(results, measured, CLAIMS, study, folder / "numbers.json", transfer=transfer)
    plane, line = tables.read_table("surface", surface), tables.read_table("line", lines)
    style.save_figure(fig1.error_against_removed(tables.read_table("results", results)), folder / "fig1")
    neurons = tables.read_table("neurons", cases.write(folder, "neurons", cases.neurons()))
    style.save_figure(fig2.loss_plane(plane, tables.read_table("hessian", hessian), line), folder / "fig2")
    style.save_figure(fig5.class_entropies(tables.read_table("psp", psp[0]), neurons), folder / "fig5")
    style.save_figure(fig3.norm_plane(plane), folder / "fig3")
    style.save_figure(fig4.entropy_plane(plane), folder / "fig4")
    return folder


@pytest.mark.slow
def test_the_paper_of_a_whole_study_is_the_same_twice(whole, tmp_path):
    figures = [whole / f"fig{index}.svg" for index in (1, 2, 3, 4, 5, 6)]
    for name in ("first", "second"):
        compile_paper(SOURCE, whole / "numbers.json", figures, tmp_path / f"{name}.pdf")
    first = (tmp_path / "first.pdf").read_bytes()
    assert first.startswith(b"%PDF")
    assert first == (tmp_path / "second.pdf").read_bytes()


def test_the_paper_of_a_study_with_fig1_only(whole, study, tmp_path):
    facts = {**study, "seeds": [0], "figures": ["fig1"], "focus": None}
    results = cases.write(tmp_path, "results", cases.results(seeds=(0,), replicas=1, levels=(0.5,), dataset="mnist"))
    summarise(results, {}, CLAIMS, facts, tmp_path / "numbers.json")
    compile_paper(SOURCE, tmp_path / "numbers.json", [whole / "fig1.svg"], tmp_path / "paper.pdf")
    assert (tmp_path / "paper.pdf").read_bytes().startswith(b"%PDF")


def test_notes_claims_and_what_others_published_stand_beside_the_results(whole, study, tmp_path):
    _copy_source(tmp_path)
    facts = {**study, "seeds": [0], "figures": [], "focus": None, "notes": ["Chosen on the validation split."]}
    levels = (0.9, 0.95, 0.98, 0.996)  # the second shares the third's state; and a tenth less left than asked for
    rows = cases.results(seeds=(0,), replicas=1, levels=levels, dataset="mnist")
    results = cases.write(tmp_path, "results", rows)
    summarise(results, {}, CLAIMS, facts, tmp_path / "numbers.json")
    found = _query(tmp_path, "<published>")
    assert len(found) == 1
    cells = [_text(cell["body"]) for cell in found[0]["body"]["children"] if cell["func"] == "cell"]
    shown = {row[2:5] for row in zip(*[iter(cells)] * 6, strict=True)}
    published = pd.read_csv(SOURCE.parent / "published/mnist-pruned.csv", dtype=str)
    published = published.query("model == 'lenet5' and reference.notna()")
    nearest = {"8.33": "9.00", "2": "1.80", "1": "1.80", "0.93": "1.80"}
    for row in published.itertuples():
        left = nearest.get(row.density_percent, "0.36")
        assert (row.density_percent, row.error_percent, left) in shown, row
    assert set(published.reference) <= set(re.findall(r"@\w+\{(\w+),", (tmp_path / "references.bib").read_text()))
    told = "".join(_text(found["children"]) for found in _query(tmp_path, "list") if "children" in found)
    assert "Chosen on the validation split." in told
    assert "At low compression retraining recovers the original accuracy. Here: undecided." in told  # of Fig. 1
    assert "The PSP norm is lower at G" not in told  # of Fig. 3, which this study lacks


@pytest.mark.slow
def test_a_net_by_another_setting_has_a_table_of_its_own(study, tmp_path):
    _copy_source(tmp_path)
    rows = cases.results(dataset="mnist") + cases.results(dataset="mnist", model="lenet5@authors", seeds=(0, 1))
    summarise(cases.write(tmp_path, "results", rows), {}, CLAIMS, study, tmp_path / "numbers.json")
    headings = [_text(heading["body"]) for heading in _query(tmp_path, "heading")]
    assert "LeNet-5 on MNIST by the authors' own setting (TWT 0.05, PWE 20)" in headings
    (found,) = _query(tmp_path, "<by-authors>")
    cells = [_text(cell["body"]) for cell in found["body"]["children"] if cell["func"] == "cell"]
    claims = {row[0]: row[1:3] for row in zip(*[iter(cells)] * 4, strict=True)}
    gap = "At high compression retraining the pruned structure does not reach the low error of gradual pruning."
    assert claims[gap] == ("reproduced", "reproduced")


@pytest.mark.slow
def test_what_would_change_a_verdict_is_said_of_each_claim(study, tmp_path):
    _copy_source(tmp_path)
    rows = cases.results(dataset="mnist") + cases.results(dataset="mnist", model="lenet300")
    summarise(cases.write(tmp_path, "results", rows), {}, CLAIMS, study, tmp_path / "numbers.json")
    (found,) = _query(tmp_path, "<change>")
    cells = [_text(cell["body"]) for cell in found["body"]["children"] if cell["func"] == "cell"]
    said = {row[0]: row[1:] for row in zip(*[iter(cells)] * 3, strict=True)}
    claims = json.loads((tmp_path / "numbers.json").read_text())["claims"]
    assert list(said) == [claim["says"] for claim in claims]
    decided = 0
    for claim in claims:
        own = [result for result in claim["results"] if result["stated"] and not result["sensitivity"]]
        verdict, change = said[claim["says"]]
        assert verdict.startswith(claim["verdict"])
        if claim["verdict"] == "undecided":
            assert all(result["needed"]["says"] in change for result in own if result["needed"]), change
            continue
        ratios = [
            abs(interval["mean"] - result["bound"]) / ((interval["high"] - interval["low"]) / 2)
            for result in own
            if result["verdict"] == claim["verdict"] and (interval := result["interval"]) and interval["high"]
            if interval["high"] > interval["low"]
        ]
        plain = all(result["side"] != "within" and result["remark"] is None for result in own)
        if ratios and plain:
            # A claim falls with the first of its comparisons, a refutation with the last.
            furthest = max(ratios) if claim["verdict"] == "not reproduced" else min(ratios)
            assert f"an interval {furthest:.2f} times as wide" in change
            assert min(ratios) >= 1
            decided += 1
    assert decided


def test_the_abstract_says_what_came_out(study, tmp_path):
    _copy_source(tmp_path)
    rows = cases.results(dataset="mnist") + cases.results(dataset="mnist", model="lenet300")
    results = cases.write(tmp_path, "results", rows)
    summarise(results, {}, CLAIMS, study, tmp_path / "numbers.json")
    (found,) = _query(tmp_path, "<abstract>")
    said = " ".join(_text(found["body"]).replace("\u00a0", " ").split())
    numbers = json.loads((tmp_path / "numbers.json").read_text())
    first, second = numbers["experiments"]
    error = second["levels"][-1]["strategies"]["gradual"]["test_error_percent"]["mean"]
    assert f"{first['title']} errs on" in said
    assert re.search(rf"Of {second['title']} [\d.]+ % are removed, and the errors are {error:.2f} ±", said)
    verdicts = {claim["id"]: claim["verdict"] for claim in numbers["claims"]}
    assert verdicts["retraining-fails"] == "reproduced"
    plain, _, with_numbers = said.partition("In numbers.")
    assert not re.search(r"\d\.\d", plain), "the plain sentences come before any measured number"
    assert "At the highest compression retraining does fall behind gradual pruning, as the paper says" in plain
    assert " ".join(numbers["outcome"]) in plain.replace("\u2019", "'") or numbers["outcome"][-1][-30:] in plain
    assert "the dense net errs on" in with_numbers


def _copy_source(folder: Path) -> None:
    for name in ("paper.typ", "format.typ", "references.bib", "published/mnist-pruned.csv"):
        (folder / name).parent.mkdir(exist_ok=True)
        shutil.copy(SOURCE.parent / name, folder / name)


def _query(folder: Path, selector: str, **inputs: str) -> list[dict]:
    source = folder / "paper.typ"
    return json.loads(typst.query(source, selector, root=folder, ignore_system_fonts=True, sys_inputs=inputs))


def _text(content) -> str:
    """The words of an element as Typst's query gives it."""
    if isinstance(content, dict):
        if content.get("func") == "space":
            return " "
        return content["text"] if "text" in content else "".join(map(_text, content.values()))
    return "".join(map(_text, content)) if isinstance(content, list) else ""


def test_captions_name_the_net_that_the_figures_show(whole, study, tmp_path):
    _copy_source(tmp_path)
    (tmp_path / "figures").mkdir()
    shutil.copy(whole / "fig3.svg", tmp_path / "figures")
    dataset = study["focus"]["dataset"]
    rows = [cases.results(model=model, dataset=dataset) for model in ("lenet300", "lenet5")]
    results = cases.write(tmp_path, "results", rows[0] + rows[1])
    maps = [
        cases.write(tmp_path, "surface", cases.surface(model=model, dataset=dataset, seed=seed), f"{model}-{seed}")
        for model, seed in (("lenet300", 0), ("lenet5", 0), ("lenet5", 2))
    ]
    summarise(results, {"surface": maps}, CLAIMS, study, tmp_path / "numbers.json")
    (found,) = _query(tmp_path, "<fig3>", figures="fig3")
    caption = " ".join(_text(found["caption"]["body"]).split())
    assert caption.endswith(
        f"plane through G and 1-S. LeNet-5 on {dataset}, level 95 % (95.50 % really removed), run 0."
    )


def test_a_strategy_of_the_highest_level_alone_stands_in_the_caption(study, tmp_path):
    _copy_source(tmp_path)
    long = [
        cases.result(strategy="rewind-long", level=0.95, seed=s, sparsity=0.955, test_error_percent=2.0 + 0.5 * s)
        for s in cases.SEEDS
    ]
    results = cases.write(tmp_path, "results", cases.results() + long)
    summarise(results, {}, CLAIMS, study, tmp_path / "numbers.json")
    (found,) = (
        table
        for table in _query(tmp_path, "figure")
        if _text(table["caption"]["body"]).startswith("Test error, %, of LeNet-5")
    )
    caption = _text(found["caption"]["body"])
    assert "At the highest level alone: 1-S, trained longer 2.50 ± 0.50 (3)." in caption
    assert caption.endswith("mask, that of run 0, removes 55.00, 91.00, 91.00 and 95.50 %.")
    header = _cells(found)[:7]
    strategies = ["G", "1-S", "new initialisation", "random structure"]
    assert header == ["level (%)", "removed", *strategies, "1-S − G (points)"]


def test_barriers_and_eigenvalues_between_the_nets_stand_in_tables(whole, tmp_path):
    _copy_source(tmp_path)
    shutil.copy(whole / "numbers.json", tmp_path)
    net = "LeNet-5 on digits"
    (barriers,) = _query(tmp_path, "<barriers>")
    assert _cells(barriers)[5:] == [
        *(net, "train", "1.50 ± 1.00 (3)", "3.00 ± 0.00 (3)", "0.500, 1.50, 2.50"),
        *(net, "test", "0.00 ± 0.00 (3)", "0.00 ± 0.00 (3)", "0.00, 0.00, 0.00"),
    ]
    (lines,) = _query(tmp_path, "<lines>")
    known = json.loads((tmp_path / "numbers.json").read_text())["experiments"][0]["line"]["surviving"]
    shown = [_cells(lines)[at : at + 5] for at in (5, 10)]
    assert [row[:2] for row in shown] == [[net, "all parameters"], [net, "surviving parameters"]]
    for cell, at in zip(shown[1][2:], ("G", "between", "1-S"), strict=True):
        assert cell.startswith(f"{known[at]['mean']:.3g} ± ")


def test_what_eigenvalues_are_taken_of_is_said_where_it_is_not_what_entropies_are(whole, study, tmp_path):
    _copy_source(tmp_path)
    psp = [cases.write(tmp_path, "psp", cases.psp(seed=s), f"psp-{s}") for s in cases.SEEDS]
    said = []
    for images in (1293, 500):
        rows = [{**row, "images": images} for row in cases.hessian(seed=0)]
        hessian = [cases.write(tmp_path, "hessian", rows, f"hessian-{images}")]
        summarise(whole / "results.csv", {"psp": psp, "hessian": hessian}, CLAIMS, study, tmp_path / "numbers.json")
        found = [_query(tmp_path, selector) for selector in ("<measured-on>", "<eigenvalues-of>")]
        said.append([" ".join(_text(item).replace("\u00a0", " ").split()) for (item,) in found])
    (same, fewer), (other, _) = said
    assert "here 1,293 images (train) for LeNet-5 on digits." in same
    assert (
        "here 1,293 images (train) for LeNet-5 on digits; eigenvalues on LeNet-5 on digits take 500 of them (train)."
        in other
    )
    assert "at 1-S over all runs (of LeNet-5 on digits over 1 of 3), and" in fewer
    # Those of as few runs as the PSP statistics are of fewer than all, too.
    summarise(whole / "results.csv", {"psp": psp[:1], "hessian": hessian}, CLAIMS, study, tmp_path / "numbers.json")
    (found,) = _query(tmp_path, "<eigenvalues-of>")
    assert "over 1 of 3), and" in " ".join(_text(found).replace("\u00a0", " ").split())


def test_a_claim_of_more_comparisons_than_a_page_has_room_for_goes_on_over_pages(whole, tmp_path):
    _copy_source(tmp_path)
    numbers = json.loads((whole / "numbers.json").read_text())
    claim = next(c for c in numbers["claims"] if any(not r["sensitivity"] for r in c["results"]))
    result = next(r for r in claim["results"] if not r["sensitivity"])
    claim["results"] = [{**result, "stated": True}] * 60
    write_json(tmp_path / "numbers.json", numbers)
    (found,) = _query(tmp_path, "<comparisons>")
    spans = {cell["rowspan"]: cell["breakable"] for cell in found["body"]["children"] if cell.get("rowspan", 1) > 1}
    assert spans[60] is True


def _cells(table):
    return [_text(cell["body"]).replace("\u00a0", " ") for cell in _flat(table["body"]["children"])]


def _flat(children):
    """The cells, those of the header too."""
    for child in children:
        if child["func"] == "cell":
            yield child
        else:
            yield from _flat(child.get("children", []))


def test_settings_within_settings_stand_in_brackets(whole, study, tmp_path):
    _copy_source(tmp_path)
    method = {"name": "snip", "recipe": {"lr": 0.1, "milestones": [3, 5]}, "options": {}}
    facts = {**study, "figures": [], "experiments": [{**study["experiments"][0], "method": method}]}
    summarise(whole / "results.csv", {}, CLAIMS, facts, tmp_path / "numbers.json")
    (found,) = _query(tmp_path, "<settings>")
    cells = [_text(cell["body"]) for cell in found["body"]["children"] if cell["func"] == "cell"]
    assert "recipe\u00a0(lr\u00a00.1, milestones\u00a03/5)" in cells


def test_the_paper_needs_no_facts_of_the_study(whole, tmp_path):
    summarise(whole / "results.csv", {}, CLAIMS, {}, tmp_path / "numbers.json")
    compile_paper(SOURCE, tmp_path / "numbers.json", [], tmp_path / "paper.pdf")


def test_the_chains_of_the_figures_are_attached_and_listed(whole, tmp_path):
    svg, table, data = "results/demo/figures/fig1.svg", "results/demo/tables/results.csv", "results/demo/data/digits"
    origins = {
        "notebooks/fig1.ipynb": {"kind": "notebook", "sha256": "1" * 64},
        data: {"kind": "data", "sha256": "2" * 64, "settings": {"dataset": "digits"}},
        table: {"kind": "table", "sha256": "3" * 64, "from": [data]},
        svg: {"kind": "figure", "sha256": "4" * 64, "from": ["notebooks/fig1.ipynb", table]},
    }
    found = {"figure": "fig1", "files": [svg], "package": {"version": "1.2.3"}, "origins": origins}
    write_json(tmp_path / "fig1.json", found)
    for name in ("first", "second"):
        out = tmp_path / f"{name}.pdf"
        compile_paper(SOURCE, whole / "numbers.json", [whole / "fig1.svg"], out, provenance=[tmp_path / "fig1.json"])
    pdf = (tmp_path / "first.pdf").read_bytes()
    assert b"provenance/fig1.json" in pdf
    assert pdf == (tmp_path / "second.pdf").read_bytes()


def test_faults_are_one_line(whole, tmp_path):
    source = tmp_path / "p.typ"
    source.write_text("#let x = \n#unknown")
    with pytest.raises(FigureError, match=r"p\.typ: ") as caught:
        compile_paper(source, whole / "numbers.json", [], tmp_path / "p.pdf")
    assert "\n" not in str(caught.value)
    source.write_text('#set text(font: "No Such Font")\nx')
    with pytest.raises(FigureError, match="no such font"):
        compile_paper(source, whole / "numbers.json", [], tmp_path / "p.pdf")
    with pytest.raises(FigureError, match=r"fig9\.svg: cannot be read"):
        compile_paper(source, whole / "numbers.json", [tmp_path / "fig9.svg"], tmp_path / "p.pdf")
    with pytest.raises(FigureError, match="is missing"):
        compile_paper(tmp_path / "q.typ", whole / "numbers.json", [], tmp_path / "p.pdf")
    assert not (tmp_path / "p.pdf").exists()


def test_without_numbers_there_is_no_paper(tmp_path):
    shutil.copy(SOURCE, tmp_path)
    with pytest.raises(FigureError, match="cannot be read"):
        compile_paper(tmp_path / SOURCE.name, tmp_path / "numbers.json", [], tmp_path / "p.pdf")
