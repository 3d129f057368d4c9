"""Steps that measure G (gradual) and 1-S (rewind) of one run at one level, and the plane and line between them."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import torch
from torch import nn

from sharpminima.analysis import (
    hessian_along_line,
    hessian_eigenvalues,
    loss_barrier,
    loss_surface,
    psp_entropy,
    psp_statistics,
)
from sharpminima.base.errors import CheckpointError
from sharpminima.base.files import COMPRESSED, write_csv
from sharpminima.base.progress import Progress
from sharpminima.catalogue.analyses import (
    AnalysisData,
    BarrierSettings,
    HessianSettings,
    LineSettings,
    NeuronSettings,
    PspSettings,
    SurfaceSettings,
)
from sharpminima.catalogue.columns import (
    ALL,
    BARRIER_COLUMNS,
    HESSIAN_COLUMNS,
    KEY_COLUMNS,
    LINE_COLUMNS,
    NEURON_COLUMNS,
    PSP_COLUMNS,
    RELATIVE,
    SURFACE_COLUMNS,
)
from sharpminima.data import ImageDataset, Split, load_prepared
from sharpminima.nets.checkpoint import Checkpoint, load_checkpoint
from sharpminima.nets.masks import Masks
from sharpminima.nets.models import build_recorded
from sharpminima.nets.resume import FinishedParts, fingerprint_of
from sharpminima.runtime.device import configure
from sharpminima.runtime.rng import generator
from sharpminima.steps.training import Runtime

SURFACE_MEASURES = ("loss", "error", "psp_norm", "psp_entropy_1", "psp_entropy_2")


@dataclass(frozen=True)
class _End:
    """One of the two nets."""

    model: nn.Module
    masks: Masks
    key: dict[str, Any]  # the first columns of its rows
    sparsity: float


def psp(data: Path, gradual: Path, rewind: Path, settings: PspSettings, out: Path, runtime: Runtime) -> None:
    """PSP norm and PSP-entropy of order 1 and 2 (both definitions) of G and 1-S.

    For each part of the data, one row a net, one a layer, and one a layer and class. The last hold the entropies within
    the class, which sum to those of the layer, and the neurons whose state is not the same on all its images.
    """
    ends, dataset, device = _load(data, gradual, rewind, runtime)
    chosen = [AnalysisData(part=part, images=settings.images) for part in settings.parts]
    splits = [(data.part, _images(dataset, data, device)) for data in chosen]
    rows = (row for part, split in splits for end in ends for row in _psp_rows(end, part, split, dataset.class_names))
    write_csv(out, rows, PSP_COLUMNS)


def _psp_rows(end: _End, part: str, split: Split, class_names: Sequence[str]) -> Iterator[dict[str, Any]]:
    statistics = psp_statistics(end.model, split.images, split.labels, pairs=True)
    first, joint = statistics.entropy(), statistics.entropy(order=2)
    agreement = statistics.entropy(order=2, definition="agreement")
    common = {**end.key, "sparsity": end.sparsity, "part": part, "images": len(split.labels)}
    assert first.per_neuron is not None  # at order 1
    for layer, neurons in first.neurons.items():
        yield {
            **common,
            "layer": layer,
            "class": ALL,
            "neurons": neurons,
            "live_neurons": first.live[layer],
            "always_on_share": first.always_on[layer],
            "always_off_share": first.always_off[layer],
            "psp_norm": first.norm_per_layer[layer],
            "psp_norm_with_output": None,
            "entropy_1_bits": first.per_layer[layer],
            "entropy_1_live_bits": None,
            "entropy_2_joint_bits": joint.per_layer.get(layer),
            "entropy_2_joint_live_bits": None,
            "entropy_2_agreement_bits": agreement.per_layer.get(layer),
        }
        of_second = {"joint": joint.per_class.get(layer), "agreement": agreement.per_class.get(layer)}
        for label, name in enumerate(class_names):
            second = {
                f"entropy_2_{definition}_bits": None if values is None else float(values[label])
                for definition, values in of_second.items()
            }
            yield dict.fromkeys(PSP_COLUMNS) | {
                **common,
                "layer": layer,
                "class": name,
                "neurons": neurons,
                "live_neurons": int((first.per_neuron[layer][label] > 0).sum()),
                "entropy_1_bits": float(first.per_class[layer][label]),
                **second,
            }
    neurons = sum(first.neurons.values())
    yield {
        **common,
        "layer": ALL,
        "class": ALL,
        "neurons": neurons,
        "live_neurons": sum(first.live.values()),
        "always_on_share": sum(first.always_on[k] * n for k, n in first.neurons.items()) / neurons,
        "always_off_share": sum(first.always_off[k] * n for k, n in first.neurons.items()) / neurons,
        "psp_norm": first.norm,
        "psp_norm_with_output": first.norm_with_output,
        "entropy_1_bits": first.mean,
        "entropy_1_live_bits": first.mean_live,
        "entropy_2_joint_bits": joint.mean,
        "entropy_2_joint_live_bits": joint.mean_live,
        "entropy_2_agreement_bits": agreement.mean,
    }


def neurons(data: Path, gradual: Path, rewind: Path, settings: NeuronSettings, out: Path, runtime: Runtime) -> None:
    """First-order PSP-entropy of the neurons of G and 1-S within each class, in the order of the classes.

    One row a neuron whose entropy is not 0 in every class; four digits, as there may be many.
    """
    ends, dataset, device = _load(data, gradual, rewind, runtime)
    split = _images(dataset, settings, device)
    rows = []
    for end in ends:
        found = psp_entropy(end.model, split.images, split.labels).per_neuron
        assert found is not None  # at order 1
        common = {**end.key, "sparsity": end.sparsity, "part": settings.part, "images": len(split.labels)}
        for layer, entropies in found.items():
            for neuron in entropies.any(dim=0).nonzero().flatten().tolist():
                values = " ".join(f"{value + 0.0:.4g}" for value in entropies[:, neuron].tolist())
                rows.append({**common, "layer": layer, "neuron": neuron, "entropy_1_bits_by_class": values})
    write_csv(out, rows, NEURON_COLUMNS)


def hessian(data: Path, gradual: Path, rewind: Path, settings: HessianSettings, out: Path, runtime: Runtime) -> None:
    """Largest eigenvalues of the Hessian at G and 1-S: of all parameters, of the surviving ones, of relative changes.

    The eigenvalues of relative changes of the survivors do not depend on the scale of ReLU layers; the others do.
    """
    ends, dataset, device = _load(data, gradual, rewind, runtime)
    split = _images(dataset, settings, device)
    finished = _finished(out, ends, dataset, settings)
    spaces = (("all", False, None), ("surviving", True, None), (RELATIVE, True, "parameter"))
    for end, (space, masked, scaling) in list(product(ends, spaces))[len(finished.parts) :]:
        found = hessian_eigenvalues(
            end.model,
            split.images,
            split.labels,
            k=settings.eigenvalues,
            masks=end.masks if masked else None,
            scaling=scaling,
            tol=settings.tolerance,
            seed=end.key["seed"],
        )
        finished.add(
            [
                {
                    **end.key,
                    "sparsity": end.sparsity,
                    "part": settings.part,
                    "images": len(split.labels),
                    "space": space,
                    "dimension": found.dimension,
                    "index": index + 1,
                    "eigenvalue": float(found.eigenvalues[index]),
                    "residual": float(found.residuals[index]),
                    "converged": bool(found.converged[index]),
                }
                for index in range(settings.eigenvalues)
            ]
        )
    write_csv(out, (row for part in finished.parts for row in part), HESSIAN_COLUMNS)
    finished.remove()


def surface(data: Path, gradual: Path, rewind: Path, settings: SurfaceSettings, out: Path, runtime: Runtime) -> None:
    """All measures over the plane through G (0, 0) and 1-S (1, 0); one row a grid point, and one for each end."""
    (center, target), dataset, device = _load(data, gradual, rewind, runtime)
    split = _images(dataset, settings, device)
    found = loss_surface(
        center.model,
        target.model,
        split.images,
        split.labels,
        grid=(settings.grid, settings.grid),
        span=settings.span,
        masks=center.masks,
        seed=center.key["seed"],
        definition=settings.definition,
        measures=SURFACE_MEASURES,
        progress=_progress("surface", center),
        resume=_resume_path(out),
    )
    common = _pair_key(center, settings.part, split, found.distance) | {"definition": settings.definition}

    def row(point: str, x: float, y: float, values: dict[str, float]) -> dict[str, Any]:
        measured = [values[name] for name in SURFACE_MEASURES]
        columns = dict(zip(SURFACE_COLUMNS[-len(measured) :], measured, strict=True))
        return {**common, "point": point, "x": x, "y": y, **columns}

    rows = [row("G", 0.0, 0.0, found.center_values), row("1-S", 1.0, 0.0, found.target_values)]
    for i, y in enumerate(found.y.tolist()):
        for j, x in enumerate(found.x.tolist()):
            rows.append(row("grid", x, y, {name: float(v[i, j]) for name, v in found.values.items()}))
    write_csv(out, rows, SURFACE_COLUMNS)


def line(data: Path, gradual: Path, rewind: Path, settings: LineSettings, out: Path, runtime: Runtime) -> None:
    """Largest eigenvalues along the line from G (x = 0) to 1-S (x = 1), in both spaces."""
    (center, target), dataset, device = _load(data, gradual, rewind, runtime)
    split = _images(dataset, settings, device)
    finished = _finished(out, (center, target), dataset, settings)
    for space, masks in [("all", None), ("surviving", center.masks)][len(finished.parts) :]:
        found = hessian_along_line(
            center.model,
            target.model,
            split.images,
            split.labels,
            points=settings.points,
            k=settings.eigenvalues,
            masks=masks,
            tol=settings.tolerance,
            seed=center.key["seed"],
            progress=_progress(f"line, {space} parameters,", center),
            resume=_resume_path(out),
        )
        common = _pair_key(center, settings.part, split, found.distance)
        finished.add(
            [
                {
                    **common,
                    "x": x,
                    "space": found.space,
                    "dimension": found.dimension,
                    "index": index + 1,
                    "eigenvalue": float(found.eigenvalues[row, index]),
                    "residual": float(found.residuals[row, index]),
                    "converged": bool(found.converged[row, index]),
                }
                for row, x in enumerate(found.x.tolist())
                for index in range(settings.eigenvalues)
            ]
        )
    write_csv(out, (row for part in finished.parts for row in part), LINE_COLUMNS)
    finished.remove()


def barrier(data: Path, gradual: Path, rewind: Path, settings: BarrierSettings, out: Path, runtime: Runtime) -> None:
    """Loss and error along the line from G (x = 0) to 1-S (x = 1), on each part of the data."""
    (center, target), dataset, device = _load(data, gradual, rewind, runtime)
    rows = []
    for part in settings.parts:
        split = _images(dataset, AnalysisData(part=part, images=settings.images), device)
        found = loss_barrier(
            center.model,
            target.model,
            split.images,
            split.labels,
            points=settings.points,
            masks=center.masks,
            progress=_progress(f"barrier, {part} images,", center),
            resume=_resume_path(out, part),
        )
        common = _pair_key(center, part, split, found.distance)
        columns = (found.x, found.loss, found.error, found.loss_excess, found.error_excess)
        for values in zip(*(column.tolist() for column in columns), strict=True):
            rows.append(common | dict(zip(BARRIER_COLUMNS[-len(values) :], values, strict=True)))
    write_csv(out, rows, BARRIER_COLUMNS)


def _pair_key(center: _End, part: str, split: Split, distance: float) -> dict[str, Any]:
    """The columns that all rows of a table of both nets share."""
    key = {column: value for column, value in center.key.items() if column != "strategy"}
    return {
        **key,
        "sparsity": center.sparsity,
        "part": part,
        "images": len(split.labels),
        "distance": distance,
    }


def _progress(what: str, center: _End) -> Callable[[int, int], None]:
    progress = Progress(f"{what} {center.key['model']}/{center.key['dataset']} seed {center.key['seed']}")
    return lambda done, total: progress(done, total, unit="point")


def _finished(out: Path, ends: tuple[_End, _End], dataset: ImageDataset, settings: AnalysisData) -> FinishedParts:
    """The finished parts of a table of these nets, on these data and settings."""
    facts = {"nets": [end.key for end in ends], "data": dataset.sha256, **settings.model_dump(mode="json")}
    tensors = [tensor for end in ends for tensor in (*end.model.state_dict().values(), *end.masks.values())]
    return FinishedParts(_resume_path(out, "finished"), fingerprint=fingerprint_of(facts, tensors))


def _resume_path(out: Path, part: str | None = None) -> Path:
    """The resume file beside a table; gone when the table is there."""
    stem = Path(out.name.removesuffix(COMPRESSED)).stem
    return out.with_name("-".join(filter(None, (stem, "resume", part))) + ".safetensors")


def _load(
    data: Path, gradual: Path, rewind: Path, runtime: Runtime
) -> tuple[tuple[_End, _End], ImageDataset, torch.device]:
    device = configure(runtime.device, runtime.threads)
    dataset = load_prepared(data)
    ends = []
    for path in (gradual, rewind):
        checkpoint = load_checkpoint(path)
        _check(path, checkpoint, dataset)
        model = build_recorded(checkpoint.metadata, num_classes=dataset.num_classes)
        key = {column: checkpoint.metadata.get(column, 0) for column in KEY_COLUMNS}
        assert checkpoint.masks is not None  # _check
        masks = {name: mask.to(device) for name, mask in checkpoint.masks[0].items()}
        sparsity = checkpoint.metadata["metrics"][0]["sparsity"]
        ends.append(_End(checkpoint.load_into(model).to(device), masks, key, sparsity))
    return (ends[0], ends[1]), dataset, device


def _check(path: Path, checkpoint: Checkpoint, dataset: ImageDataset) -> None:
    if checkpoint.masks is None:
        raise CheckpointError(f"{path}: is a dense net; the analysis compares pruned ones")
    if checkpoint.metadata["dataset_sha256"] != dataset.sha256:
        raise CheckpointError(
            f"{path}: was trained on other data ({checkpoint.metadata['dataset']}, "
            f"{checkpoint.metadata['dataset_sha256'][:12]}) than is given ({dataset.name}, {dataset.sha256[:12]})"
        )


def _images(dataset: ImageDataset, wanted: AnalysisData, device: torch.device) -> Split:
    """All images of a part, or a seeded class-balanced choice: the same for every run of a dataset."""
    split = dataset.split(wanted.part, device=device)
    if wanted.images is None or wanted.images >= len(split.labels):
        return split
    draws = generator(0, "analysis-images", dataset.name)
    return dataset.subset(wanted.part, wanted.images, draws, device=device)
