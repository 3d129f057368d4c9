import json

import pytest

from sharpminima.base.files import read_json
from sharpminima.report.claims import (
    ABSENT,
    NOT_REPRODUCED,
    REPRODUCED,
    UNDECIDED,
    as_markdown,
    as_text,
    judge,
    judge_settings,
    read_ledger,
    settings_text,
)
from sharpminima.report.claims._ledger import Ledger
from sharpminima.report.claims._text import measured_text
from sharpminima.report.numbers import summarise

from . import cases

LENET5, LENET300 = {"dataset": "mnist", "model": "lenet5"}, {"dataset": "mnist", "model": "lenet300"}
NETS = {"kind": "nets", "quantity": "test_error_percent", "first": ["rewind"], "second": "gradual", "is": "above"}


@pytest.fixture(scope="module")
def experiments(tmp_path_factory):
    """LeNet-5 with an analysis and a map, LeNet-300 with an analysis: the summarised synthetic tables."""
    folder = tmp_path_factory.mktemp("tables")

    def write(kind, name, rows):
        return cases.write(folder, kind, rows, name)

    results = write("results", "results", [row for net in (LENET5, LENET300) for row in cases.results(**net)])
    analyses = {
        kind: [
            write(kind, f"{kind}-{net['model']}-{seed}", [{**row, **net} for row in rows(seed=seed)])
            for net in (LENET5, LENET300)
            for seed in cases.SEEDS
        ]
        for kind, rows in (("psp", cases.psp), ("hessian", cases.hessian))
    }
    analyses["surface"] = [write("surface", "surface", [{**row, **LENET5} for row in cases.surface()])]
    out = folder / "numbers.json"
    transfer = [write("transfer", f"transfer-{s}", cases.transfer(seed=s, **LENET5)) for s in cases.SEEDS]
    summarise(results, analyses, "paper/claims.yaml", {}, out, transfer=transfer)
    return read_json(out)["experiments"]


def claim(*tests, stated_for=("mnist/lenet5",), sensitivity=(), name="one"):
    return {
        "id": name,
        "source": "Fig. 1",
        "says": "something",
        "stated_for": list(stated_for),
        "tests": list(tests),
        "sensitivity": list(sensitivity),
    }


def judged(experiments, *claims):
    return judge(Ledger.model_validate({"claims": list(claims)}), experiments)


def test_a_difference_of_runs_is_paired(experiments):
    (one,) = judged(experiments, claim(NETS))
    result = one["results"][0]
    # The runs' own differences at the highest level are 5.10, 5.15, 5.20.
    assert result["interval"]["mean"] == pytest.approx(5.15)
    assert result["interval"]["high"] - result["interval"]["mean"] == pytest.approx(4.302653 * 0.05 / 3**0.5)
    assert (one["verdict"], result["verdict"], result["needed"]) == (REPRODUCED, REPRODUCED, None)
    assert result["detail"] == "test error, highest level (95.17 % removed)"


def test_replicas_are_compared_as_groups(experiments):
    (one,) = judged(experiments, claim({**NETS, "first": ["reinit"], "second": "rewind"}))
    values = {value["name"]: value for value in one["results"][0]["values"]}
    # The draws' mask removes another share than the masks of all runs do.
    assert values["new initialisation at the mask of run 0 (95.50 % removed)"]["mean"] == pytest.approx(8.8)
    assert values["1-S"]["n"] == 3


def test_the_other_sign_is_not_reproduced(experiments):
    assert judged(experiments, claim({**NETS, "is": "below"}))[0]["verdict"] == NOT_REPRODUCED


def test_of_several_experiments_in_one_place_the_first_that_is_there_decides(experiments):
    several = claim(NETS, stated_for=[("mnist/lenet5@low", "mnist/lenet5"), "mnist/lenet300"])
    (one,) = judged(experiments, several)
    assert one["stated_for"] == ["mnist/lenet5", "mnist/lenet300"]
    low = [{**e, "model": "lenet5@low"} for e in experiments if e["model"] == "lenet5"]
    (one,) = judged([*experiments, *low], several)
    assert one["stated_for"] == ["mnist/lenet5@low", "mnist/lenet300"]
    assert {result["model"]: result["stated"] for result in one["results"]} == {
        "lenet5@low": True,
        "lenet300": True,
        "lenet5": False,
    }
    (absent,) = judged(low, claim(NETS, stated_for=[("cifar10/resnet32@short", "cifar10/resnet32")]))
    assert absent["verdict"] == ABSENT


def test_an_experiment_with_a_label_is_shown_only_where_a_claim_names_it(experiments):
    low = [{**e, "model": "lenet5@low"} for e in experiments if e["model"] == "lenet5"]
    (one,) = judged([*experiments, *low], claim(NETS))
    assert {result["model"] for result in one["results"]} == {"lenet5", "lenet300"}


def test_a_net_by_another_setting_is_judged_by_itself_beside_the_usual_verdict(experiments):
    usual = [e for e in experiments if e["model"] == "lenet5"]
    text = json.dumps([{**e, "model": "lenet5@authors"} for e in usual])
    other = json.loads(text.replace('"rewind"', '"x"').replace('"gradual"', '"rewind"').replace('"x"', '"gradual"'))
    both = ("mnist/lenet5", "mnist/lenet300")
    carry = claim({"kind": "carry-over", "claims": ["one"]}, stated_for=both, name="carry")
    elsewhere = claim(NETS, stated_for=["cifar10/resnet32"], name="elsewhere")
    setting = {"label": "authors", "says": "theirs"}
    ledger = {"claims": [claim(NETS, stated_for=both), elsewhere, carry], "other_settings": [setting]}
    (found,) = judge_settings(Ledger.model_validate(ledger), [*experiments, *other])
    assert {**found, "claims": None} == {**setting, "dataset": "mnist", "model": "lenet5", "claims": None}
    (one,) = found["claims"]  # not what carries over, nor what is said of another net
    assert (one["id"], one["usual"], one["verdict"]) == ("one", REPRODUCED, NOT_REPRODUCED)
    assert one["results"][0]["interval"]["mean"] == pytest.approx(-5.15)
    assert {result["model"] for result in one["results"]} == {"lenet5"}
    assert judge_settings(Ledger.model_validate(ledger), experiments) == []
    heading, verdict, comparison = settings_text([found]).splitlines()
    assert heading == "LeNet-5 on MNIST by theirs:"
    assert verdict == "  not reproduced (by the study's setting: reproduced): something [one]"
    assert comparison.startswith("    - test error, highest level")


def test_the_best_of_several_strategies_counts(experiments):
    (one,) = judged(experiments, claim({**NETS, "first": ["random-structure", "rewind"]}))
    assert [value["name"] for value in one["results"][0]["values"]] == ["1-S", "G"]


def test_a_published_value(experiments):
    near = {**NETS, "first": ["gradual"], "second": 1.6, "is": "within", "bound": 0.5}
    (one,) = judged(experiments, claim(near))
    assert one["verdict"] == REPRODUCED
    assert [value["sd"] is None for value in one["results"][0]["values"]] == [False, True]  # its spread is not known
    assert judged(experiments, claim({**near, "second": 3.0}))[0]["verdict"] == NOT_REPRODUCED


def test_one_failing_net_refutes(experiments):
    both = ("mnist/lenet5", "mnist/lenet300")
    low = {**NETS, "level": "lowest", "is": "below", "bound": 0.5}
    assert judged(experiments, claim(low, stated_for=both))[0]["verdict"] == REPRODUCED
    assert (
        judged(experiments, claim(low, NETS, {**NETS, "is": "below"}, stated_for=both))[0]["verdict"] == NOT_REPRODUCED
    )


def test_other_readings_decide_nothing(experiments):
    (one,) = judged(experiments, claim(NETS, sensitivity=[{**NETS, "is": "below"}]))
    assert [result["verdict"] for result in one["results"] if result["sensitivity"]] == [NOT_REPRODUCED] * 2
    assert one["verdict"] == REPRODUCED


def test_a_net_of_which_the_paper_is_silent_decides_only_what_carries_over(experiments):
    first = claim({"kind": "psp", "quantity": "psp_norm", "is": "below"}, name="norm")
    carry = claim({"kind": "carry-over", "claims": ["norm"]}, stated_for=["mnist/lenet300"], name="carry")
    norm, carried = judged(experiments, first, carry)
    assert [(r["model"], r["stated"]) for r in norm["results"]] == [("lenet5", True), ("lenet300", False)]
    assert [(r["model"], r["detail"]) for r in carried["results"]] == [("lenet300", "norm: PSP norm")]
    assert (norm["verdict"], carried["verdict"]) == (REPRODUCED, REPRODUCED)


def test_other_readings_are_carried_over_and_decide_nothing(experiments):
    norm = {"kind": "psp", "quantity": "psp_norm", "is": "below"}
    first = claim(norm, sensitivity=[{**norm, "is": "above"}], name="norm")
    carry = claim({"kind": "carry-over", "claims": ["norm"]}, stated_for=["mnist/lenet300"], name="carry")
    carried = judged(experiments, first, carry)[1]
    found = [(r["sensitivity"], r["stated"], r["verdict"]) for r in carried["results"]]
    assert found == [(False, True, REPRODUCED), (True, True, NOT_REPRODUCED)]
    assert carried["verdict"] == REPRODUCED


def test_a_verdict_names_what_it_is_without(experiments):
    nets = claim(NETS, stated_for=("mnist/lenet5", "cifar10/resnet32"), name="gap")
    elsewhere = claim({"kind": "lower-elsewhere", "quantity": "psp_norm"}, name="lower-elsewhere")
    both = ["gap", "lower-elsewhere"]
    carry = claim({"kind": "carry-over", "claims": both}, stated_for=["mnist/lenet300"], name="carry")
    gap, at_focus, carried = found = judged(experiments, nets, elsewhere, carry)
    assert (gap["verdict"], gap["missing"]) == (REPRODUCED, ["ResNet-32 on CIFAR-10"])
    assert at_focus["missing"] == []
    assert carried["missing"] == ["lower elsewhere for LeNet-300 on MNIST"]  # only the net of the maps has them
    assert "reproduced (without ResNet-32 on CIFAR-10): something" in as_text(found)
    assert "**reproduced (without ResNet-32 on CIFAR-10)**" in as_markdown(found)
    (absent,) = judged(experiments, claim(NETS, stated_for=["cifar10/resnet32"]))
    assert (absent["verdict"], absent["missing"]) == (ABSENT, [])


def test_draws_against_the_one_net_at_their_mask(experiments):
    draws = {**NETS, "first": ["reinit"], "second": "rewind", "same_mask": True}
    result = judged(experiments, claim(draws))[0]["results"][0]
    # New initialisations err on 8.7, 8.8 and 8.9 %, 1-S of their run on 6.6 %, of the others on 6.7 and 6.8 %.
    assert result["interval"]["mean"] == pytest.approx(2.2)
    half = 4.302653 * 0.1 * (4 / 3) ** 0.5
    assert result["interval"]["low"] == pytest.approx(2.2 - half)
    assert [(value["name"], value["n"]) for value in result["values"]] == [
        ("new initialisation", 3),
        ("1-S of run 0", 1),
    ]
    assert "at the mask of one run" in result["detail"]
    assert judged(experiments, claim({**draws, "first": ["rewind"]}))[0]["results"] == []  # a mask each


def test_costs_end_where_the_net_was_found(experiments):
    cheap = {**NETS, "quantity": "best_epoch", "is": "below"}
    found = json.loads(json.dumps(experiments))
    for entry in found[0]["levels"]:
        entry["strategies"]["gradual"]["by_seed"]["best_epoch"] = {"0": 30.0, "1": 31.0, "2": 32.0}
        entry["strategies"]["rewind"]["by_seed"]["best_epoch"] = {"0": 9.0, "1": 10.0, "2": 11.0}
    result = judged(found, claim(cheap))[0]["results"][0]
    assert result["detail"].startswith("epochs until the net was found, highest level")
    assert (result["interval"]["mean"], result["verdict"]) == (-21.0, REPRODUCED)


def test_a_bound_is_told(experiments):
    low = {**NETS, "first": ["gradual"], "second": "dense", "is": "below", "bound": 0.5}
    assert judged(experiments, claim(low))[0]["results"][0]["detail"].endswith("(95.17 % removed), below 0.5")


def test_a_claim_on_one_place_is_not_tried_elsewhere(experiments):
    (one,) = judged(experiments, claim(NETS) | {"elsewhere": False})
    assert [result["model"] for result in one["results"]] == ["lenet5"]


def test_comparable_is_relative_to_the_size(experiments):
    near = {"kind": "psp", "quantity": "entropy_1_bits", "is": "within", "bound": 0.1, "relative": True}
    assert judged(experiments, claim(near))[0]["verdict"] == REPRODUCED
    assert judged(experiments, claim({**near, "quantity": "psp_norm"}))[0]["verdict"] == NOT_REPRODUCED


def test_entropy_by_layer_and_part(experiments):
    second = {"kind": "psp", "quantity": "entropy_2_joint_bits", "is": "above"}
    (one,) = judged(experiments, claim({**second, "layers": "each"}))
    assert [r["detail"] for r in one["results"] if r["stated"]] == [
        "second order, joint, hidden layer 1 of 2",
        "second order, joint, hidden layer 2 of 2",
    ]
    (one,) = judged(experiments, claim({**second, "part": "train"}))
    assert one["results"][0]["detail"] == "second order, joint, train images"
    assert judged(experiments, claim({**second, "part": "test"}))[0]["results"] == []
    # Live neurons are counted for the whole net alone.
    assert (
        judged(experiments, claim({**second, "quantity": "entropy_1_live_bits", "layers": "each"}))[0]["results"] == []
    )


def test_eigenvalues(experiments):
    tests = [{"kind": "positive", "space": "all"}, {"kind": "eigenvalue", "space": "all", "is": "above"}]
    (one,) = judged(experiments, claim(*tests))
    assert one["verdict"] == REPRODUCED
    assert "30 of 30 values positive" in one["results"][0]["detail"]
    assert judged(experiments, claim({**tests[1], "space": "relative"}))[0]["results"] == []


def test_levels_that_were_not_reached(experiments):
    (one,) = judged(experiments, claim({"kind": "reached", "level": 0.95}))
    assert (one["verdict"], one["results"][0]["detail"]) == (UNDECIDED, "2 of 3 runs removed 95 %")
    assert "G 95.17 ± 0.58 % removed (n = 3)" in as_text([one])
    assert judged(experiments, claim({"kind": "reached", "level": 0.99}))[0]["verdict"] == ABSENT
    none = {**experiments[0], "highest": {**experiments[0]["highest"], "runs_that_reached": 0}}
    (one,) = judged([none], claim({"kind": "reached", "level": 0.95}))
    assert one["verdict"] == UNDECIDED  # their epochs may have been too few


def test_a_level_of_which_there_is_no_run_decides_nothing(experiments):
    nothing = {**experiments[0]["highest"], "runs": 0, "runs_that_reached": 0, "removed_percent": None}
    (one,) = judged([{**experiments[0], "highest": nothing}], claim({"kind": "reached", "level": 0.95}))
    assert one["verdict"] == ABSENT


def test_maps_are_searched_for_less_at_a_lower_loss(experiments):
    test = claim({"kind": "lower-elsewhere", "quantity": "psp_norm"})
    one = json.loads(json.dumps(experiments))
    first = one[0]["maps"][0]
    first["G"]["loss_nats"] = 1.0
    first["lower_than_at_G"]["psp_norm"] = {"points": 4, "lowest_loss_nats": 9.0}
    (found,) = judged(one, test)
    assert f"lower than at G on points of the map: 4 of {first['points']} (run 0)" in found["results"][0]["detail"]
    assert found["verdict"] == UNDECIDED  # one map leaves the spread unknown
    assert found["needed"]["says"] == "2 or more mapped runs needed"
    second = json.loads(json.dumps(first)) | {"seed": 1}
    second["lower_than_at_G"]["psp_norm"]["lowest_loss_nats"] = 9.1
    one[0]["maps"].append(second)
    assert judged(one, test)[0]["verdict"] == REPRODUCED
    for each, loss in zip(one[0]["maps"], (0.1, 0.2), strict=True):
        each["lower_than_at_G"]["psp_norm"]["lowest_loss_nats"] = loss
    assert judged(one, test)[0]["verdict"] == NOT_REPRODUCED
    second["lower_than_at_G"]["psp_norm"] = {"points": 0, "lowest_loss_nats": None}
    assert judged(one, test)[0]["verdict"] == NOT_REPRODUCED


def test_runs_far_from_the_level_are_left_out_where_a_claim_is_on_that_level(experiments):
    # At the level .95 run 1 stopped at 94.5 %, the others have removed 95.5 %; 1-S less G is 5.10, 5.15 and 5.20.
    near = {**NETS, "excess": 0.15}
    (result,) = (r for r in judged(experiments, claim(near))[0]["results"] if r["stated"])
    assert (result["interval"]["mean"], result["interval"]["freedom"]) == (pytest.approx(5.15), 1)
    assert [value["n"] for value in result["values"]] == [2, 2]
    assert result["detail"] == (
        "test error, highest level (95.50 % removed); 1 of 3 runs left out, whose net was not near the level"
    )
    # At .8 run 0 stands with the 91 % that it removed at once, the others with 82 %.
    low = {**near, "level": 0.8, "excess": 0.1}
    (result,) = (r for r in judged(experiments, claim(low))[0]["results"] if r["stated"])
    assert result["brief"] == "82.00 % removed"
    assert [value["n"] for value in result["values"]] == [2, 2]
    assert "1 of 3 runs left out" in result["detail"]
    published = {**near, "first": ["gradual"], "second": 1.575, "is": "within", "bound": 0.5}
    (result,) = (r for r in judged(experiments, claim(published))[0]["results"] if r["stated"])
    assert result["values"][0]["mean"] == pytest.approx(1.55)  # 1.5 and 1.6
    # Where no run is near, nothing is decided, whatever the other nets say.
    (none,) = judged(experiments, claim({**near, "level": "lowest", "excess": 0.01}))
    assert (none["verdict"], none["p"]) == (UNDECIDED, 1.0)
    (result,) = (r for r in none["results"] if r["stated"])
    assert result["detail"] == "test error, lowest level; no run's net was near it"
    assert (result["interval"], result["values"]) == (None, [])


def test_runs_are_left_out_of_nets_of_one_a_run_alone():
    with pytest.raises(ValueError, match="draws at one mask are none: reinit"):
        Ledger.model_validate({"claims": [claim({**NETS, "first": ["rewind", "reinit"], "excess": 0.15})]})


def test_low_compression_is_judged_at_nets_near_their_level():
    tests = {c.id: c.tests for c in read_ledger("paper/claims.yaml").claims}
    assert [test.excess for name in ("recovery", "cost") for test in tests[name]] == [0.15, 0.15]


def test_what_no_study_measured_is_absent(experiments):
    assert judged(experiments, claim(NETS, stated_for=["cifar10/resnet32"]))[0]["verdict"] == ABSENT
    assert judged(experiments, claim({**NETS, "first": ["rewind-long"]}))[0]["results"] == []


def test_text_names_verdicts_values_and_other_readings(experiments):
    found = judged(experiments, claim(NETS, sensitivity=[{**NETS, "is": "below"}]))
    text = as_text(found)
    assert text.startswith("reproduced: something [one; Fig. 1]")
    assert "  - LeNet-5 on MNIST, test error, highest level (95.17 % removed): 1-S 6.70 ± 0.10 % (n = 3)," in text
    assert "  ~ LeNet-5 on MNIST" in text
    assert "  + LeNet-300 on MNIST" in text
    row = as_markdown(found).splitlines()[2]
    assert row == (
        "| something (Fig. 1) | **reproduced**\\* | LeNet-5 on MNIST, 95.17 % removed: +5.2 [+5.0, +5.3] points |"
    )


def test_a_claim_that_others_carry_over_is_counted_in_the_table(experiments):
    carry = claim({"kind": "carry-over", "claims": ["one"]}, stated_for=["mnist/lenet300"], name="carry")
    found = judged(experiments, claim(NETS), carry)
    assert [result["carried_from"] for result in found[1]["results"]] == ["one"]
    assert as_markdown(found).splitlines()[3].endswith("| of 1 comparisons 1 reproduced |")


def test_every_claim_of_the_paper_is_judged(experiments):
    found = judge(read_ledger("paper/claims.yaml"), experiments)
    verdicts = {claim["id"]: claim["verdict"] for claim in found}
    assert verdicts["lower-norm"] == verdicts["sharper"] == verdicts["higher-second-order"] == REPRODUCED
    assert verdicts["resnet-gap"] == ABSENT
    assert verdicts["transfer"] == REPRODUCED


def test_transfers_are_compared_by_run_and_with_draws_by_groups(experiments):
    probe = {"kind": "transfer", "mode": "probe", "first": "gradual", "second": "rewind", "is": "below"}
    random = {**probe, "second": "random-structure"}
    fine = {**probe, "mode": "finetune"}
    (one,) = judged(experiments, claim(probe, sensitivity=(random, fine)))
    first, drawn, tuned = one["results"]
    # G - 1-S is -2 in each run; fine-tuned they are equal.
    assert (first["interval"]["mean"], first["interval"]["high"], first["verdict"]) == (-2, -2, REPRODUCED)
    assert first["detail"] == "test error on Fashion-MNIST, linear probe"
    assert [value["n"] for value in first["values"]] == [3, 3]
    assert drawn["interval"]["mean"] == pytest.approx(11 - 20.5)
    assert drawn["interval"]["low"] < -9.5 < drawn["interval"]["high"]
    assert [value["n"] for value in drawn["values"]] == [3, 2]
    assert tuned["verdict"] == UNDECIDED
    assert one["verdict"] == REPRODUCED
    (elsewhere,) = judged(experiments, claim(probe, stated_for=["mnist/lenet300"]))
    assert elsewhere["verdict"] == ABSENT  # LeNet-300 went nowhere


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"mean": 2.1867, "sd": 0.04583, "unit": "%"}, "1-S 2.19 ± 0.05 % (n = 3)"),
        ({"mean": 0.01264, "sd": 0.00468, "unit": "nats"}, "1-S 0.0126 ± 0.0047 nats (n = 3)"),
        ({"mean": 241.3, "sd": 52.61, "unit": "epochs"}, "1-S 241 ± 53 epochs (n = 3)"),
        ({"mean": -0.000321, "sd": 0.006, "unit": "bits"}, "1-S -0.000321 ± 0.00600 bits (n = 3)"),
        ({"mean": 99.5812, "sd": 0.0049, "unit": "% removed"}, "1-S 99.58 ± 0.00 % removed (n = 3)"),
        ({"mean": 0.8, "sd": None, "unit": ""}, "1-S 0.800 (n = 3)"),
    ],
)
def test_a_spread_has_the_decimals_of_its_mean(value, expected):
    assert measured_text({"values": [{"name": "1-S", "n": 3, **value}], "interval": None}) == expected


MARGINS = {"test_error": {"mnist": 6.0, "others": 6.0}, "relative": 0.05, "epochs": 0.1}


def test_a_difference_within_the_margin_says_so(experiments):
    ledger = {"margins": MARGINS, "claims": [claim(NETS), claim({**NETS, "is": "below"}, name="two")]}
    small, refuted = judge(Ledger.model_validate(ledger), experiments)
    assert (small["verdict"], small["remark"], small["results"][0]["margin"]) == (REPRODUCED, "by less than matters", 6)
    assert (refuted["verdict"], refuted["remark"]) == (NOT_REPRODUCED, "no difference that matters")
    assert as_text([small]).startswith("reproduced (by less than matters): something")
    assert "not reproduced (no difference that matters)" in as_markdown([refuted])
    bounded = {**NETS, "is": "below", "bound": 0.5}
    (own,) = judge(Ledger.model_validate({"margins": MARGINS, "claims": [claim(bounded)]}), experiments)
    assert own["results"][0]["margin"] is None  # a bound of its own


def test_every_claim_of_a_difference_has_a_margin(experiments):
    found = judge(read_ledger("paper/claims.yaml"), experiments)
    results = {r["detail"]: r for claim in found for r in claim["results"] if r["model"] == "lenet5"}
    mean = (abs(results["PSP norm"]["values"][0]["mean"]) + abs(results["PSP norm"]["values"][1]["mean"])) / 2
    assert results["PSP norm"]["margin"] == pytest.approx(0.05 * mean)
    gap = results["test error, highest level (95.17 % removed)"]
    assert gap["margin"] == 0.1
    for detail in ("largest eigenvalue, all parameters", "test error on Fashion-MNIST, linear probe"):
        size = sum(abs(value["mean"]) for value in results[detail]["values"]) / 2
        assert results[detail]["margin"] == pytest.approx(0.05 * size)


def with_a_draw_a_run(experiments):
    """New initialisations of runs 1 and 2 too, one each: run 0 has three, of which the first counts in pairs."""
    found = json.loads(json.dumps(experiments))
    cells = found[0]["levels"][-1]["strategies"]
    cells["reinit"]["by_seed"]["test_error_percent"] = {"0": 8.7, "1": 8.9, "2": 9.1}
    return found


def test_a_draw_at_the_mask_of_each_run_is_compared_in_pairs(experiments):
    drawn = {**NETS, "first": ["reinit"], "second": "rewind"}
    found = with_a_draw_a_run(experiments)
    result = judged(found, claim(drawn))[0]["results"][0]
    # 1-S errs on 6.6, 6.7 and 6.8 %: the differences are 2.1, 2.2 and 2.3.
    assert (result["interval"]["mean"], result["interval"]["freedom"]) == (pytest.approx(2.2), 2)
    assert [(value["name"], value["n"]) for value in result["values"]] == [("new initialisation", 3), ("1-S", 3)]
    (same,) = judged(found, claim({**drawn, "same_mask": True}))
    assert [value["name"] for value in same["results"][0]["values"]] == ["new initialisation", "1-S of run 0"]


def test_verdicts_of_the_new_runs_stand_beside_those_of_all(experiments):
    ledger = Ledger.model_validate({"margins": MARGINS, "claims": [claim(NETS)]})
    new = json.loads(json.dumps(experiments))
    for entry in new[0]["levels"]:
        errors = entry["strategies"]["rewind"]["by_seed"]["test_error_percent"]
        gradual = entry["strategies"]["gradual"]["by_seed"]["test_error_percent"]
        for seed in errors:
            errors[seed] = gradual[seed] - 9.0 - 0.1 * int(seed)
    (both,) = judge(ledger, experiments, new)
    assert (both["verdict"], both["new_runs"]["verdict"]) == (REPRODUCED, NOT_REPRODUCED)
    assert both["new_runs"]["results"][0]["interval"]["mean"] == pytest.approx(-9.1)
    assert "  by the new runs alone: not reproduced (disagrees)" in as_text([both]).splitlines()
    head, _, row = as_markdown([both]).splitlines()
    assert head.endswith("| verdict | new runs alone | difference (95 %) |")
    assert "| not reproduced\\* | LeNet-5 on MNIST" in row  # of so few claims each survives the correction
    assert both["new_runs"]["holm"] is True
    (alone,) = judge(ledger, experiments)
    assert alone["new_runs"] is None
    assert as_markdown([alone]).splitlines()[0].endswith("| verdict | difference (95 %) |")


def test_what_the_new_runs_did_not_measure_is_not_said_to_be_outside_the_study(experiments):
    test = {"kind": "lower-elsewhere", "quantity": "psp_norm"}
    ledger = Ledger.model_validate({"margins": MARGINS, "claims": [claim(test), claim(NETS, name="two")]})
    new = json.loads(json.dumps(experiments))
    for experiment in new:
        experiment["maps"] = []
    without_maps, both = judge(ledger, experiments, new)
    assert without_maps["verdict"] != ABSENT
    assert without_maps["new_runs"]["verdict"] == ABSENT
    assert "  by the new runs alone: not measured" in as_text([without_maps]).splitlines()
    assert "| not measured |" in as_markdown([without_maps, both])
    (nowhere, _) = judge(ledger, new, new)
    assert nowhere["verdict"] == ABSENT
    assert "new runs alone" not in as_text([nowhere])


def test_experiments_of_a_new_setting_are_new_whatever_their_seeds(tmp_path):
    rows = [
        row for model in ("lenet5", "lenet5@low", "lenet300") for row in cases.results(dataset="mnist", model=model)
    ]
    rows += cases.results(dataset="mnist", model="lenet5", seeds=(3, 4))
    results = cases.write(tmp_path, "results", rows, "results")
    ledger, out = tmp_path / "claims.yaml", tmp_path / "numbers.json"
    place = ["mnist/lenet5@low", "mnist/lenet5"]
    content = {"claims": [claim(NETS, stated_for=[place])], "new_runs_from": 3}
    for new, expected in (([], ("lenet5", 2)), (["low"], ("lenet5@low", 3))):
        ledger.write_text(json.dumps(content | {"new_labels": new}))
        summarise(results, {}, ledger, {}, out)
        (one,) = read_json(out)["claims"]
        assert [r["model"] for r in one["results"] if r["stated"]] == ["lenet5@low"]
        (result,) = (r for r in one["new_runs"]["results"] if r["stated"])
        assert (result["model"], result["values"][0]["n"]) == expected


def test_a_verdict_that_survives_holm_has_an_asterisk(experiments):
    strong, weak = judged(experiments, claim(NETS), claim({**NETS, "level": "lowest"}, name="two"))
    assert (strong["holm"], strong["p"]) == (True, pytest.approx(strong["results"][0]["p"]))
    assert "**reproduced**\\*" in as_markdown([strong])
    assert "  survives Holm's correction over all claims" in as_text([strong]).splitlines()
    counts = judged(experiments, claim({"kind": "reached", "level": 0.95}))[0]
    assert counts["holm"] is None
    assert weak["p"] is not None
