"""Studies that look finished: every file that their page reads, of made-up numbers."""

import json
from pathlib import Path
from typing import Any

import yaml
from figures import cases as tables

from sharpminima.base.files import write_csv, write_json
from sharpminima.base.names import EVENTS, HISTORY
from sharpminima.report.numbers import summarise
from sharpminima.report.tables import columns_of
from sharpminima.study.jobs import Layout
from sharpminima.study.read import load_config

ROOT = Path(__file__).parents[2]
SEEDS = [0, 1, 2]
LEVELS = [0.5, 0.8, 0.9, 0.95]
STRATEGIES = {
    "rewind": {"seeds": "all"},
    "reinit": {"replicas": 3},
    "random-structure": {"replicas": 3},
}
CURVE = ["epoch", "lr", "train_loss", "validation_loss", "validation_error_percent", "sparsity"]


def study(folder: Path, *, methods: tuple[str, ...] = ("lobster",), analysed: bool = True) -> Layout:
    """A study of LeNet-5 on the digits, in ``folder``, which is where one stands."""
    experiments = [
        {
            "dataset": "digits",
            "model": "lenet5",
            "method": {"name": method},
            "levels": LEVELS,
            "strategies": STRATEGIES,
            **({"analysis": {}, "maps": "all"} if analysed else {}),
        }
        for method in methods
    ]
    focus = {"focus": {"dataset": "digits", "model": "lenet5"}} if analysed else {}
    figures = ["fig1", "fig2"] if analysed else ["fig1"]
    said = {"title": "A study <of> tests", "seeds": SEEDS, "experiments": experiments, "figures": figures, **focus}
    (folder / "seen.yaml").write_text(yaml.safe_dump(said | {"paper": False}), encoding="utf-8")
    for name in ("paper", "src", "notebooks"):
        (folder / name).symlink_to(ROOT / name)
    return Layout(*load_config({"study": "seen.yaml"}))


def finish(layout: Layout) -> Layout:
    """Write all that the page of a study reads."""
    rows: dict[tuple[Any, ...], dict[str, Any]] = {}
    for experiment in layout.study.experiments:
        for row in tables.results(levels=LEVELS, model=experiment.model):
            own = row | ({} if row["strategy"] == "dense" else {"method": experiment.method.name})
            rows[tuple(own[name] for name in ("method", "strategy", "level", "seed", "replica"))] = own
    write_csv(layout.table("results"), list(rows.values()), columns_of("results"))
    for job in layout.measurements():
        if job.rule != "neurons":
            made = getattr(tables, job.rule)(seed=job.key["seed"], model="lenet5", method=job.key["method"])
            write_csv(job.outputs[0], made, columns_of(job.rule))
    for job in layout.training_jobs():
        for path in job.outputs:
            if path.endswith(HISTORY):
                _write_history(job.rule, path)
            elif path.endswith(EVENTS):
                event = {"epoch": 3, "event": 1, "survivors": 300, "sparsity": 0.25, "threshold": 0.125}
                write_json(path, [event])
    measured = {name: layout.analysis_tables(name) for name in ("psp", "hessian", "surface", "line", "barrier")}
    summarise(layout.table("results"), measured, ROOT / "paper/claims.yaml", {}, layout.numbers())
    for figure in layout.study.figures:
        write_json(layout.provenance(figure), _chain(layout, figure))
    return layout


def _write_history(rule: str, path: str) -> None:
    draws = range(3) if "/reinit/" in path or "/random-structure/" in path else range(1)
    rows = [
        {
            "replica": draw,
            "epoch": epoch,
            "lr": 0.1,
            "train_loss": 1 / (3 * epoch) + draw,
            "validation_loss": 0.5 / epoch + draw,
            "validation_error_percent": 10 / epoch,
            "sparsity": 0.25 * (epoch >= 3) if rule == "prune" else 0.5,
        }
        for draw in draws
        for epoch in range(1, 6)
    ]
    columns = CURVE if rule == "prune" else ["replica", *CURVE]
    write_csv(path, [{name: row[name] for name in columns} for row in rows], columns)


def _chain(layout: Layout, figure: str) -> dict[str, Any]:
    """A chain of each kind of file."""
    made = {job.rule: job for job in layout.jobs()}
    origins: dict[str, Any] = {}
    for name in ("prepare", "init", "dense", "prune", "retrain", "table"):
        job, kind = made[name], {"prepare": "data", "table": "table"}.get(name, "checkpoint")
        known = {"raw_sha256": {"digits": "r" * 64}} if kind == "data" else {"step": name, "from": list(job.inputs)}
        method = {"method": job.key["method"], "settings": {"lr": 0.1}} if "method" in job.key else {}
        origins[job.outputs[0]] = {"kind": kind, "sha256": name[0] * 64, **known, **method}
    notebook = f"notebooks/{figure}.ipynb"
    origins[notebook] = {"kind": "notebook", "sha256": "n" * 64}
    drawn = f"{layout.figure(figure)}.pdf"
    read = [notebook, made["table"].outputs[0]]
    origins[drawn] = {"kind": "figure", "sha256": "f" * 64, "step": "figure", "from": read}
    package = {"name": "sharpminima", "version": "0.1.0"}
    return {"figure": figure, "study": layout.name, "package": package, "files": [drawn], "origins": origins}


def charts(page: str) -> dict[str, Any]:
    """The charts that a page holds, traces of a kind put together as its script does."""
    text = page.partition('<script type="application/json" id="charts">')[2].partition("</script>")[0]
    found = json.loads(text)
    for chart in found.values():
        chart["traces"] = [_whole(trace, chart["kinds"]) for trace in chart["traces"]]
    return found


def _whole(trace: dict[str, Any], kinds: dict[str, Any]) -> dict[str, Any]:
    shared = kinds.get(trace.get("like"), {})
    own = {name: value for name, value in trace.items() if name != "like"}
    return {**shared, **own, **({"line": {**shared["line"], **own["line"]}} if shared else {})}
