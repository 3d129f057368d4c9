"""The sentences that say what came out."""

from sharpminima.report.outcome import outcome


def claims(**verdicts: str) -> list[dict]:
    return [
        {"id": name.replace("_", "-"), "says": f"{name} is so.", "verdict": verdict, "results": []}
        for name, verdict in verdicts.items()
    ]


def compared(verdict: str, dataset: str = "mnist", *, stated: bool = False, reading: str = "") -> dict:
    net = {"model": "lenet5", "dataset": dataset, "method": "lobster"}
    return {
        **net,
        "stated": stated,
        "sensitivity": bool(reading),
        "detail": reading,
        "verdict": verdict,
        "remark": None,
    }


def test_each_verdict_has_its_sentence():
    for verdict, start in (
        ("reproduced", "At the highest compression retraining does fall behind"),
        ("not reproduced", "At the highest compression retraining does not fall behind"),
        ("undecided", "Whether retraining falls behind"),
    ):
        assert outcome(claims(retraining_fails=verdict))[0].startswith(start)


def test_what_the_study_lacks_is_left_out_and_a_sentence_may_begin_with_its_second_part():
    said = outcome(claims(sharper="not in this study", generalises_well="not reproduced"))
    assert said == [
        "These minima do not generalise well.",
        "Of the paper's 2 claims 0 are reproduced, 1 not reproduced and 0 undecided; 1 is outside this study. "
        "0 of these verdicts survive Holm's correction over all claims.",
    ]


def test_what_is_judged_on_one_net_says_how_the_others_came_out_and_what_speaks_against_it():
    (claim,) = claims(sharper="reproduced")
    claim["holm"] = True
    claim["results"] = [compared("reproduced", stated=True), compared("undecided", "fashion-mnist")]
    sharper = "The gradually pruned nets do lie in sharper minima, by the largest eigenvalue of the Hessian"
    assert outcome([claim]) == [
        f"{sharper} (judged on LeNet-5 on MNIST; undecided on LeNet-5 on Fashion-MNIST).",
        "Of the paper's 1 claims 1 is reproduced, 0 not reproduced and 0 undecided. "
        "1 of these verdicts survives Holm's correction over all claims.",
    ]
    claim["results"] += [compared("reproduced", data) for data in ("usps", "digits", "emnist")]
    claim["results"] += [compared("not reproduced", "cifar10")]
    assert outcome([claim])[0] == (
        f"{sharper} (judged on LeNet-5 on MNIST; likewise on LeNet-5 on digits, LeNet-5 on emnist and LeNet-5 on usps; "
        "the contrary on LeNet-5 on CIFAR-10; "
        "undecided on LeNet-5 on Fashion-MNIST)."
    )
    del claim["results"][-1]
    claim["results"][1]["verdict"] = "reproduced"
    assert outcome([claim])[0] == f"{sharper} (judged on LeNet-5 on MNIST; likewise on the other nets)."
    del claim["results"][2:]
    sharper = (
        "Whether the gradually pruned nets lie in sharper minima depends on the measure: by the paper's, the largest "
        "eigenvalue of the Hessian of all parameters, they do"
    )
    claim["results"][1] = compared("not reproduced", stated=True, reading="surviving parameters")
    assert outcome([claim])[0] == f"{sharper} (not reproduced by another reading: surviving parameters)."
    claim["results"][1]["remark"] = "no difference that matters"
    assert "by another reading: surviving parameters (no difference that matters))" in outcome([claim])[0]
    claim["results"].append(compared("not reproduced", stated=True, reading="relative changes, layer 1"))
    assert outcome([claim])[0] == f"{sharper} (not reproduced by 2 other readings)."
    claim["results"] = [compared("reproduced", stated=True), compared("undecided", stated=True, reading="relative")]
    assert outcome([claim])[0] == (
        "The gradually pruned nets do lie in sharper minima, by the largest eigenvalue of the Hessian."
    )


def test_two_parts_are_one_sentence():
    said = outcome(claims(higher_second_order="not reproduced", comparable_first_order="reproduced"))
    assert said[0] == (
        "A higher second-order PSP-entropy, by which the paper explains this, is not there; "
        "the first-order entropies of both are alike."
    )


def test_new_runs_that_say_otherwise_are_named():
    (claim,) = claims(retraining_fails="reproduced")
    for verdict, ending in (
        ("undecided", " (by the new runs alone undecided)."),
        ("reproduced", "as the paper says."),
        ("not in this study", "as the paper says."),
    ):
        assert outcome([{**claim, "new_runs": {"verdict": verdict}}])[0].endswith(ending)
    open_one = {**claim, "verdict": "undecided", "new_runs": {"verdict": "not reproduced"}}
    assert outcome([open_one])[0].endswith("these runs cannot tell (by the new runs alone not reproduced).")


def test_what_is_refuted_or_outside_the_study_and_told_of_nowhere_else_is_quoted():
    refuted = {"sharper": "not reproduced", "transfer": "not reproduced", "carries_over": "not reproduced"}
    told = outcome(claims(**refuted, resnet_gap="not in this study", cost="reproduced"))[-1]
    assert told.endswith(
        "over all claims. Not reproduced too: “transfer is so.” “carries_over is so.” "
        "Outside this study: “resnet_gap is so.”"
    )
    many = {f"claim_{number}": "not in this study" for number in range(4)}
    assert "claim_0" not in outcome(claims(**many))[-1]


def test_a_verdict_that_does_not_survive_the_correction_says_so():
    (claim,) = claims(retraining_fails="reproduced")
    for holm, ending in ((False, " (not by Holm's correction for all claims)."), (True, "says."), (None, "says.")):
        assert outcome([{**claim, "holm": holm}])[0].endswith(ending)
    assert "correction for all" not in outcome([{**claim, "verdict": "undecided", "holm": False}])[0]
