"""The claims ledger: the paper's claims, the rules that decide them, and their verdicts by the numbers of a study.

The ledger is ``paper/claims.yaml``. A verdict is computed, never typed: *reproduced* where the whole interval of a
difference lies where the paper says, *not reproduced* where the whole interval lies outside, else *undecided*, with the
number of replicas that would decide it if mean and spread stayed as they are.
"""

from sharpminima.report.claims._judge import judge
from sharpminima.report.claims._ledger import Claim, Ledger, read_ledger
from sharpminima.report.claims._results import BySetting, JudgedClaim, Result, deciding_results
from sharpminima.report.claims._settings import judge_settings
from sharpminima.report.claims._text import (
    as_markdown,
    as_text,
    comparison_title,
    measured_text,
    new_runs_text,
    readings_as_markdown,
    settings_text,
    verdict_text,
)
from sharpminima.report.claims._verdict import ABSENT, NOT_REPRODUCED, REPRODUCED, UNDECIDED, VERDICTS

__all__ = [
    "ABSENT",
    "NOT_REPRODUCED",
    "REPRODUCED",
    "UNDECIDED",
    "VERDICTS",
    "BySetting",
    "Claim",
    "JudgedClaim",
    "Ledger",
    "Result",
    "as_markdown",
    "as_text",
    "comparison_title",
    "deciding_results",
    "judge",
    "judge_settings",
    "measured_text",
    "new_runs_text",
    "read_ledger",
    "readings_as_markdown",
    "settings_text",
    "verdict_text",
]
