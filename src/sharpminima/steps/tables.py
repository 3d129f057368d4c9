"""The tables of a study: one row a trained net, read from the checkpoints' own records."""

from collections.abc import Iterator, Sequence
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from sharpminima.base.errors import CheckpointError
from sharpminima.base.names import CELL, GRADUAL, RUN
from sharpminima.base.sums import write_table
from sharpminima.catalogue.columns import DENSITY_COLUMNS, MEASURE_COLUMNS, RESULT_COLUMNS
from sharpminima.catalogue.datasets import DATASETS
from sharpminima.nets.agreement import TRAINED, check_metrics, check_place, check_stated
from sharpminima.nets.checkpoint import load_checkpoint, read_metadata
from sharpminima.nets.masks import Masks, prunable_parameters
from sharpminima.nets.models import build_model
from sharpminima.nets.storage import stored_bytes
from sharpminima.runtime.usage import read_usage

_MEASURED = (
    *("sparsity", "measures", "epoch", "epochs", "test_wrong", "test_images"),
    *(f"{part}_loss" for part in ("training", "validation", "test")),
)
"""What the metrics of a replica hold at least."""


def results(checkpoints: Sequence[Path], out: Path, density: Path) -> None:
    """Write ``out`` (one row a net) and ``density`` (one row a net and parameter tensor).

    A cell that another level represents was not trained, and has no row. A gradual state that stands for several
    levels has a row for each; they differ in ``level`` only.

    Raises:
        CheckpointError: a file is damaged, holds no trained net or does not state what a row says of it, lies where
            another's should, or stands twice.
    """
    nets = [(metadata, replica) for _, metadata, replica in _all_nets(checkpoints)]
    write_table(out, (_row(metadata, replica) for metadata, replica in nets), RESULT_COLUMNS)
    write_table(density, (row for metadata, replica in nets for row in _densities(metadata, replica)), DENSITY_COLUMNS)


def measures(checkpoints: Sequence[Path], out: Path) -> None:
    """Write all that methods report, one row a net (`MEASURE_COLUMNS`): counts, errors, and what its job took.

    Seconds and memory are as measured where the net was made; they are empty where nobody measured.

    Raises:
        CheckpointError: as for `results`.
    """
    rows = (_measures(*net) for net in list(_all_nets(checkpoints)))
    write_table(out, rows, MEASURE_COLUMNS)


def _all_nets(checkpoints: Sequence[Path]) -> Iterator[tuple[Path, dict[str, Any], int]]:
    """Path, metadata and replica of each trained net.

    Raises:
        CheckpointError: a file is damaged, holds no trained net or does not state what a row says of it, lies where
            another's should, or stands twice.
    """
    seen: dict[tuple[Any, ...], Path] = {}
    for path in checkpoints:
        metadata = read_metadata(path)
        if "metrics" not in metadata:
            raise CheckpointError(f"{path}: is W0, or a net that nobody has measured; give trained nets")
        check_stated((path, metadata), TRAINED)
        check_metrics((path, metadata), _MEASURED)
        check_place(path, metadata)
        first = seen.setdefault(tuple(net_key(metadata, 0).values()), path)
        if first is not path:
            what = "stands twice" if first == path else f"holds the same nets as {first}"
            raise CheckpointError(f"{path}: {what}; give each net once")
        if metadata.get("trained", True):
            for replica in range(metadata["replicas"]):
                yield path, metadata, replica


def net_key(metadata: dict[str, Any], replica: int) -> dict[str, Any]:
    """`KEY_COLUMNS` of one replica of a checkpoint."""
    return {
        "dataset": metadata["dataset"],
        "model": metadata["model"],
        "method": metadata.get("method", metadata["strategy"]),
        "strategy": metadata["strategy"],
        "level": metadata.get("level", 0.0),
        "replica": replica,
        "seed": metadata["seed"],
    }


def _row(metadata: dict[str, Any], replica: int) -> dict[str, Any]:
    metrics = metadata["metrics"][replica]
    counts, after = metrics["measures"], metrics.get("after_threshold") or {}
    images = metrics["test_images"]
    return {
        **net_key(metadata, replica),
        "represented_by_level": metadata.get("represented_by", 0.0),
        "reached": metadata.get("reached", True),
        "collapsed": None if counts["flops_effective"] is None else counts["flops_effective"] == 0,
        "sparsity": metrics["sparsity"],
        "sparsity_all": 1.0 - counts["nonzero"] / counts["parameters"],
        **{name: counts[name] for name in ("parameters", "nonzero", "effective", "compression")},
        **{name: counts[name] for name in ("flops_dense", "flops_effective")},
        "test_error_percent": 100.0 * metrics["test_wrong"] / images,
        "test_wrong": metrics["test_wrong"],
        "test_images": images,
        **{f"{part}_loss_nats": metrics[f"{part}_loss"] for part in ("training", "validation", "test")},
        "best_epoch": metrics["epoch"],
        "epochs": metrics["epochs"],
        "gradient_norm": metrics.get("gradient_norm"),
        "test_error_after_threshold_percent": 100.0 * after["test_wrong_after"] / images if after else None,
        "gradient_norm_after_threshold": after.get("gradient_norm_after"),
    }


def _densities(metadata: dict[str, Any], replica: int) -> Iterator[dict[str, Any]]:
    for name, density in metadata["metrics"][replica]["measures"]["density_per_layer"].items():
        yield {**net_key(metadata, replica), "parameter": name, "density": density}


def _measures(path: Path, metadata: dict[str, Any], replica: int) -> dict[str, Any]:
    check_stated((path, metadata), ("settings", "levels") if metadata["strategy"] == GRADUAL else ("settings",))
    row = _row(metadata, replica)
    counts = metadata["metrics"][replica]["measures"]
    classes = _classes(path, metadata)
    kernels = _kernels(metadata["model"], classes)
    nonzero_kernels = sum(round(counts["density_per_layer"][name] * size) for name, size in kernels.items())
    masks = _masks(path)
    settings, folder = metadata["settings"], path.parent
    if metadata["strategy"] == GRADUAL:
        method = path.parents[len(Path(CELL).parts)]
        settings, folder = settings.get("recipe") or {}, method / RUN.format(seed=metadata["seed"])
    used = read_usage(folder)
    return {
        **{name: row[name] for name in MEASURE_COLUMNS if name in row},
        "prunable": counts["prunable"],
        "kernels": sum(kernels.values()),
        "nonzero_kernels": nonzero_kernels,
        "stored_bytes": stored_bytes(
            build_model(metadata["model"], num_classes=classes), None if masks is None else masks[replica]
        ),
        "density_percent": 100.0 * counts["nonzero"] / counts["parameters"],
        "kernel_density_percent": 100.0 * nonzero_kernels / sum(kernels.values()),
        "flops_nonzero": counts["flops_nonzero"],
        "final_epochs_at_most": settings.get("max_epochs"),
        "job_nets": len(metadata["levels"]) if metadata["strategy"] == GRADUAL else metadata["replicas"],
        **{f"job_{name}": used.get(name) for name in ("wall_s", "cpu_s", "gpu_s")},
        **{name: used.get(name) for name in ("peak_mb", "gpu_peak_mb", "device")},
    }


def _classes(path: Path, metadata: dict[str, Any]) -> int:
    """How many classes a net has: as recorded, else those of its dataset.

    Raises:
        CheckpointError: it is recorded nowhere, and this version does not know the dataset.
    """
    if "num_classes" in metadata:
        return int(metadata["num_classes"])
    dataset = DATASETS.get(metadata["dataset"])
    if dataset is None:
        raise CheckpointError(
            f"{path}: is of dataset {metadata['dataset']!r}, which this version does not know; give the file that "
            "brings it, by --plugin"
        )
    return dataset.num_classes


@lru_cache(maxsize=1)
def _masks(path: Path) -> list[Masks] | None:
    """The masks of all replicas of a checkpoint, which ask for them one after the other."""
    return load_checkpoint(path).masks


@cache
def _kernels(model: str, classes: int) -> dict[str, int]:
    """Weight tensors of Linear and Conv2d layers, and their sizes."""
    net = build_model(model, num_classes=classes)
    return {name: net.get_parameter(name).numel() for name in prunable_parameters(net) if name.endswith("weight")}
