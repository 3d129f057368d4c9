"""The tables of a study: one row a trained net, read from the checkpoints' own records."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from sharpminima.checkpoint import read_metadata
from sharpminima.columns import DENSITY_COLUMNS, RESULT_COLUMNS
from sharpminima.files import write_csv


def results(checkpoints: Sequence[Path], out: Path, density: Path) -> None:
    """Write ``out`` (one row a net) and ``density`` (one row a net and parameter tensor).

    A cell that another level represents was not trained, and has no row. A gradual state that stands for several
    levels has a row for each; they differ in ``level`` only.
    """
    found = [(metadata, replica) for path in checkpoints for metadata, replica in _nets(path)]
    write_csv(out, (_row(metadata, replica) for metadata, replica in found), RESULT_COLUMNS)
    write_csv(density, (row for metadata, replica in found for row in _densities(metadata, replica)), DENSITY_COLUMNS)


def _nets(path: Path) -> Iterator[tuple[dict[str, Any], int]]:
    metadata = read_metadata(path)
    if metadata.get("trained", True):
        for replica in range(metadata["replicas"]):
            yield metadata, replica


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
