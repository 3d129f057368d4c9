"""The page on what the study `paper` came to, and what README says of it."""

import csv
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from result_pages.cells import digits
from sharpminima.report.claims import as_markdown
from sharpminima.report.rounding import fixed
from sharpminima.report.titles import short_title_of

_STRATEGIES = ("gradual", "rewind", "reinit", "random-structure")
_HEADS = (
    "removed",
    "G",
    "1-S",
    "1-S less G (points, 95 %)",
    "removed, controls",
    "new initialisation",
    "random structure",
)
_MEASURED = ("quantity", "G", "1-S", "difference", "larger at G in")
_SPACES = {"all": "all parameters", "surviving": "surviving ones", "relative": "relative changes of surviving ones"}
_PSP = {
    "psp_norm": "PSP norm (mean z²)",
    "entropy_1_bits": "first-order PSP-entropy (bits)",
    "entropy_2_joint_bits": "second order, joint (bits)",
    "entropy_2_agreement_bits": "second order, agreement, as in the authors' first public code (bits)",
}
_EPOCH = Path(__file__).parents[2] / "paper/measured/resnet32-epoch.csv"
_TEXT = """\
# What came out

<!-- Written by docs/results.py from the tables of the study `paper`. -->

{outcome}

![Every comparison that decides a claim, in units of the smallest difference that matters](forest.png)

*Every comparison that decides a claim: difference and 95 % interval, in units of the smallest difference that matters
or, where a claim states a bound, of that. The shaded part of a line is where the claim wants the whole interval. What
is decided by counting has no interval; hollow points are other nets than those the claim names.*

## The claims

Each claim of the paper, its verdict by the rules of [`paper/claims.yaml`](../../paper/claims.yaml), and the
differences that decide it with their 95 % intervals, by Student's t over the runs of the study (paired by run, also of
draws at the mask of each run; Welch's where all draws share one). A claim of a difference is *reproduced* where all the
interval lies on its side of zero, "by less than matters" if within the margin too; *not reproduced* where the whole
interval lies on the other side, or within the smallest difference that matters: 0.1 points of test error on MNIST and
0.3 on Fashion-MNIST, 5 % of the mean of both for losses, norms, entropies, eigenvalues and errors on another dataset,
10 % for epochs; else it is *undecided*. A claim that states a bound (half a point, a tenth) is held to that alone. A
claim is reproduced where all its comparisons are, and refuted by one that is not. Differences of norms, entropies,
eigenvalues and errors on another dataset are G minus 1-S; of the others `sharpminima claims --study paper` names both
sides, and other readings. "11 runs would decide": about four in five samples of so many would, if mean and spread
stayed. "By counting": no interval, every run must show it. An asterisk stands at verdicts that survive Holm's
correction over all claims.{alone}

{claims}

## Test errors

![Test error against the share of removed parameters](fig1.png)

Mean ± standard deviation (number of nets), in percent; removed: of the nets of LOBSTER (G). New initialisations and
random structures, the controls, are draws at the mask of one run, which removes another share than the others do.
{errors}

## At the highest level

Mean ± standard deviation (number of runs) of what was measured at G and at 1-S, their difference within a run, and in
how many runs it is positive.
{measured}

ResNet-32 on CIFAR-10 (Fig. 1d) is ready to run (`study=resnet32`). Of its run 0 there is one epoch on a CPU thread
([resnet32-epoch.csv](../../paper/measured/resnet32-epoch.csv)): {epoch}.
"""
_ALONE = """ "New runs alone": the verdict of seeds {first} and up, of which no test error had been
looked at when the last rule that bears on them was written."""


def page(numbers: Mapping[str, Any]) -> str:
    """The page, from the numbers of the study."""
    return _TEXT.format(
        outcome="\n".join(f"- {sentence}" for sentence in numbers["outcome"]),
        alone=_ALONE.format(first=numbers["new_runs_from"]) if any(c["new_runs"] for c in numbers["claims"]) else "",
        claims=as_markdown(numbers["claims"]),
        errors="\n".join(table for experiment in numbers["experiments"] for table in _errors(experiment)),
        measured="\n".join(line for experiment in numbers["experiments"] for line in _measured(experiment)),
        epoch=_resnet(),
    )


def in_brief(numbers: Mapping[str, Any]) -> str:
    """What README says beside the outcome."""
    seeds = [len(experiment["dense"]["by_seed"]["test_error_percent"]) for experiment in numbers["experiments"]]
    runs = " to ".join(str(count) for count in sorted(set(seeds)))
    relative = [experiment["analysis"]["hessian"]["relative"] for experiment in numbers["experiments"]]
    differences = [space["ranks"][0]["difference"] for space in relative]
    total = sum(difference["n"] for difference in differences)
    flatter = total - sum(difference["positive"] for difference in differences)
    top = [(experiment["title"], experiment["levels"][-1]["gap"]) for experiment in numbers["experiments"]]
    gaps = [f"{fixed(gap['mean'], 2)} on {title}" for title, gap in top if gap]
    return (
        f"By {runs} runs of each net. At the highest level 1-S errs more than G by {', '.join(gaps[:-1])} and "
        f"{gaps[-1]} (percentage points). By relative changes of the weights, which no rescaling of layers changes, "
        f"G lies in flatter minima in {flatter} of {total} runs."
    )


def _errors(experiment: Mapping[str, Any]) -> Iterator[str]:
    dense = experiment["dense"]["test_error_percent"]
    yield f"\n**{experiment['title']}**; the dense nets err on {_stat(dense)} %.\n"
    yield f"| {' | '.join(_HEADS)} |\n|{' --- |' * len(_HEADS)}"
    for entry in experiment["levels"]:
        cells, gap = entry["strategies"], entry["gap"]
        errors = [_stat(cells[name]["test_error_percent"]) if name in cells else "–" for name in _STRATEGIES]
        between = "–" if gap is None else f"{_signed(gap['mean'])} [{_signed(gap['low'])}, {_signed(gap['high'])}]"
        shown = [_removed(cells, "gradual"), *errors[:2], between, _removed(cells, "reinit"), *errors[2:]]
        yield f"| {' | '.join(shown)} |"


def _signed(value: float) -> str:
    return ("+" if value > 0 else "") + fixed(value, 2)


def _removed(cells: Mapping[str, Any], name: str) -> str:
    return f"{fixed(cells[name]['removed_percent']['mean'], 2)} %" if name in cells else "–"


def _measured(experiment: Mapping[str, Any]) -> Iterator[str]:
    top = experiment["levels"][-1]["strategies"]
    below = {name for entry in experiment["levels"][:-1] for name in entry["strategies"]}
    only = [
        f"{short_title_of(name)} {_stat(cell['test_error_percent'])}" for name, cell in top.items() if name not in below
    ]
    also = f"; at this level alone, test error in percent: {'; '.join(only)}" if only else ""
    yield f"\n**{experiment['title']}**, {100 * experiment['highest']['level']:.6g} % asked for{also}.\n"
    yield f"| {' | '.join(_MEASURED)} |\n|{' --- |' * len(_MEASURED)}"
    for space, said in _SPACES.items():
        if space in experiment["analysis"]["hessian"]:
            first = experiment["analysis"]["hessian"][space]["ranks"][0]
            yield _pair(f"largest eigenvalue, {said}", first)
    for name, said in _PSP.items():
        if name in experiment["analysis"]["psp"]:
            yield _pair(said, experiment["analysis"]["psp"][name])


def _pair(name: str, values: Mapping[str, Any]) -> str:
    ends = " | ".join(f"{digits(values[end])} ({values[end]['n']})" for end in ("G", "1-S"))
    difference = values["difference"]
    return f"| {name} | {ends} | {digits(difference)} | {difference['positive']} of {difference['n']} runs |"


def _resnet() -> str:
    with _EPOCH.open(encoding="utf-8", newline="") as file:
        errors = {row["run"]: float(row["test_error_percent"]) for row in csv.DictReader(file)}
    return f"{errors['dense']:.1f} % test error dense, {errors['lobster']:.1f} % with LOBSTER"


def _stat(summary: Mapping[str, Any]) -> str:
    decimals = 2 if summary["mean"] < 10 else 1
    spread = "" if summary["sd"] is None else f" ± {fixed(summary['sd'], decimals)}"
    return f"{fixed(summary['mean'], decimals)}{spread} ({summary['n']})"
