"""The prepared file, and what it holds as normalised tensors.

A safetensors file with ``images`` (train, then test), ``labels``, ``train_indices``, ``validation_indices``
and ``test_indices``, as in `ImageDataset`. Its metadata entry ``sharpminima`` is a JSON object.
"""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from sharpminima.base.errors import DataError
from sharpminima.catalogue.datasets import DATASETS

FORMAT_VERSION = 1
KIND = "dataset"
KEY = "sharpminima"
PARTS = ("train", "validation", "test")
_DTYPES = {"images": torch.uint8, "labels": torch.int64, **{f"{part}_indices": torch.int64 for part in PARTS}}
_HEADER = ("kind", "format", "name", "mean", "std", "class_names", "content_sha256")
_CURE = "remove it and run `sharpminima prepare` again"


@dataclass(frozen=True, eq=False)
class Split:
    """Images of one part, ready for a net."""

    images: Tensor  # float32 [n, C, H, W]: (pixel / 255 - mean) / std
    labels: Tensor  # int64 [n]


@dataclass(frozen=True, eq=False)
class ImageDataset:
    """A prepared dataset, on the CPU."""

    name: str  # key of DATASETS
    sha256: str  # of the content: tensors, mean and std; not of the file
    images: Tensor  # uint8 [N, C, H, W]
    labels: Tensor  # int64 [N]
    indices: Mapping[str, Tensor]  # part -> int64 [n], ascending, disjoint, all of 0..N-1 together
    mean: tuple[float, ...]  # per channel, of pixels in [0, 1]
    std: tuple[float, ...]  # per channel, of pixels in [0, 1]
    class_names: tuple[str, ...]

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of one image."""
        channels, height, width = self.images.shape[1:]
        return channels, height, width

    def split(self, part: str, device: torch.device | str = "cpu") -> Split:
        """All images of ``part``: "train" (without validation), "validation" or "test".

        Raises:
            DataError: there is no such part.
        """
        return self._normalised(self._part(part), device)

    def subset(self, part: str, n: int, generator: torch.Generator, device: torch.device | str = "cpu") -> Split:
        """A class-balanced choice of ``n`` images of ``part``, in the order of the file.

        Every class gives n / classes images, and one more where a draw says so and n is no multiple.

        Raises:
            DataError: there is no such part, ``n`` is below 1, or a class has too few images.
        """
        indices = self._part(part)
        if n < 1:
            raise DataError(f"{self.name}: {n} images asked for; ask for one at least")
        quota, rest = divmod(n, self.num_classes)
        one_more = set(torch.randperm(self.num_classes, generator=generator)[:rest].tolist())
        chosen = []
        for number, class_name in enumerate(self.class_names):
            members = indices[self.labels[indices] == number]
            wanted = quota + (number in one_more)
            if wanted > len(members):
                raise DataError(
                    f"{self.name}: {n} class-balanced images of {part} need {wanted} of {class_name!r}, "
                    f"which has {len(members)}; ask for fewer images"
                )
            chosen.append(members[torch.randperm(len(members), generator=generator)[:wanted]])
        return self._normalised(torch.cat(chosen).sort().values, device)

    def first(self, part: str, n: int) -> Tensor:
        """The first ``n`` images of ``part``, or all that it has, in the order of the file: float32 [n, C, H, W].

        Raises:
            DataError: there is no such part.
        """
        return self._normalised(self._part(part)[:n], "cpu").images

    def _part(self, part: str) -> Tensor:
        if part not in self.indices:
            raise DataError(f"{self.name}: there is no part {part!r}; there are {', '.join(self.indices)}")
        return self.indices[part]

    def _normalised(self, indices: Tensor, device: torch.device | str) -> Split:
        # On the CPU, so that every device gets the same bits.
        mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (self.mean, self.std))
        images = self.images[indices].float().div_(255).sub_(mean).div_(std)
        return Split(images.to(device), self.labels[indices].to(device))


def content_sha256(tensors: Mapping[str, Tensor], mean: Sequence[float], std: Sequence[float]) -> str:
    """SHA-256 over all that decides what a net sees; independent of paths, dates and versions."""
    digest = hashlib.sha256(json.dumps({"mean": list(mean), "std": list(std)}).encode())
    for name in sorted(tensors):
        tensor = tensors[name].contiguous()
        digest.update(f"{name}|{tensor.dtype}|{list(tensor.shape)}|".encode())
        digest.update(tensor.numpy().data)
    return digest.hexdigest()


def load_prepared(path: str | os.PathLike[str]) -> ImageDataset:
    """Read and check a file of `prepare_dataset`.

    Raises:
        DataError: the file is missing, damaged, foreign, or of another format version.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(
            f"{path}: there is no such prepared dataset; run `sharpminima prepare`, or `snakemake --cores 1 -- data`"
        )
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {})[KEY])
            if not isinstance(header, dict) or header["kind"] != KIND or not set(_HEADER) <= header.keys():
                raise KeyError(KIND)
            if header["format"] != FORMAT_VERSION:
                raise DataError(f"{path}: has format {header['format']}, this version reads {FORMAT_VERSION}; {_CURE}")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
    except (SafetensorError, OSError) as error:
        raise DataError(f"{path}: cannot be read ({error}); {_CURE}") from error
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path}: is not a prepared dataset; {_CURE}") from error
    _check(path, tensors, header)
    return ImageDataset(
        name=header["name"],
        sha256=header["content_sha256"],
        images=tensors["images"],
        labels=tensors["labels"],
        indices={part: tensors[f"{part}_indices"] for part in PARTS},
        mean=tuple(header["mean"]),
        std=tuple(header["std"]),
        class_names=tuple(header["class_names"]),
    )


def _check(path: Path, tensors: Mapping[str, Tensor], header: Mapping[str, Any]) -> None:
    dtypes = {name: tensor.dtype for name, tensor in tensors.items()}
    if dtypes != _DTYPES:
        raise DataError(f"{path}: holds {dtypes}, expected {_DTYPES}; {_CURE}")
    images, labels = tensors["images"], tensors["labels"]
    indices = [tensors[f"{part}_indices"] for part in PARTS]
    spec = DATASETS.get(header["name"])
    if spec is None:
        raise DataError(f"{path}: holds dataset {header['name']!r}, which this version does not know; {_CURE}")
    if tuple(header["class_names"]) != spec.class_names:
        raise DataError(f"{path}: its classes are not those of {spec.name}; {_CURE}")
    if images.shape[1:] != spec.shape or labels.shape != images.shape[:1]:
        shapes = f"images {list(images.shape)} and labels {list(labels.shape)}"
        raise DataError(f"{path}: holds {shapes}, expected [N, {', '.join(map(str, spec.shape))}] and [N]; {_CURE}")
    if bool(((labels < 0) | (labels >= spec.num_classes)).any()):
        raise DataError(f"{path}: holds labels outside 0..{spec.num_classes - 1}; {_CURE}")
    if not torch.equal(torch.cat(indices).sort().values, torch.arange(len(labels))):
        raise DataError(f"{path}: its splits are not disjoint or not complete; {_CURE}")
    if content_sha256(tensors, header["mean"], header["std"]) != header["content_sha256"]:
        raise DataError(f"{path}: is damaged (its SHA-256 does not agree); {_CURE}")
