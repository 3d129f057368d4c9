"""The study `entropy`: its ledger, comparisons between two ways of training one net, its settings, and Fig. 7."""

import csv
import itertools
import json
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import typst
import yaml

from sharpminima.base.errors import ConfigError, FigureError
from sharpminima.base.files import read_json, write_json
from sharpminima.catalogue.recipes import PspEntropySettings
from sharpminima.figures import fig7, forest, style
from sharpminima.report.claims import (
    ABSENT,
    NOT_REPRODUCED,
    REPRODUCED,
    UNDECIDED,
    as_text,
    judge,
    read_ledger,
)
from sharpminima.report.claims._ledger import Ledger
from sharpminima.report.claims._verdict import FEW, NO_DIFFERENCE, SMALL
from sharpminima.report.notebook import execute
from sharpminima.report.numbers import summarise
from sharpminima.report.paper import compile_paper
from sharpminima.report.ways import ways
from sharpminima.steps.entropy_trials import chosen_trial
from sharpminima.study.jobs import Layout
from sharpminima.study.read import load_config

from . import cases

LEDGER = "paper/claims-entropy.yaml"
PLAIN, PLUS, MINUS = ({"dataset": "mnist", "model": f"lenet300{label}"} for label in ("", "@chosen", "@b-0.01"))
MOVED = {
    "": {"error": 0.0, "entropy": 0.0, "eigenvalue": 1.0},
    "@chosen": {"error": -0.5, "entropy": 3.0, "eigenvalue": 1.0},
    "@b-0.01": {"error": 0.2, "entropy": -1.0, "eigenvalue": 2.0},
}


@pytest.fixture(scope="module")
def numbers(tmp_path_factory) -> dict:
    """LeNet-300 trained in three ways: errors 0.5 points lower, entropies 3 bits higher where they are maximised."""
    folder = tmp_path_factory.mktemp("entropy")
    rows: list[dict] = []
    analyses: dict[str, list] = {"psp": [], "hessian": []}
    transfers = []
    for key in (PLAIN, PLUS, MINUS):
        moved = MOVED[key["model"].removeprefix("lenet300")]
        for row in cases.results(**key):
            at_level = {"reached": True, "sparsity": max(row["sparsity"], row["level"])}
            rows.append({**row, **at_level, "test_error_percent": row["test_error_percent"] + moved["error"]})
        for seed in cases.SEEDS:
            psp = [{**row, **key} for row in cases.psp(seed=seed, dense=True)]
            for row in psp:
                for column in ("entropy_1_bits", "entropy_2_joint_bits"):
                    row[column] += moved["entropy"]
            hessian = [{**row, **key} for row in cases.hessian(seed=seed, dense=True)]
            for row in hessian:
                row["eigenvalue"] *= moved["eigenvalue"]
            surviving = [row for row in hessian if row["space"] == "surviving"]
            hessian += [{**row, "space": "relative", "eigenvalue": row["eigenvalue"] / 100} for row in surviving]
            for kind, table in (("psp", psp), ("hessian", hessian)):
                analyses[kind].append(cases.write(folder, kind, table, f"{kind}-{key['model']}-{seed}"))
            moves = [{**row, **key} for row in cases.transfer(seed=seed)]
            for row in moves:
                row["method"] = "dense" if row["strategy"] == "dense" else row["method"]
                row["test_error_percent"] += moved["error"]
            transfers.append(cases.write(folder, "transfer", moves, f"transfer-{key['model']}-{seed}"))
    results = cases.write(folder, "results", rows, "results")
    betas = {"": None, "@chosen": {"beta": 0.03}, "@b-0.01": {"beta": -0.01}}
    study = {
        "ledger": LEDGER,
        "experiments": [
            {**key, **({"psp_entropy": beta} if beta else {})}
            for key in (PLAIN, PLUS, MINUS)
            for beta in [betas[key["model"].removeprefix("lenet300")]]
        ],
    }
    summarise(results, analyses, LEDGER, study, folder / "numbers.json", transfer=transfers)
    return read_json(folder / "numbers.json")


def test_the_ledgers_claims_are_judged_by_the_differences_between_the_two_ways(numbers: dict) -> None:
    claims = {claim["id"]: claim for claim in numbers["claims"]}
    assert claims["dense-error"]["verdict"] == REPRODUCED
    (result,) = claims["dense-error"]["results"]
    assert result["interval"]["mean"] == pytest.approx(-0.5)
    assert [value["name"] for value in result["values"]] == ["LeNet-300 (chosen)", "LeNet-300"]
    assert [value["n"] for value in result["values"]] == [3, 3]
    assert claims["first-order-rises"]["verdict"] == claims["second-order-rises"]["verdict"] == REPRODUCED
    assert [round(one["interval"]["mean"], 6) for one in claims["second-order-rises"]["results"]] == [
        3.0,
        3.0,
        0.0,
        0.0,
    ]
    assert [one["sensitivity"] for one in claims["second-order-rises"]["results"]] == [False, False, True, True]
    assert claims["dense-first-order-rises"]["verdict"] == claims["dense-second-order-rises"]["verdict"] == REPRODUCED
    (first, _) = claims["dense-first-order-rises"]["results"]
    assert [round(value["mean"], 6) for value in first["values"]] == [8.0, 5.0]  # bits, of dense nets
    assert [one["detail"] for one in claims["sharper-minima"]["results"]][2:] == [
        "largest eigenvalue of dense",
        *(f"largest eigenvalue, relative changes of {net}, highest level" for net in ("G", "1-S")),
    ]
    assert claims["sharper-minima"]["verdict"] == NOT_REPRODUCED, "they are equal, which is within the margin"
    assert claims["lenet5-dense-error"]["verdict"] == ABSENT


RUNS = range(10)
SPREAD = [0.02, -0.03, 0.01, -0.01, 0.04, -0.02, 0.0, 0.03, -0.04, 0.0]  # of differences by run, of mean 0
Missed = Callable[[str, int], bool]


def claims_of(
    folder: Path,
    moved: Mapping[str, float],
    *,
    spread: float = 1.0,
    without: Missed = lambda model, run: False,
    short: Missed = lambda model, run: False,
) -> dict[str, dict]:
    """Id -> claim, of ten runs of LeNet-300 that are trained in two ways.

    Args:
        moved: dataset -> what the chosen beta adds to every test error.
        spread: a factor on `SPREAD`.
        without: nets that there are not, by model and run.
        short: runs that did not reach the highest level; their nets have errors of half a point less.
    """
    rows, ways = [], ({"model": "lenet300"}, {"model": "lenet300@chosen", "psp_entropy": {"beta": 0.03}})
    for dataset, way in itertools.product(moved, ways):
        key = {"dataset": dataset, "model": way["model"]}
        for run in RUNS:
            if without(way["model"], run):
                continue
            error = 2.0 + 0.1 * run + ("psp_entropy" in way) * (moved[dataset] + spread * SPREAD[run])
            dense = {"strategy": "dense", "method": "dense", "level": 0.0, "sparsity": 0.0}
            rows.append(cases.result(**key, **dense, seed=run, test_error_percent=error))
            for level, strategy in ((0.9, "gradual"), (0.98, "gradual"), (0.98, "rewind")):
                missed = level == 0.98 and short(way["model"], run)
                at = {"strategy": strategy, "level": level, "sparsity": level - 0.1 * missed, "reached": not missed}
                rows.append(cases.result(**key, **at, seed=run, test_error_percent=error - 0.5 * missed))
    results = cases.write(folder, "results", rows, "results")
    study = {"ledger": LEDGER, "experiments": [{"dataset": dataset, **way} for dataset in moved for way in ways]}
    summarise(results, {}, LEDGER, study, folder / "numbers.json")
    return {claim["id"]: claim for claim in read_json(folder / "numbers.json")["claims"]}


BOTH = ("mnist", "fashion-mnist")
OF_LENET300 = ("dense-error", "sparser-at-the-same-error", "retrains-lower")


@pytest.mark.parametrize(
    ("moved", "spread", "verdict", "remark"),
    [
        ((-0.2, -0.5), 1.0, REPRODUCED, None),
        ((-0.05, -0.05), 1.0, REPRODUCED, SMALL),
        ((0.0, 0.0), 0.0, NOT_REPRODUCED, NO_DIFFERENCE),
        ((0.0, 0.0), 1.0, NOT_REPRODUCED, NO_DIFFERENCE),
        ((0.2, 0.5), 1.0, NOT_REPRODUCED, None),
        ((-0.2, 0.0), 1.0, NOT_REPRODUCED, NO_DIFFERENCE),  # on one dataset alone
        ((0.0, 0.0), 20.0, UNDECIDED, None),
        ((-0.2, 0.0), 20.0, UNDECIDED, None),
    ],
)
def test_every_outcome_of_errors_has_a_verdict(
    tmp_path: Path, moved: tuple[float, float], spread: float, verdict: str, remark: str | None
) -> None:
    claims = claims_of(tmp_path, dict(zip(BOTH, moved, strict=True)), spread=spread)
    for name in OF_LENET300:
        assert (claims[name]["verdict"], claims[name]["remark"]) == (verdict, remark)
        assert [result["values"][0]["n"] for result in claims[name]["results"]] == [10] * len(claims[name]["results"])
        assert (claims[name]["needed"] is not None) == (verdict == UNDECIDED)
    for name in ("lenet5-dense-error", "better-features", "first-order-rises", "sharper-minima"):
        assert claims[name]["verdict"] == ABSENT


def test_a_run_that_one_way_lacks_leaves_the_pairs_of_the_others(tmp_path: Path) -> None:
    moved = dict.fromkeys(BOTH, -0.4)
    claims = claims_of(tmp_path, moved, without=lambda model, run: model == "lenet300@chosen" and run == 9)
    for name in OF_LENET300:
        assert claims[name]["verdict"] == REPRODUCED
        assert {value["n"] for result in claims[name]["results"] for value in result["values"]} == {9}


def test_one_run_in_both_ways_decides_nothing_and_none_is_no_claim(tmp_path: Path) -> None:
    moved = dict.fromkeys(BOTH, -0.4)
    claims = claims_of(tmp_path / "one", moved, without=lambda model, run: model == "lenet300@chosen" and run > 0)
    assert claims["dense-error"]["verdict"] == UNDECIDED
    assert claims["dense-error"]["needed"]["says"] == "2 or more runs needed"
    claims = claims_of(tmp_path / "none", moved, without=lambda model, run: model == "lenet300@chosen")
    assert {claim["verdict"] for claim in claims.values()} == {ABSENT}


@pytest.mark.parametrize("way", ["lenet300", "lenet300@chosen"])
def test_a_run_that_one_way_did_not_bring_to_the_level_is_left_out_there(tmp_path: Path, way: str) -> None:
    moved = dict.fromkeys(BOTH, 0.2)  # against the claims, which the denser nets of some runs would hide
    claims = claims_of(tmp_path, moved, short=lambda model, run: model == way and run < 2)
    for name in OF_LENET300:
        assert claims[name]["verdict"] == NOT_REPRODUCED
        result = claims[name]["results"][0]
        at_level = name != "dense-error"
        assert result["interval"]["mean"] == pytest.approx(0.2 + at_level * sum(SPREAD[2:]) / 8)
        assert [value["n"] for value in result["values"]] == [8 if at_level else 10] * 2
        ways = "LeNet-300 (chosen) 2, LeNet-300 0" if "@" in way else "LeNet-300 (chosen) 0, LeNet-300 2"
        told = f"; 2 of 10 runs left out, which one of both ways did not bring there ({ways})"
        assert result["detail"].endswith(told) == at_level
    sensitivity = next(result for result in claims["sparser-at-the-same-error"]["results"] if result["sensitivity"])
    assert sensitivity["detail"] == "test error of G, 90 %"


@pytest.mark.parametrize(("left", "ways"), [(3, "3, LeNet-300 0"), (10, "10, LeNet-300 0")])
def test_a_level_that_too_few_runs_reached_in_both_ways_decides_nothing(tmp_path: Path, left: int, ways: str) -> None:
    moved = {"mnist": 0.3, "fashion-mnist": -0.3}  # what is left of one dataset speaks for the claims
    claims = claims_of(tmp_path, moved, short=lambda model, run: model == "lenet300@chosen" and run < left)
    assert claims["dense-error"]["verdict"] == NOT_REPRODUCED
    for name in OF_LENET300[1:]:
        assert (claims[name]["verdict"], claims[name]["remark"]) == (UNDECIDED, FEW)
        assert (claims[name]["p"], claims[name]["holm"]) == (1.0, False)  # it counts among all
        assert claims[name]["missing"] == []
        for result in (result for result in claims[name]["results"] if not result["sensitivity"]):
            assert (result["interval"], result["values"]) == (None, [])
            told = (
                f"; {left} of 10 runs left out, which one of both ways did not bring there (LeNet-300 (chosen) {ways})"
            )
            assert result["detail"].endswith(told)
    assert f"undecided ({FEW}): LOBSTER reaches" in as_text(list(claims.values()))


def judged(numbers: dict, **test: object) -> dict:
    claim = {"id": "one", "source": "a", "says": "b", "stated_for": ["mnist/lenet300@b-0.01"], "elsewhere": False}
    against = {"kind": "against", "other": "lenet300", "is": "above", **test}
    return judge(Ledger.model_validate({"claims": [{**claim, "tests": [against]}]}), numbers["experiments"])[0]


def test_each_quantity_is_compared_by_run(numbers: dict) -> None:
    for of in ("dense", "gradual", "rewind"):
        error = judged(numbers, quantity="test_error_percent", of=of)
        assert error["results"][0]["interval"]["mean"] == pytest.approx(0.2)
        probe = judged(numbers, quantity="probe_error_percent", of=of)
        assert probe["verdict"] == (REPRODUCED if probe["results"] else ABSENT)
    assert judged(numbers, quantity="entropy_1_bits", of="gradual")["verdict"] == NOT_REPRODUCED
    eigenvalue = judged(numbers, quantity="largest_eigenvalue", of="rewind")["results"][0]
    ours, plain = (value["mean"] for value in eigenvalue["values"])
    assert ours == pytest.approx(2 * plain)
    (minimised,) = (e for e in numbers["experiments"] if e["model"] == "lenet300@b-0.01")
    ours_surviving = minimised["analysis"]["hessian"]["surviving"]["ranks"][0]["G"]["mean"]
    relative = judged(numbers, quantity="largest_eigenvalue_relative", of="gradual")["results"][0]
    assert relative["detail"] == "largest eigenvalue, relative changes of G, highest level"
    assert relative["values"][0]["mean"] == pytest.approx(ours_surviving / 100)
    level = judged(numbers, quantity="test_error_percent", of="gradual", level=0.9)["results"][0]
    assert level["detail"] == "test error of G, 90 %"
    assert judged(numbers, quantity="test_error_percent", of="gradual", other="lenet5")["verdict"] == ABSENT
    within = judged(numbers, quantity="entropy_1_bits", of="gradual", **{"is": "within", "bound": 0.001})
    assert within["verdict"] in (NOT_REPRODUCED, UNDECIDED)


def test_what_is_not_measured_of_nets_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "claims.yaml"
    path.write_text(
        Path(LEDGER).read_text().replace("quantity: entropy_1_bits, of: gradual", "quantity: psp_norm, of: rewind-long")
    )
    with pytest.raises(ConfigError, match=r"psp_norm is measured of dense, gradual and rewind; of: rewind-long given"):
        read_ledger(path)


def test_every_claim_names_an_experiment_of_the_study() -> None:
    layout = Layout(*load_config({"study": "entropy"}))
    assert layout.study.ledger == LEDGER
    places = {f"{e.dataset}/{e.model}": e for e in layout.study.experiments}
    for claim in read_ledger(LEDGER).claims:
        assert set(claim.stated_for) <= places.keys()
        for test in (*claim.tests, *claim.sensitivity):
            for place in claim.stated_for:
                other = places[f"{places[place].dataset}/{test.other}"]
                assert other.psp_entropy is None
                assert other.levels == places[place].levels
                assert isinstance(test.level, str) or test.level in other.levels
    (numbers_job,) = (job for job in layout.jobs() if job.rule == "numbers")
    assert LEDGER in numbers_job.inputs
    assert "paper/claims.yaml" not in numbers_job.inputs


def test_the_study_has_the_chosen_beta_of_the_trials_and_betas_of_both_signs() -> None:
    with Path("paper/tuning/psp-entropy.csv").open(newline="") as file:
        rows = [
            {**row, "beta": float(row["beta"]), "validation_loss_nats": float(row["validation_loss_nats"])}
            for row in csv.DictReader(file)
        ]
    chosen = chosen_trial(rows)
    assert [row["chosen"] == "True" for row in rows] == [row is chosen for row in rows]
    experiments = yaml.safe_load(Path("workflow/studies/entropy.yaml").read_text())["experiments"]
    settings = PspEntropySettings(beta=chosen["beta"], tau=float(chosen["tau"]))
    assert chosen["beta"] > 0, "the claims speak of maximising"
    given = {e["model"]: PspEntropySettings(**e["psp_entropy"]) for e in experiments if "psp_entropy" in e}
    assert given["lenet300@chosen"] == given["lenet5@chosen"] == settings
    betas = [0.0, *(each.beta for each in given.values())]
    assert len(set(betas)) >= 5
    assert min(betas) < 0 < max(betas)
    assert {row["beta"] for row in rows} >= set(betas)
    for model, each in given.items():
        assert model.endswith("@chosen") or float(model.split("@b")[1]) == each.beta
    assert int(rows[0]["seed"]) not in range(10)


def test_fig7_has_a_row_a_net_and_its_betas_in_order(numbers: dict, tmp_path: Path) -> None:
    figure = fig7.against_beta(numbers)
    assert len(figure.axes) == 3
    errors, entropies, probes = figure.axes
    assert errors.get_title(loc="left") == "LeNet-300 on MNIST"
    for axes in figure.axes:
        assert [label.get_text() for label in axes.get_xticklabels()] == ["-0.01", "0", "0.03"]
    # Means of dense nets over runs 0 to 2: 1.1, and as much more or less as was added.
    means = [container.lines[0].get_ydata() for container in errors.containers if container.get_label() == "dense"]
    assert list(means[0]) == pytest.approx([1.3, 1.1, 0.6])
    drawn = [(container.get_label(), container.lines[0].get_linestyle()) for container in entropies.containers]
    assert drawn == [(net, line) for line in ("-", "--") for net in ("dense", "G", "1-S")]
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["dense", "G", "1-S", "first order", "second order"]
    for container in entropies.containers:
        low, plain, high = container.lines[0].get_ydata()
        assert (low, high) == pytest.approx((plain - 1, plain + 3))
    assert probes.containers
    assert probes.get_ylabel() == "probe error (%)\non Fashion-MNIST"
    style.save_figure(figure, tmp_path / "fig7")
    assert (tmp_path / "fig7.svg").stat().st_size > 10_000


def test_the_ways_leave_out_the_pruned_nets_that_did_not_reach_the_level(numbers: dict) -> None:
    experiments = json.loads(json.dumps(numbers["experiments"]))
    (chosen,) = (e for e in experiments if e["model"] == "lenet300@chosen")
    chosen["levels"][-1]["short"], chosen["highest"]["runs_that_reached"] = ["1"], 2
    left = ways(experiments, numbers["study"])
    assert [(way["model"], way["beta"]) for way in left] == [
        ("lenet300@b-0.01", -0.01),
        ("lenet300", 0.0),
        ("lenet300@chosen", 0.03),
    ]
    assert left[:2] == numbers["ways"][:2]
    whole, way = numbers["ways"][2], left[2]
    assert way["nets"]["dense"] == whole["nets"]["dense"]
    quantities = ["test_error_percent", "entropy_1_bits", "entropy_2_joint_bits", "probe_error_percent"]
    for net in ("gradual", "rewind"):
        assert list(way["nets"][net]) == quantities
        for quantity, known in way["nets"][net].items():
            of_all = whole["nets"][net][quantity]["by_seed"]
            assert of_all.keys() == {"0", "1", "2"}
            assert known["by_seed"] == {run: of_all[run] for run in ("0", "2")}
            assert known["mean"] == pytest.approx((of_all["0"] + of_all["2"]) / 2)
            assert known["n"] == 2
    assert way["removed_percent"]["n"] == way["runs_that_reached"] == 2
    assert way["runs"] == 3

    def dots(of: list) -> list[int]:
        axes = fig7.against_beta({**numbers, "ways": of}).axes[0]
        return [len(line.get_ydata()) for line in axes.lines if line.get_marker() == "." and line.get_xdata()[0] > 2]

    assert (dots(numbers["ways"]), dots(left)) == ([3, 3, 3], [3, 2, 2])  # dense, G, 1-S


def test_a_study_without_psp_entropy_has_no_ways(numbers: dict) -> None:
    plain = [{"dataset": e["dataset"], "model": e["model"]} for e in numbers["study"]["experiments"]]
    assert ways(numbers["experiments"], {"experiments": plain}) == []
    none = [{**e, "levels": [{**e["levels"][-1], "strategies": {}}], "dense": None} for e in numbers["experiments"]]
    bare = [{**e, "analysis": None, "transfer": {}} for e in none]
    assert [way["nets"] for way in ways(bare, numbers["study"])] == [{"dense": {}, "gradual": {}, "rewind": {}}] * 3
    assert [way["removed_percent"] for way in ways(bare, numbers["study"])] == [None] * 3


def test_fig7_says_of_a_net_what_was_not_measured(numbers: dict) -> None:
    other = [{**e, "dataset": "fashion-mnist", "analysis": None, "transfer": {}} for e in numbers["experiments"]]
    study = [{**e, "dataset": "fashion-mnist"} for e in numbers["study"]["experiments"]]
    both = {"ways": [*numbers["ways"], *ways(other, {"experiments": study})]}
    measured, absent = (fig7.against_beta(both).axes[start : start + 3] for start in (0, 3))
    assert all(axes.axison and not axes.texts for axes in (*measured, absent[0]))
    for axes in absent[1:]:
        assert not axes.axison
        assert [text.get_text() for text in axes.texts] == ["not measured"]
    assert [axes.get_xlabel() for axes in (*measured, *absent)] == [*["beta (nats per bit)"] * 4, "", ""]


@pytest.mark.slow
def test_the_notebook_draws_fig7(numbers: dict, tmp_path: Path) -> None:
    write_json(tmp_path / "numbers.json", numbers)
    execute(Path("notebooks/fig7.ipynb"), tmp_path / "fig7", {"numbers": str(tmp_path / "numbers.json")})
    style.save_figure(fig7.against_beta(numbers), tmp_path / "direct")
    for ending in ("svg", "pdf"):
        assert (tmp_path / f"fig7.{ending}").read_bytes() == (tmp_path / f"direct.{ending}").read_bytes()


def test_the_forest_draws_the_comparisons_of_the_own_ledger(numbers: dict) -> None:
    (axes, *_) = forest.forest(numbers["claims"]).axes
    assert any("LeNet-300" in text.get_text() for text in (*axes.texts, *axes.get_yticklabels()))


def test_fig7_needs_several_betas(numbers: dict) -> None:
    for few in ([], numbers["ways"][:1]):
        with pytest.raises(FigureError, match="no net is trained with several betas"):
            fig7.against_beta({"ways": few})


@pytest.mark.slow
def test_the_report_has_a_section_on_it_and_names_its_own_ledger(numbers: dict, tmp_path: Path) -> None:
    for name in ("paper.typ", "format.typ", "references.bib", "published/mnist-pruned.csv"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(Path("paper") / name, tmp_path / name)
    style.save_figure(fig7.against_beta(numbers), tmp_path / "fig7")
    study = load_config({"study": "entropy"})[1].model_dump(mode="json", by_alias=True)
    first = next(e for e in study["experiments"] if e["model"] == "lenet300")
    trained = [{**first, **given} for given in numbers["study"]["experiments"]]
    facts = {**study, "name": "entropy", "figures": ["fig7"], "experiments": trained}
    write_json(tmp_path / "numbers.json", {**numbers, "study": facts})
    compile_paper("paper/paper.typ", tmp_path / "numbers.json", [tmp_path / "fig7.svg"], tmp_path / "paper.pdf")
    assert (tmp_path / "paper.pdf").read_bytes().startswith(b"%PDF")

    def query(selector: str) -> str:
        found = typst.query(tmp_path / "paper.typ", selector, root=tmp_path, ignore_system_fonts=True)
        return json.dumps(json.loads(found), ensure_ascii=False)

    def words(selector: str) -> str:
        pieces = re.findall(r'"func": "(space)"|"text": "([^"]*)"', query(selector))
        return "".join(" " if space else text for space, text in pieces)

    headings = query("heading")
    assert "Training that maximises PSP-entropy" in headings.replace('"}, {"func": "space"}, {', " ")
    assert "The claims" in headings
    assert "The paper's claims" not in headings
    assert LEDGER in query("raw")
    assert "0.03" in query("<ways>")
    abstract = words("<abstract>")
    assert "Nets marked (chosen) are trained with a weight" in abstract
    assert "LeNet-300 (chosen) on MNIST" in abstract
    assert "LeNet-300 (b-0.01)" not in abstract, "of the sweep the tables of ways have all"
    assert "LeNet-300 (b-0.01) on MNIST" in words("<ways>")
    assert "LeNet-300 (b-0.01) on MNIST" in words("<probes>")
    assert re.search(r"PSP-entropy: beta.0\.03", words("<settings>"))
    assert "2 of 3" not in words("<ways>")
    short = json.loads(json.dumps({**numbers, "study": facts}))
    (chosen,) = (e for e in short["experiments"] if e["model"] == "lenet300@chosen")
    chosen["levels"][-1]["short"], chosen["highest"]["runs_that_reached"] = ["1"], 2
    short["ways"] = ways(short["experiments"], facts)
    write_json(tmp_path / "numbers.json", short)
    assert "2 of 3" in words("<ways>")
    assert "first order" in query("<entropies>")
    for experiment in short["experiments"]:
        experiment["analysis"] = None
    short["ways"] = ways(short["experiments"], facts)
    write_json(tmp_path / "numbers.json", short)
    assert query("<entropies>") == "[]"
    assert numbers["outcome"][-1].startswith("Of 12 claims ")
