"""Small synthetic tables with exactly the pipeline's columns."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sharpminima.base.files import write_csv
from sharpminima.report.tables import columns_of

KEY = {"dataset": "digits", "model": "lenet5", "method": "lobster"}
SEEDS = (0, 1, 2)
CLASSES = ("7", "8", "9")


def result(**values: Any) -> dict[str, Any]:
    """One row of a results table; unnamed columns hold plausible values."""
    row = {
        **KEY,
        "strategy": "gradual",
        "level": 0.9,
        "replica": 0,
        "seed": 0,
        "reached": True,
        "sparsity": 0.9,
        "parameters": 431080,
        "nonzero": 43108,
        "effective": 43000,
        "compression": 10.0,
        "flops_dense": 1000,
        "flops_effective": 100,
        "collapsed": False,
        "test_error_percent": 2.0,
        "test_wrong": 7,
        "test_images": 360,
        "training_loss_nats": 0.01,
        "validation_loss_nats": 0.05,
        "test_loss_nats": 0.06,
        "best_epoch": 20,
        "epochs": 30,
        "gradient_norm": None,
        "test_error_after_threshold_percent": None,
        "gradient_norm_after_threshold": None,
        **values,
    }
    row.setdefault("represented_by_level", row["level"])
    row.setdefault("sparsity_all", row["sparsity"])
    return row


def results(
    *,
    seeds: Sequence[int] = SEEDS,
    replicas: int = 3,
    levels: Sequence[float] = (0.5, 0.8, 0.9, 0.95),
    **key: str,
) -> list[dict[str, Any]]:
    """A whole experiment; two levels share a state in run 0, the highest is not reached in run 1."""
    rows = [
        result(**key, strategy="dense", method="dense", level=0.0, seed=s, sparsity=0.0, nonzero=431080,
               test_error_percent=1.0 + 0.1 * s)
        for s in seeds
    ]  # fmt: skip
    for i, level in enumerate(levels):
        for seed in seeds:
            shared = seed == 0 and i == 1 and len(levels) > 2
            missed = seed == 1 and i == len(levels) - 1
            at = {
                "level": level,
                "seed": seed,
                "represented_by_level": levels[i + 1] if shared else level,
                "sparsity": 1 - (1 - levels[i + 1 if shared else i]) * (1.1 if missed else 0.9),
                "reached": not missed,
            }
            rows.append(result(**key, **at, test_error_percent=1.2 + 0.1 * i + 0.05 * seed, epochs=300))
            if shared:
                continue
            rows.append(result(**key, **at, strategy="rewind", test_error_percent=1.2 + 0.6 * i**2 + 0.1 * seed))
            if seed == seeds[0]:
                for strategy, more in (("reinit", 0.4), ("random-structure", 1.5)):
                    for r in range(replicas):
                        error = 1.2 + 0.7 * i**2 + more * i + 0.1 * r
                        rows.append(result(**key, **at, strategy=strategy, replica=r, test_error_percent=error))
    return rows


def psp(*, seed: int = 0, dense: bool = False, **key: str) -> list[dict[str, Any]]:
    """G: norm 1, first order 2, second order 4 bits; 1-S: norm 2 + seed / 10, first 2.01, second 3; dense: 3, 5, 9."""
    rows = []
    nets = [("gradual", 1.0, 2.0, 4.0), ("rewind", 2.0 + seed / 10, 2.01, 3.0), ("dense", 3.0, 5.0, 9.0)]
    for strategy, norm, first, second in nets if dense else nets[:2]:
        for layer, name in (*((layer, name) for layer in "01" for name in ("all", *CLASSES)), ("all", "all")):
            whole = layer == "all"
            rows.append(
                {
                    **KEY,
                    **key,
                    "strategy": strategy,
                    "level": 0.0 if strategy == "dense" else 0.95,
                    "replica": 0,
                    "seed": seed,
                    "sparsity": 0.0 if strategy == "dense" else 0.955,
                    "part": "train",
                    "images": 1293,
                    "layer": layer,
                    "class": name,
                    "neurons": 200 if whole else 100,
                    "live_neurons": 60 if whole else 30,
                    "always_on_share": 0.1,
                    "always_off_share": 0.6,
                    "psp_norm": norm if name == "all" else None,
                    "psp_norm_with_output": 2 * norm if whole else None,
                    "entropy_1_bits": first if name == "all" else first / len(CLASSES),
                    "entropy_1_live_bits": 3 * first if whole else None,
                    "entropy_2_joint_bits": second,
                    "entropy_2_joint_live_bits": 3 * second if whole else None,
                    "entropy_2_agreement_bits": second / 10,
                }
            )
    return rows


def neurons(*, seed: int = 0, layers: Sequence[str] = ("0", "1"), **key: str) -> list[dict[str, Any]]:
    """Of each layer of G, neuron 4 varies within class 7 and neuron 9 in all; of 1-S, neuron 4 within class 8."""
    varying = {"gradual": [(4, "0.5 0 0"), (9, "0.25 0.25 0.25")], "rewind": [(4, "0 1 0")]}
    common = {"level": 0.95, "replica": 0, "seed": seed, "sparsity": 0.955, "part": "train", "images": 1293}
    return [
        {
            **KEY,
            **key,
            **common,
            "strategy": strategy,
            "layer": layer,
            "neuron": neuron,
            "entropy_1_bits_by_class": entropies,
        }
        for strategy, entries in varying.items()
        for layer in layers
        for neuron, entropies in entries
    ]


def line(*, seed: int = 0, lowest: float = 0.2, **key: str) -> list[dict[str, Any]]:
    """Top-2 eigenvalues at three points, in both spaces; the lowest of all is ``lowest``."""
    common = {"level": 0.95, "replica": 0, "seed": seed, "sparsity": 0.955, "part": "train", "images": 1293}
    rows = []
    for space, share in (("all", 1.0), ("surviving", 0.5)):
        for x in (0.0, 0.5, 1.0):
            for index in (1, 2):
                value = share * (20 - 30 * x * (1 - x) + seed) / index
                values = {"eigenvalue": value if (space, x, index) != ("surviving", 1.0, 2) else lowest}
                facts = {"space": space, "dimension": 19000, "index": index, "residual": 1e-5, "converged": True}
                rows.append({**KEY, **key, **common, "distance": 12.5, "x": x, **facts, **values})
    return rows


def transfer(*, seed: int = 0, to: str = "fashion-mnist", **key: str) -> list[dict[str, Any]]:
    """Probe, G 10 + seed % and 1-S 2 points above; fine-tuned, both 5 %. Random structure: two replicas in run 0."""
    rows = []
    for strategy, probe, fine, replicas in (
        ("dense", 9.0, 4.0, 1),
        ("gradual", 10.0, 5.0, 1),
        ("rewind", 12.0, 5.0, 1),
        ("random-structure", 20.0, 8.0, 2 if seed == 0 else 0),
    ):
        for replica in range(replicas):
            for mode, error in (("probe", probe + seed + replica), ("finetune", fine)):
                dense = strategy == "dense"
                rows.append(
                    {
                        **KEY,
                        **key,
                        **({"method": "dense"} if dense else {}),
                        "strategy": strategy,
                        "level": 0.0 if dense else 0.95,
                        "replica": replica,
                        "seed": seed,
                        "sparsity": 0.0 if dense else 0.955,
                        "to": to,
                        "to_sha256": "a" * 64,
                        "mode": mode,
                        "features": 500,
                        "live_features": 400 if dense else 100,
                        "test_error_percent": error,
                        "test_wrong": 10,
                        "test_images": 100,
                        "training_loss_nats": 0.1,
                        "validation_loss_nats": 0.2,
                        "test_loss_nats": 0.3,
                        "best_epoch": 3,
                        "epochs": 5,
                    }
                )
    return rows


def barrier(*, seed: int = 0, **key: str) -> list[dict[str, Any]]:
    """Train: a barrier of 0.5 + seed nats and 3 points; test: none."""
    common = {"level": 0.95, "replica": 0, "seed": seed, "sparsity": 0.955, "images": 1293, "distance": 12.5}
    rows = []
    for part, height, points in (("train", 0.5 + seed, 3.0), ("test", 0.0, 0.0)):
        for x, share in ((0.0, 0.0), (0.5, 1.0), (1.0, 0.0)):
            excess = {"loss_excess_nats": share * height, "error_excess_percent": share * points}
            values = {"loss_nats": 0.1 + share * height, "error_percent": 1 + share * points}
            rows.append({**KEY, **key, **common, "part": part, "x": x, **values, **excess})
    return rows


def hessian(
    *, seed: int = 0, lowest: float = 0.2, converged: bool = True, dense: bool = False, **key: str
) -> list[dict[str, Any]]:
    """Top-5 eigenvalues in both spaces; the last one of 1-S is ``lowest``, and all of the dense net are negative."""
    rows = []
    for strategy, scale in (("gradual", 40.0), ("rewind", 10.0), *([("dense", -20.0)] if dense else [])):
        for space, share in (("all", 1.0), ("surviving", 0.5))[: 1 if strategy == "dense" else 2]:
            for index in range(1, 6):
                value = scale * share / index + seed
                rows.append(
                    {
                        **KEY,
                        **key,
                        "strategy": strategy,
                        "level": 0.0 if strategy == "dense" else 0.95,
                        "replica": 0,
                        "seed": seed,
                        "sparsity": 0.0 if strategy == "dense" else 0.955,
                        "part": "train",
                        "images": 1293,
                        "space": space,
                        "dimension": 431080 if space == "all" else 19000,
                        "index": index,
                        "eigenvalue": lowest if (strategy, index) == ("rewind", 5) else value,
                        "residual": 1e-5,
                        "converged": converged or index < 5,
                    }
                )
    return rows


def surface(*, seed: int = 0, grid: int = 8, **key: str) -> list[dict[str, Any]]:
    """A map that has its minimum near G; an even ``grid`` misses 0 and 1."""

    def row(point: str, x: float, y: float) -> dict[str, Any]:
        r = x * x + y * y
        return {
            **KEY,
            **key,
            "level": 0.95,
            "replica": 0,
            "seed": seed,
            "sparsity": 0.955,
            "part": "train",
            "images": 500,
            "definition": "joint",
            "point": point,
            "x": x,
            "y": y,
            "distance": 12.5,
            "loss_nats": 0.001 * math.exp(3 * r) if r < 1 else 0.02 * math.exp(r),
            "error_percent": min(90.0, 10 * r),
            "psp_norm": 1.0 + 0.4 * x + 0.2 * y * y,
            "psp_entropy_1_bits": 2.0 + 0.01 * x,
            "psp_entropy_2_bits": 4.0 - 0.5 * x + 0.1 * y,
        }

    steps = [-0.5 + 2 * i / (grid - 1) for i in range(grid)]
    return [row("G", 0.0, 0.0), row("1-S", 1.0, 0.0), *(row("grid", x, y) for y in steps for x in steps)]


def write(folder: Path, kind: str, rows: list[dict[str, Any]], name: str | None = None) -> Path:
    """Write rows as a table of a kind."""
    path = folder / f"{name or kind}.csv"
    write_csv(path, rows, columns_of(kind))
    return path
