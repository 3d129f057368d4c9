"""PSP norm and PSP-entropy of the nets."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from sharpminima.analysis import (
    psp_entropy,
    psp_statistics,
)
from sharpminima.base.sums import write_table
from sharpminima.catalogue.analyses import (
    AnalysisData,
    NeuronSettings,
    PspSettings,
)
from sharpminima.catalogue.columns import (
    ALL,
    NEURON_COLUMNS,
    PSP_COLUMNS,
)
from sharpminima.data import Split
from sharpminima.steps.analyse._nets import End, images_of_each_class, load_ends, load_nets
from sharpminima.steps.job import Runtime


def psp(
    data: Path,
    gradual: Path,
    rewind: Path,
    settings: PspSettings,
    out: Path,
    runtime: Runtime,
    *,
    dense: Path | None = None,
) -> None:
    """PSP norm and PSP-entropy of order 1 and 2 (both definitions) of G and 1-S, and of the dense net where given.

    For each part of the data, one row a net, one a layer, and one a layer and class. The last hold the entropies within
    the class, which sum to those of the layer, and the neurons whose state is not the same on all its images.
    """
    nets, dataset, device = load_nets(data, gradual, rewind, dense, runtime)
    chosen = [AnalysisData(part=part, images=settings.images) for part in settings.parts]
    splits = [(data.part, images_of_each_class(dataset, data, device)) for data in chosen]
    rows = (
        row
        for part, split in splits
        for net in nets
        for row in _psp_rows(net, part, split, dataset.class_names, settings.samples)
    )
    write_table(out, rows, PSP_COLUMNS)


def _psp_rows(
    end: End, part: str, split: Split, class_names: Sequence[str], samples: int | None
) -> Iterator[dict[str, Any]]:
    statistics = psp_statistics(end.model, split.images, split.labels, pairs=True)
    first, joint = statistics.entropy(), statistics.entropy(order=2, samples=samples, seed=end.key["seed"])
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
    ends, dataset, device = load_ends(data, gradual, rewind, runtime)
    split = images_of_each_class(dataset, settings, device)
    rows = []
    for end in ends:
        per_neuron = psp_entropy(end.model, split.images, split.labels).per_neuron
        assert per_neuron is not None  # at order 1
        common = {**end.key, "sparsity": end.sparsity, "part": settings.part, "images": len(split.labels)}
        for layer, entropies in per_neuron.items():
            for neuron in entropies.any(dim=0).nonzero().flatten().tolist():
                values = " ".join(f"{value + 0.0:.4g}" for value in entropies[:, neuron].tolist())
                rows.append({**common, "layer": layer, "neuron": neuron, "entropy_1_bits_by_class": values})
    write_table(out, rows, NEURON_COLUMNS)
