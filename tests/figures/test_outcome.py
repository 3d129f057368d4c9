"""The sentences that say what came out."""

from sharpminima.report.outcome import outcome


def claims(**verdicts: str) -> list[dict]:
    return [{"id": name.replace("_", "-"), "verdict": verdict} for name, verdict in verdicts.items()]


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
        "Of the paper's 2 claims 0 are reproduced, 1 not reproduced and 0 undecided; 1 is outside this study.",
    ]


def test_two_parts_are_one_sentence():
    said = outcome(claims(higher_second_order="not reproduced", comparable_first_order="reproduced"))
    assert said[0] == (
        "A higher second-order PSP-entropy, by which the paper explains this, is not there; "
        "the first-order entropies of both are alike."
    )
