from pathlib import Path

import pytest

from sharpminima.base.errors import ConfigError
from sharpminima.report.claims import read_ledger
from sharpminima.study.jobs import NUMBERS_CODE

CLAIM = """
claims:
  - id: gap
    source: Fig. 1
    says: something
    stated_for: [mnist/lenet5]
    tests:
      - {kind: nets, quantity: test_error_percent, first: [rewind], second: gradual, is: above}
"""


def test_the_papers_ledger_is_whole():
    claims = read_ledger("paper/claims.yaml").claims
    assert {"retraining-fails", "sharper", "lower-norm", "higher-second-order", "carries-over", "transfer"} <= {
        claim.id for claim in claims
    }
    assert all(claim.says and claim.source for claim in claims)


def test_numbers_are_made_anew_when_any_code_that_judges_changes():
    judging = {path.as_posix() for path in Path("src/sharpminima/report/claims").glob("_*.py")}
    texts = {f"src/sharpminima/report/claims/{name}.py" for name in ("__init__", "_text")}
    assert judging - texts <= {str(path) for path in NUMBERS_CODE}


def test_what_changed_after_results_is_told_in_order():
    amendments = read_ledger("paper/claims.yaml").amendments
    assert amendments
    assert [one.date for one in amendments] == sorted(one.date for one in amendments)
    assert all(one.change and one.seen for one in amendments)


@pytest.mark.parametrize(
    ("before", "after", "fault"),
    [
        ("kind: nets", "kind: guess", "claims.0.tests.0"),
        ("is: above", "is: larger", "claims.0.tests.0.nets.is"),
        ("is: above", "is: within", "needs a bound above 0"),
        ("is: above", "is: above, relative: true", "relative bounds"),
        ("second: gradual", "second: 1.2, same_mask: true", "`second` is a published value"),
        ("\nclaims:", "\namendments: [{date: later, change: a, seen: b}]\nclaims:", "amendments.0.date"),
        ("source: Fig. 1\n", "", "source"),
        ("mnist/lenet5", "mnist", "stated_for"),
        ("tests:", "verdict: reproduced\n    tests:", "claims.0.verdict"),
    ],
)
def test_faults_are_named(tmp_path, before, after, fault):
    path = tmp_path / "claims.yaml"
    assert before in CLAIM
    path.write_text(CLAIM.replace(before, after))
    with pytest.raises(ConfigError, match=fault):
        read_ledger(path)


def test_a_claim_carries_over_only_what_stands_before_it(tmp_path):
    path = tmp_path / "claims.yaml"
    text = Path("paper/claims.yaml").read_text()
    path.write_text(text.replace("          - sharper\n", "          - transfer\n"))
    with pytest.raises(ConfigError, match="carries-over: carries over transfer"):
        read_ledger(path)


MARGINS = "\nmargins: {test_error: {mnist: 0.1, others: 0.3}, relative: 0.05, epochs: 0.1}\nnew_runs_from: 3\nclaims:"


def test_margins_are_points_of_error_and_shares_of_the_mean(tmp_path):
    path = tmp_path / "claims.yaml"
    path.write_text(CLAIM.replace("\nclaims:", MARGINS))
    ledger = read_ledger(path)
    assert ledger.new_runs_from == 3
    assert ledger.margins.of("test_error_percent", "mnist", [1.0, 2.0]) == 0.1
    assert ledger.margins.of("test_error_percent", "digits", [1.0, 2.0]) == 0.3
    assert ledger.margins.of("psp_norm", "mnist", [1.0, -2.0]) == pytest.approx(0.075)
    assert ledger.margins.of("best_epoch", "mnist", [10.0, 30.0]) == pytest.approx(2.0)
    path.write_text(CLAIM.replace("\nclaims:", MARGINS.replace(", others: 0.3", "")))
    with pytest.raises(ConfigError, match="`others` is missing"):
        read_ledger(path)


def test_the_papers_margins_are_those_written_down_before_the_new_runs():
    ledger = read_ledger("paper/claims.yaml")
    points = {"mnist": 0.1, "fashion-mnist": 0.3, "cifar10": 0.3, "others": 0.3}
    assert ledger.margins.model_dump() == {"test_error": points, "relative": 0.05, "epochs": 0.1}
    assert (ledger.new_runs_from, ledger.new_labels) == (3, ("low", "authors"))


def test_ids_stand_once(tmp_path):
    path = tmp_path / "claims.yaml"
    path.write_text(CLAIM + CLAIM.partition("claims:")[2])
    with pytest.raises(ConfigError, match="gap repeated"):
        read_ledger(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"absent\.yaml"):
        read_ledger(tmp_path / "absent.yaml")
