"""The training curves of every run."""

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any

from sharpminima.base.errors import FigureError
from sharpminima.base.files import read_json
from sharpminima.base.names import DENSE, EVENTS, GRADUAL, HISTORY, REWIND
from sharpminima.explore.chart import Chart, Control, Option, base_layout, options, short
from sharpminima.explore.names import title_among
from sharpminima.figures.style import PALETTE
from sharpminima.report.titles import title_of_net
from sharpminima.study.jobs import Layout

_SHOWN = {
    "train_loss": ("training loss (nats)", "y", "solid"),
    "validation_loss": ("validation loss (nats)", "y", "dot"),
    "validation_error_percent": ("validation error (%)", "y2", "solid"),
    "sparsity": ("removed (%)", "y3", "solid"),
}
"""Column of a history -> what it is, axis, line."""
_LOSS_AXIS = {
    "title": {"text": "loss (nats)"},
    "domain": [0.62, 1],
    "type": "log",
    "dtick": "D2",  # ticks at 1, 2 and 5
    "tickformat": "~g",
}
_KINDS: dict[str, dict[str, Any]] = {
    column: {
        "type": "scatter",
        "mode": "lines",
        "name": title,
        "x0": 1,
        "dx": 1,
        "yaxis": axis,
        "line": {"width": 1.4, "dash": dash},
        "hovertemplate": f"run %{{meta.run}}, epoch %{{x}}<br>{title}: %{{y:.4~g}}<extra></extra>",
    }
    for column, (title, axis, dash) in _SHOWN.items()
}


_DIGITS = 4  # that are shown of a point; a page has a million of them
_STRATEGIES = {"dense": DENSE, "prune": GRADUAL, "retrain": None}
"""Rule of a training -> the strategy of its nets; None: its key says it."""


@dataclass(frozen=True)
class Training:
    """One job's trainings: of a dense net, of a method's run, or of all draws of a cell."""

    dataset: str
    model: str
    method: str | None  # None: a dense net, which methods share
    strategy: str
    level_name: str | None  # None: it is the way to all levels
    seed: int
    history: str  # its file
    events: str | None = None  # of a method's run


def trainings(layout: Layout) -> Iterator[Training]:
    """Every training of a study, in the order of its jobs."""
    for job in layout.training_jobs():
        if job.rule in _STRATEGIES:
            key = job.key
            (history,) = [path for path in job.outputs if path.endswith(HISTORY)]
            yield Training(
                dataset=key["dataset"],
                model=key["model"],
                method=None if job.rule == "dense" else key["method"],
                strategy=_STRATEGIES[job.rule] or key["strategy"],
                level_name=key["level"] if job.rule == "retrain" else None,
                seed=key["seed"],
                history=history,
                events=next((path for path in job.outputs if path.endswith(EVENTS)), None),
            )


def curves_chart(layout: Layout) -> Chart:
    """Loss, error and share removed over epochs, of every training, to four digits; the removals of LOBSTER are marked.

    Where a method trains several times, epochs count on.

    Raises:
        FigureError: a history cannot be read.
    """
    traces: list[dict[str, Any]] = []
    all_trainings = list(trainings(layout))
    methods = list(dict.fromkeys(one.method for one in all_trainings if one.method))
    runs: dict[str, Option] = {}
    for training in all_trainings:
        for number, rows in _draws(training.history):
            name = (
                f"{training.seed}" if number is None or training.strategy in _UNDRAWN else f"{training.seed}.{number}"
            )
            if name not in runs:
                again, place = divmod(len(runs), len(PALETTE))  # colours come round: lines are dashed then
                runs[name] = Option(name, _run_name(name), PALETTE[place], "○" if again % 2 else "●")
            meta = {
                "net": f"{training.model}/{training.dataset}",
                "strategy": training.strategy,
                "run": name,
                **({"method": training.method} if training.method else {}),
                **({"level": training.level_name} if training.level_name else {}),
            }
            look = runs[name]
            traces += [_curve(rows, column, meta, look) for column in _SHOWN]
            if training.events:
                traces += _removals(training.events, meta, look.colour)
    strategies = {
        one.strategy: Option(one.strategy, title_among(one.strategy, one.method or "", methods))
        for one in all_trainings
    }
    level_names = sorted({one.level_name for one in all_trainings if one.level_name}, key=float)
    nets = options((f"{one.model}/{one.dataset}", title_of_net(one.model, one.dataset)) for one in all_trainings)
    return Chart(
        id="curves",
        label="Loss, error and share removed over the epochs of training",
        traces=traces,
        layout=base_layout(
            xaxis={"title": {"text": "epoch"}, "anchor": "y3"},
            yaxis=_LOSS_AXIS,
            yaxis2={"title": {"text": "error (%)"}, "domain": [0.3, 0.57], "tickformat": "~g"},
            yaxis3={"title": {"text": "removed (%)"}, "domain": [0, 0.25], "rangemode": "tozero", "tickformat": "~g"},
        ),
        controls=[
            Control("net", "Net", nets, "one"),
            *([Control("method", "Method", options((m, m) for m in methods), "one")] if len(methods) > 1 else []),
            Control("strategy", "Strategy", list(strategies.values()), "one", start=[GRADUAL]),
            Control("level", "Level", [Option(name, f"{name} %") for name in level_names], "one"),
            Control("run", "Runs", sorted(runs.values(), key=_in_order)),
        ],
        kinds=_KINDS,
        table=True,
        tall=True,
    )


_UNDRAWN = (DENSE, GRADUAL, REWIND, "rewind-long")  # one net a run


def _run_name(name: str) -> str:
    seed, _, draw = name.partition(".")
    return f"run {seed}" + (f", draw {draw}" if draw else "")


def _in_order(run: Option) -> tuple[int, int]:
    """Runs by seed, each before its draws."""
    seed, _, draw = run.value.partition(".")
    return int(seed), int(draw or -1)


def _draws(path: str) -> Iterator[tuple[int | None, list[dict[str, str]]]]:
    """The rows of each draw, in the order of a file; None where it has one training.

    There is none where nothing was trained: a level that shares its state with a higher one was trained there.
    """
    try:
        with Path(path).open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            rows = list(reader)
    except (OSError, UnicodeDecodeError) as error:
        raise FigureError(f"{path}: cannot be read as a history ({error})") from error
    if lacking := [column for column in _SHOWN if column not in (reader.fieldnames or [])]:
        raise FigureError(f"{path}: lacks {', '.join(lacking)}; remove it, so that it is made again")
    for draw, of_draw in groupby(rows, key=lambda row: row.get("replica")):
        yield (None if draw is None else int(draw)), list(of_draw)


def _curve(rows: list[dict[str, str]], column: str, meta: dict[str, Any], look: Option) -> dict[str, Any]:
    scale = 100 if column == "sparsity" else 1
    values = [short(scale * float(row[column]), _DIGITS) if row[column] else None for row in rows]
    ends: dict[str, Any] = {}
    if len(values) > 1 and len(set(values)) == 1:  # of a mask that stays: its two ends say all
        ends, values = {"x": [1, len(values)]}, values[:2]
    line = {"color": look.colour, **({} if look.mark == "●" else {"dash": "dash"})}
    return {"like": column, "y": values, **ends, "line": line, "meta": meta}


def _numbers(event: dict[str, Any]) -> list[str]:
    """An event's numbers with their names; what else a method records of it is for its own tables."""
    numbers = {name: value for name, value in event.items() if isinstance(value, int | float)}
    return [f"{name.replace('_', ' ')} {value:.6g}" for name, value in numbers.items()]


def _removals(path: str, meta: dict[str, Any], colour: str | None) -> list[dict[str, Any]]:
    """The prunings of a gradual method, which have an epoch and what survived it; others have none to mark.

    Nor has a path by which weights come in (DessiLBI), an event of which is what has come in so far.
    """
    removals = [event for event in read_json(path) if {"epoch", "survivors", "sparsity"} <= event.keys()]
    if not removals or any(after["survivors"] > before["survivors"] for before, after in pairwise(removals)):
        return []
    facts = ["<br>".join(_numbers(event)) for event in removals]
    return [
        {
            "type": "scatter",
            "mode": "markers",
            "name": "removal",
            "x": [event["epoch"] for event in removals],
            "y": [short(100 * event["sparsity"]) for event in removals],
            "yaxis": "y3",
            "customdata": facts,
            "marker": {"color": colour, "size": 8, "symbol": "triangle-up"},
            "hovertemplate": "<b>removal</b>, run %{meta.run}<br>%{customdata}<extra></extra>",
            "meta": {**meta, "kind": "removal"},
        }
    ]
