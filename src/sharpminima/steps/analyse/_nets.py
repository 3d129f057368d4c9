"""What the analyses share: the nets, the images, and the files of an analysis that was stopped."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from sharpminima.base.errors import AnalysisError, CheckpointError
from sharpminima.base.files import COMPRESSED
from sharpminima.base.names import DENSE, GRADUAL, REWIND
from sharpminima.base.progress import Progress
from sharpminima.catalogue.analyses import (
    AnalysisData,
    too_few_images,
)
from sharpminima.catalogue.columns import (
    KEY_COLUMNS,
)
from sharpminima.data import ImageDataset, Split, load_prepared
from sharpminima.nets.agreement import (
    ANALYSED,
    CELL,
    RUN,
    STARTS,
    check_agreement,
    check_data,
    check_masks,
    check_place,
    check_stated,
    check_strategy,
    check_trained,
    check_values,
)
from sharpminima.nets.checkpoint import Checkpoint, load_checkpoint
from sharpminima.nets.masks import Masks, completed, count, sparsity
from sharpminima.nets.models import build_recorded
from sharpminima.nets.resume import FinishedParts, fingerprint_of
from sharpminima.runtime.device import configure
from sharpminima.runtime.rng import generator
from sharpminima.steps.job import Runtime

BASIS = torch.float64
"""Of the Lanczos bases: the recorded eigenvalues have its digits."""


@dataclass(frozen=True)
class End:
    """G, 1-S, or the dense net of their run, which has no masks."""

    model: nn.Module
    masks: Masks
    key: dict[str, Any]  # the first columns of its rows
    sparsity: float


def load_ends(
    data: Path, gradual: Path, rewind: Path, runtime: Runtime
) -> tuple[tuple[End, End], ImageDataset, torch.device]:
    """G and 1-S on the device, with the data.

    Raises:
        CheckpointError: one is a dense net or an untrained one, of other data, or does not state what it is; or they
            are not G and 1-S of one run, method and level, at the same masks.
    """
    (center, target), dataset, device = load_nets(data, gradual, rewind, None, runtime)
    return (center, target), dataset, device


def load_nets(
    data: Path, gradual: Path, rewind: Path, dense: Path | None, runtime: Runtime
) -> tuple[list[End], ImageDataset, torch.device]:
    """G, 1-S and, where it is given, the dense net of their run, whose rows stand beside those of the method.

    Raises:
        CheckpointError: as `load_ends`; or the dense net is another kind of net, or of another run.
    """
    device = configure(runtime.device, runtime.threads)
    dataset = load_prepared(data)
    one, other = (
        _pruned(path, strategy, option, dataset)
        for path, strategy, option in ((gradual, GRADUAL, "--gradual"), (rewind, REWIND, "--rewind"))
    )
    check_agreement((one[0], one[1].metadata), (other[0], other[1].metadata), CELL)
    check_masks(one, other)
    nets: list[tuple[Checkpoint, dict[str, Any]]] = [(checkpoint, {}) for _, checkpoint in (one, other)]
    if dense is not None:
        whole = load_checkpoint(dense)
        check_strategy((dense, whole.metadata), DENSE, "--dense")
        _check(dense, whole, dataset, STARTS)
        check_agreement((one[0], one[1].metadata), (dense, whole.metadata), RUN)
        nets.append((whole, {"method": one[1].metadata["method"]}))
    ends = []
    for checkpoint, stated in nets:
        model = build_recorded(checkpoint.metadata, num_classes=dataset.num_classes)
        known = {"dataset": dataset.name, "level": 0, "replica": 0} | stated | checkpoint.metadata
        key = {column: known[column] for column in KEY_COLUMNS}
        masks = {name: mask.to(device) for name, mask in checkpoint.masks[0].items()} if checkpoint.masks else {}
        # Of the net itself, whatever it states.
        share = sparsity(completed(checkpoint.masks[0], model)) if checkpoint.masks else 0.0
        ends.append(End(checkpoint.load_into(model).to(device), masks, key, share))
    return ends, dataset, device


def _pruned(path: Path, strategy: str, option: str, dataset: ImageDataset) -> tuple[Path, Checkpoint]:
    checkpoint = load_checkpoint(path)
    if checkpoint.masks is None:
        raise CheckpointError(f"{path}: is a dense net; {option} takes a pruned one")
    check_trained((path, checkpoint.metadata))
    check_strategy((path, checkpoint.metadata), strategy, option)
    _check(path, checkpoint, dataset, ANALYSED)
    return path, checkpoint


def _check(path: Path, checkpoint: Checkpoint, dataset: ImageDataset, facts: Sequence[str]) -> None:
    check_stated((path, checkpoint.metadata), facts)
    check_values((path, checkpoint.metadata))
    check_place(path, checkpoint.metadata)
    check_data((path, checkpoint.metadata), dataset.name, dataset.sha256)


def check_eigenvalues(ends: Sequence[End], wanted: int) -> None:
    """Refuse to look for more eigenvalues than surviving parameters, before those of all parameters are found.

    Raises:
        AnalysisError: a net has fewer.
    """
    for end in ends:
        kept, masked = count(end.masks)
        survivors = kept + sum(parameter.numel() for parameter in end.model.parameters()) - masked
        if wanted > survivors:
            raise AnalysisError(f"eigenvalues: {wanted} wanted, {survivors} parameters survive; ask for fewer")


def images_of(dataset: ImageDataset, wanted: AnalysisData, device: torch.device) -> Split:
    """All images of a part, or a seeded class-balanced choice: the same for every run of a dataset."""
    split = dataset.split(wanted.part, device=device)
    if wanted.images is None or wanted.images >= len(split.labels):
        return split
    draws = generator(0, "analysis-images", dataset.name)
    return dataset.subset(wanted.part, wanted.images, draws, device=device)


def images_of_each_class(dataset: ImageDataset, wanted: AnalysisData, device: torch.device) -> Split:
    """As `images_of`, for PSP statistics.

    Raises:
        AnalysisError: so few images are wanted that a class has none.
    """
    if fault := too_few_images(wanted.images, dataset.name, dataset.num_classes):
        raise AnalysisError(f"images: {fault}")
    return images_of(dataset, wanted, device)


def pair_key(center: End, part: str, split: Split, distance: float) -> dict[str, Any]:
    """The columns that all rows of a table of both nets share."""
    key = {column: value for column, value in center.key.items() if column != "strategy"}
    return {
        **key,
        "sparsity": center.sparsity,
        "part": part,
        "images": len(split.labels),
        "distance": distance,
    }


def point_progress(what: str, center: End) -> Callable[[int, int], None]:
    """A line that counts points."""
    progress = Progress(f"{what} {center.key['model']}/{center.key['dataset']} seed {center.key['seed']}")
    return lambda done, total: progress(done, total, unit="point")


def finished_parts(out: Path, ends: Sequence[End], dataset: ImageDataset, settings: AnalysisData) -> FinishedParts:
    """The finished parts of a table of these nets, on these data and settings."""
    facts = {"nets": [end.key for end in ends], "data": dataset.sha256, **settings.model_dump(mode="json")}
    tensors = [tensor for end in ends for tensor in (*end.model.state_dict().values(), *end.masks.values())]
    return FinishedParts(resume_path(out, "finished"), fingerprint=fingerprint_of(facts, tensors))


def resume_path(out: Path, part: str | None = None) -> Path:
    """The resume file beside a table; gone when the table is there."""
    stem = Path(out.name.removesuffix(COMPRESSED)).stem
    return out.with_name("-".join(filter(None, (stem, "resume", part))) + ".safetensors")
