"""PSP-entropy of one class after another: of many classes and neurons, in the memory of one class."""

import math
import os
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from sharpminima.analysis._inputs import FEW, check_finite_weights, check_images, check_model
from sharpminima.analysis.psp import entropy
from sharpminima.analysis.psp._collect import Collection, LayerStatistics
from sharpminima.analysis.psp.entropy import (
    ClassPart,
    Progress,
    PspEntropy,
    PspStatistics,
    check_samples,
    joint_mean,
    measured_classes,
    statistics_of,
    too_many,
)
from sharpminima.base.numbers import check_whole
from sharpminima.base.stop import STOP
from sharpminima.nets.activations import Activations, identified
from sharpminima.nets.evaluation import Evaluation
from sharpminima.nets.modes import eval_mode, measuring
from sharpminima.nets.preactivations import warn_caller, watch_preactivations
from sharpminima.nets.resume import ResumeFile, check_path, fingerprint_of, save_or_stop


@measuring(gradients=False)
def entropy_by_class(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    order: int,
    definition: str,
    samples: int | None,
    seed: int,
    batch_size: int,
    activations: Activations,
    classes: str,
    progress: Progress | None,
    resume: str | os.PathLike[str] | None,
) -> PspEntropy:
    """`psp_entropy` with ``by_class``."""
    if resume is not None:
        check_path(resume)
    samples, seed = check_samples(samples, seed)
    batch_size = check_whole("batch_size", batch_size, least=1)
    images, labels = check_images(images, labels)
    outputs = check_model(model, images, activations)
    check_finite_weights(model)
    measured = measured_classes(labels, outputs, classes)
    joint = order > 1 and definition == "joint"
    file, said = None, ""
    if resume is not None:
        facts = {"of": "psp_entropy", "order": order, "definition": definition, "samples": samples, "seed": seed}
        sizes = {"batch_size": batch_size, "classes": classes, "activations": identified(activations, model)}
        # Weights do not tell what a net does with them.
        layers: dict[str, Tensor] = {}
        with eval_mode(model), watch_preactivations(model, lambda n, z: layers.update({n: z.clone()}), activations):
            logits = model(images[:FEW])
        tensors = [*model.parameters(), *model.buffers(), images, labels, *layers.values(), logits]
        file = ResumeFile(resume, fingerprint=fingerprint_of({**facts, **sizes, "layers": list(layers)}, tensors))
    # Of the finished classes: a row each, and of the layers what they add up to.
    done: dict[str, Any] = {"rows": [], "layers": {}}
    if file is not None:
        done = file.load() or done
    for number in measured[len(done["rows"]) :]:
        its_images = (labels == number).nonzero().flatten()
        collection = Collection(model, number[None], pairs=joint, activations=activations)
        with collection.running():
            for batch in its_images.split(batch_size):
                collection.add(images[batch], labels[batch])
        said = collection.left_out
        statistics = statistics_of(collection, number[None])
        row: dict[str, Any] = {
            "parts": {},
            "evaluation": vars(statistics.evaluation),
            "squares": statistics.logit_squares,
        }
        for name, layer in statistics.layers.items():
            _add(done["layers"], name, layer)
            if order == 1:
                row["parts"][name] = float(statistics.row_entropies(layer, 0).sum())
            elif joint and (neurons := layer.active.shape[1]) >= order:
                limit = entropy.MAX_STATES / len(measured)
                varying = statistics.varying(layer).sum(dim=1).tolist()
                sampled = too_many(name, varying, neurons, order, limit, samples)
                part = statistics.class_part(name, 0, order, sampled, samples or 0, seed)
                means = {str(size): mean for size, mean in part.means.items()}
                row["parts"][name] = {"varying": part.varying, "means": means, "sampled": sorted(sampled)}
        done["rows"].append(row)
        if progress:
            progress(len(done["rows"]), len(measured))
        if STOP.raised or (file is not None and file.due()):
            save_or_stop(file, partial(dict, done))
    if file is not None:
        file.remove()
    warn_caller(said)
    return _put_together(done, labels, measured, outputs, order, definition)


def _add(layers: dict[str, Any], name: str, layer: LayerStatistics) -> None:
    """Add a class's statistics to those of the layer."""
    if name not in layers:
        layers[name] = {"active": torch.zeros_like(layer.active), "active_neurons": [], "squares": []}
    layers[name]["active"] += layer.active.to(layers[name]["active"].device)
    layers[name]["active_neurons"].append(layer.active_neurons.cpu())
    layers[name]["squares"].append(layer.squares)


def _put_together(
    done: dict[str, Any], labels: Tensor, classes: Tensor, outputs: int, order: int, definition: str
) -> PspEntropy:
    evaluations = [row["evaluation"] for row in done["rows"]]
    images = sum(each["samples"] for each in evaluations)
    statistics = PspStatistics(
        layers={
            name: LayerStatistics(  # its counts are those of all classes together
                layer["active"], torch.cat(layer["active_neurons"]), math.fsum(layer["squares"]), None
            )
            for name, layer in done["layers"].items()
        },
        labels=labels.sort().values.cpu(),  # as the images were taken
        class_sizes=torch.bincount(labels, minlength=outputs)[classes],
        logit_squares=math.fsum(row["squares"] for row in done["rows"]),
        evaluation=Evaluation(
            loss=math.fsum(each["loss"] * each["samples"] for each in evaluations) / images,
            wrong=sum(each["wrong"] for each in evaluations),
            samples=images,
        ),
        classes=classes,
        outputs=outputs,
    )
    parts = {name: [row["parts"].get(name) for row in done["rows"]] for name in statistics.layers}
    if order == 1:
        sums = {name: (torch.tensor(each, dtype=torch.float64), math.fsum(each)) for name, each in parts.items()}
        return statistics.first_order(sums, None, definition)
    layers = statistics.with_tuples(order)
    if definition == "agreement":
        return statistics.higher_order(order, definition, statistics.agreement(order))
    means = {}
    for name, layer in layers.items():
        of_classes = [
            ClassPart(part["varying"], {int(size): tuple(mean) for size, mean in part["means"].items()})
            for part in parts[name]
        ]
        sampled = {size for part in parts[name] for size in part["sampled"]}
        live = int(statistics.live(layer).sum())
        means[name] = joint_mean(of_classes, layer.active.shape[1], live, order, sampled)
    return statistics.higher_order(order, definition, means)
