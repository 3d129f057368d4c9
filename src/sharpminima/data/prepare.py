"""Raw files to one prepared file: checked, split, and the same bytes every time."""

import json
import os
import sys
from pathlib import Path

import torch

from sharpminima.base.errors import DataError
from sharpminima.catalogue.datasets import Report
from sharpminima.data._check import check_facts, check_raw, missing_classes
from sharpminima.data._registry import dataset_named
from sharpminima.data.prepared import FORMAT_VERSION, KEY, KIND, PARTS, content_sha256
from sharpminima.runtime.rng import generator
from sharpminima.runtime.tensors import save_tensors

ROOT_VARIABLE = "SHARPMINIMA_DATA"
"""Environment variable that names the root of raw files."""

DEFAULT_ROOT = "data/downloads"
"""Root of raw files, relative to the current folder, where nothing else names one."""


def prepare_dataset(
    name: str,
    out: str | os.PathLike[str],
    *,
    root: str | os.PathLike[str] | None = None,
    seed: int = 0,
    validation_share: float = 0.1,
    download: bool = True,
    progress: Report | None = None,
) -> None:
    """Find or download dataset ``name``, check it, split it, and write it to ``out`` (whole or not at all).

    Args:
        name: a key of ``DATASETS``.
        out: path of the safetensors file; `load_prepared` reads it.
        root: a torchvision root; default: the environment variable SHARPMINIMA_DATA, else ``data/downloads``.
        seed: of the validation split.
        validation_share: share of the training images that becomes the validation split, in (0, 1).
        download: fetch through torchvision into ``root`` what is not there.
        progress: takes lines of progress; default: prints them to standard error.

    Raises:
        DataError: no such dataset; facts that no images could have; a share that leaves a split empty, or takes all
            images of a class from training; raw files damaged, or not to be had; images or labels that are not what
            the dataset's facts say, or lack a class.
        SharpminimaError: ``out`` cannot be written.
    """
    report = progress or _print
    dataset = dataset_named(name)
    folder = Path(root or os.environ.get(ROOT_VARIABLE) or DEFAULT_ROOT).expanduser()
    if not 0 < validation_share < 1:  # NaN, too
        raise DataError(
            f"{name}: a validation share of {validation_share:g} given; choose one that leaves images on both sides, "
            "such as 0.1"
        )
    check_facts(dataset)
    raw = dataset.load(folder, download, report)
    check_raw(dataset, raw)
    train = len(raw.train_labels)
    validation = round(validation_share * train)
    if not 0 < validation < train:
        raise DataError(
            f"{name}: a validation share of {validation_share:g} takes {validation} of {train} images; "
            "choose one that leaves images on both sides, such as 0.1"
        )
    order = torch.randperm(train, generator=generator(seed, "validation-split", name))
    if missing := missing_classes(dataset, raw.train_labels[order[validation:]]):
        raise DataError(
            f"{name}, training: the validation split takes every image of {missing}; choose another seed of the split "
            "or a smaller validation share, or give the class more images"
        )
    tensors = {
        "images": torch.cat([raw.train_images, raw.test_images]),
        "labels": torch.cat([raw.train_labels, raw.test_labels]),
        "train_indices": order[validation:].sort().values,
        "validation_indices": order[:validation].sort().values,
        "test_indices": torch.arange(train, train + len(raw.test_labels)),
    }
    content = content_sha256(tensors, dataset.mean, dataset.std)
    header = {
        "kind": KIND,
        "format": FORMAT_VERSION,
        "name": name,
        "source": dataset.source,
        "raw_sha256": dict(dataset.raw_sha256),
        "mean": list(dataset.mean),
        "std": list(dataset.std),
        "class_names": list(dataset.class_names),
        "seed": seed,
        "validation_share": validation_share,
        "content_sha256": content,
    }
    save_tensors(out, tensors, {KEY: json.dumps(header, sort_keys=True)})
    sizes = ", ".join(f"{len(tensors[f'{part}_indices']):,} {part}" for part in PARTS)
    report(f"{name}: {sizes} images in {out}, content {content[:12]}")
    # No fault: of a class of few images a random split may hold none, whatever its seed.
    if missing := missing_classes(dataset, raw.train_labels[order[:validation]]):
        report(f"{name}: no image of {missing} in validation; a larger validation share or another seed gives it some")


def _print(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
