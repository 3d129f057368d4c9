"""Checkpoints: weights and masks of all replicas of one cell in one safetensors file, survivors only.

Layout of a file, for R replicas:

- a tensor without a mask is stored under its name in the state dict, with a leading axis R;
- a masked tensor NAME is stored as ``NAME:mask`` (uint8 bits, [R, ceil(n / 8)], or [1, ...] where all replicas
  share the mask) and ``NAME:survivors`` (the surviving values of replica 0, then of replica 1, ...);
- where only the first W replicas keep their weights, the two above hold W replicas (masks all R), and ``:predictions``
  holds the class that each other replica gives to each test image (uint8, [R - W, images]); with W = 0 there are
  masks and predictions alone;
- each of these is packed by bzip2, first the bytes of the lowest order of all elements, then the next, as one uint8
  tensor; ``packed`` in the metadata has its dtype and shape. Weights take 15 % less, masks 60 % and predictions 90 %;
- of W0 there is no tensor, only the SHA-256 of those that its seed gives, ``drawn_sha256``
  (`sharpminima.nets.initial`);
- the metadata entry ``sharpminima`` is a JSON object with what `save_checkpoint` was given and a SHA-256 over all.

Removed values are exactly zero, so nothing is lost. There is no pickle in it.
"""

import bz2
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from sharpminima.base.errors import AnalysisError, CheckpointError
from sharpminima.nets.masks import Masks, checked_masks, pack_bits, unpack_bits
from sharpminima.runtime.tensors import save_tensors

FORMAT_VERSION = 2
FORMAT_RELEASE = "0.1.0"
"""The first release that wrote this format. Files name it, and not the release that runs, whose number would be among
their hashed bytes: what makes other numbers has a `revision` of its own."""
_KEY = "sharpminima"
_PREDICTIONS = ":predictions"
_REMADE = "where a command has made it, remove it, so that it is made again, or fetch it again"
_OWN = "load the weights of your own where they were saved, and write them by `save_checkpoint`"
_TORCHS = (b"PK\x03\x04", b"\x80\x02")
"""How files of `torch.save` begin: a zip archive, or the older pickle."""


@dataclass(frozen=True)
class Checkpoint:
    """All replicas of one cell: weights, masks and what is known of them.

    >>> weights = {"weight": torch.ones(2, 3), "bias": torch.zeros(2)}
    >>> checkpoint = Checkpoint(states=[weights], masks=None)
    >>> checkpoint.replicas, checkpoint.load_into(nn.Linear(3, 2)).weight.sum().item()
    (1, 6.0)
    """

    states: list[dict[str, Tensor]]  # one state dict a replica whose weights are kept, on the CPU; none of W0
    masks: list[Masks] | None  # one set of masks a replica; None for a dense net
    metadata: dict[str, Any] = field(default_factory=dict)  # what `save_checkpoint` was given, and the format
    predictions: Tensor | None = None  # of the replicas without weights: class of each test image, [R - W, images]

    @property
    def replicas(self) -> int:
        """Number of replicas R, with or without weights."""
        return len(self.states) + (0 if self.predictions is None else len(self.predictions))

    def load_into(self, model: nn.Module, replica: int = 0) -> nn.Module:
        """Load one replica into ``model`` and return it.

        Raises:
            CheckpointError: the model has other tensors or shapes, there is no such replica, or its weights are not
                kept.
        """
        if not 0 <= replica < self.replicas:
            raise CheckpointError(f"replica {replica} asked for, the checkpoint holds {self.replicas}")
        if replica >= len(self.states):
            raise CheckpointError(
                f"replica {replica} asked for, the checkpoint keeps the weights of {len(self.states)}, of the others "
                "masks, metrics and predictions; take `weights` and `weights_from` out of the study and make it again"
            )
        expected = {name: tuple(t.shape) for name, t in model.state_dict().items()}
        held = {name: tuple(t.shape) for name, t in self.states[replica].items()}
        if expected != held:
            wrong = sorted(n for n in expected.keys() | held.keys() if expected.get(n) != held.get(n))
            raise CheckpointError(
                f"the checkpoint is of model {self.metadata.get('model')!r} and does not fit: {', '.join(wrong[:4])}; "
                "use the checkpoint of the same model and number of classes"
            )
        model.load_state_dict(self.states[replica])
        return model


def save_checkpoint(
    path: str | os.PathLike[str],
    states: Sequence[Mapping[str, Tensor]],
    *,
    masks: Sequence[Mapping[str, Tensor]] | None = None,
    metadata: Mapping[str, Any] | None = None,
    predictions: Tensor | None = None,
) -> None:
    """Write the replicas of a cell; the same content gives the same bytes.

    Args:
        states: one state dict a replica, equal names and shapes; with ``predictions`` of the first W replicas only.
            None of a net that ``metadata`` describe by ``drawn_sha256``.
        masks: one set of masks a replica, of 0 and 1; a value under a mask of 0 must be exactly zero.
        metadata: JSON values: model, dataset sha256, config slice, seed, epoch, sparsity, metrics, ...
        predictions: of the replicas without weights, the class of each test image (uint8 [R - W, images]).

    Raises:
        CheckpointError: replicas that differ in names, shapes, dtypes or number, a mask that does not fit its state or
            has no tensor there, a removed value that is not zero, a NaN or infinity, a colon in a tensor's name, or
            metadata that are no JSON values.
        SharpminimaError: the file cannot be written.

    >>> weight, mask = torch.tensor([0.0, 2.0, 0.0]), torch.tensor([False, True, False])
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     path = Path(folder, "net.safetensors")
    ...     save_checkpoint(path, [{"w": weight}], masks=[{"w": mask}], metadata={"seed": 1})
    ...     checkpoint = load_checkpoint(path)
    >>> checkpoint.states, checkpoint.metadata["seed"]
    ([{'w': tensor([0., 2., 0.])}], 1)
    """
    tensors: dict[str, Tensor] = {}
    shapes: dict[str, list[int]] = {}
    _check_states(path, states)
    _check_json(path, metadata or {})
    kept = len(states)
    replicas = kept if predictions is None else kept + len(predictions)
    if replicas == 0 and "drawn_sha256" not in (metadata or {}):
        raise CheckpointError(f"{path}: there is no replica to save")
    if masks is not None:
        _check_mappings(path, "masks", masks)
    if masks is not None and len(masks) != replicas:
        raise CheckpointError(f"{path}: has {replicas} replicas, and masks of {len(masks)}")
    if masks is None and states and predictions is not None:
        raise CheckpointError(f"{path}: has {replicas} replicas, and masks of 0")
    if masks is not None:
        masks = _fitting(path, masks, states)
    names = states[0] if states else masks[0] if masks else {}
    if unfit := [name for name in names if ":" in name]:
        raise CheckpointError(
            f"{path}: {unfit[0]!r} has a colon, which divides a tensor's name from its parts; rename it"
        )
    for name in names:
        values = torch.stack([state[name].detach().cpu() for state in states]) if states else None
        if values is not None and values.is_floating_point() and not bool(torch.isfinite(values).all()):
            raise CheckpointError(f"{path}: {name} holds NaN or infinity and is not saved; the training diverged")
        if values is not None and (masks is None or name not in masks[0]):
            tensors[name] = values.contiguous()
            continue
        keep = torch.stack([m[name] for m in masks or ()])
        shapes[name] = list(keep.shape[1:])
        shared = bool((keep == keep[:1]).all())
        tensors[f"{name}:mask"] = torch.stack([pack_bits(row) for row in (keep[:1] if shared else keep)])
        if values is not None:
            if bool(values[~keep[:kept]].any()):
                raise CheckpointError(f"{path}: {name} has removed weights that are not zero")
            tensors[f"{name}:survivors"] = values[keep[:kept]].contiguous()
    if predictions is not None:
        tensors[_PREDICTIONS] = predictions.cpu().contiguous()
    header = {
        **(metadata or {}),
        "format": FORMAT_VERSION,
        "version": FORMAT_RELEASE,
        "replicas": replicas,
        "masked_shapes": shapes,
    }
    header["packed"] = {
        name: [str(value.dtype).removeprefix("torch."), *value.shape] for name, value in tensors.items()
    }
    packed = {name: _packed(value) for name, value in tensors.items()}
    header["content_sha256"] = _content_sha256(packed, header)
    save_tensors(path, packed, {_KEY: json.dumps(header, sort_keys=True, allow_nan=False)})


def _check_mappings(path: str | os.PathLike[str], what: str, replicas: Sequence[Mapping[str, Tensor]]) -> None:
    """Refuse what is no list of mappings of the same names, one of each replica."""
    if isinstance(replicas, Mapping) or not all(isinstance(replica, Mapping) for replica in replicas):
        raise CheckpointError(f"{path}: the {what} are no list of dictionaries; give a list with one of each replica")
    for replica in replicas:
        if differing := sorted(replicas[0].keys() ^ replica.keys()):
            raise CheckpointError(
                f"{path}: the replicas have {what} of different names ({', '.join(differing[:4])}); give each the same"
            )


def _check_states(path: str | os.PathLike[str], states: Sequence[Mapping[str, Tensor]]) -> None:
    """Refuse what is no list of state dicts of one net."""
    _check_mappings(path, "states", states)
    for number, state in enumerate(states):
        for name, value in state.items():
            if not isinstance(value, Tensor):
                raise CheckpointError(f"{path}: {name!r} of the states is a {type(value).__name__}; give tensors")
            first, other = (f"{list(each.shape)} ({each.dtype})" for each in (states[0][name], value))
            if first != other:
                raise CheckpointError(
                    f"{path}: {name} is {first} in the first replica, {other} in replica {number}; give each the same"
                )


def _check_json(path: str | os.PathLike[str], metadata: Mapping[str, Any]) -> None:
    try:
        json.dumps(metadata, sort_keys=True, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise CheckpointError(
            f"{path}: the metadata are no JSON values ({error}); give finite numbers, text, lists and dictionaries"
        ) from error


def _fitting(
    path: str | os.PathLike[str], masks: Sequence[Mapping[str, Tensor]], states: Sequence[Mapping[str, Tensor]]
) -> list[Masks]:
    """The masks as bool on the CPU."""
    masked = states[0] if states else masks[0]
    try:
        return [{name: mask.cpu() for name, mask in checked_masks(each, masked, "the state").items()} for each in masks]
    except AnalysisError as error:
        raise CheckpointError(f"{path}: {error}") from error


def load_checkpoint(path: str | os.PathLike[str]) -> Checkpoint:
    """Read and check a checkpoint.

    Raises:
        CheckpointError: the file is missing, not a checkpoint, of another format version, or damaged.

    >>> load_checkpoint("no-such-file")
    Traceback (most recent call last):
    sharpminima.base.errors.CheckpointError: no-such-file: there is no such checkpoint; ...
    """
    return _assemble(*_read(Path(path)))


def read_metadata(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The metadata alone, without unpacking the tensors; the SHA-256 over both is checked.

    Raises:
        CheckpointError: the file is missing, not a checkpoint, of another format version, or damaged.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     path = Path(folder, "net.safetensors")
    ...     save_checkpoint(path, [{"w": torch.ones(3)}], metadata={"model": "lenet300"})
    ...     metadata = read_metadata(path)
    >>> metadata["model"], metadata["replicas"]
    ('lenet300', 1)
    """
    return _read(Path(path))[1]


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    if not path.is_file():
        raise CheckpointError(f"{path}: there is no such checkpoint; run the rule that makes it, or `dvc pull`")
    try:
        header, tensors = _open(path)
    except (SafetensorError, OSError) as error:
        if _begins(path, _TORCHS):
            raise CheckpointError(f"{path}: is a file of torch.save, no checkpoint of sharpminima; {_OWN}") from error
        raise CheckpointError(f"{path}: cannot be read ({error}); {_REMADE}; else {_OWN}") from error
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: is not a checkpoint of sharpminima; {_OWN}; {_REMADE}") from error
    if header.get("kind") == "dataset":
        raise CheckpointError(f"{path}: is a prepared dataset; give a net here, and the data by --data")
    if header.get("format") != FORMAT_VERSION:
        raise CheckpointError(
            f"{path}: has format {header.get('format')}, this version reads {FORMAT_VERSION}; "
            f"use a release that reads it, such as {header.get('version')}, or make it again"
        )
    if header.pop("content_sha256", None) != _content_sha256(tensors, header):
        raise CheckpointError(f"{path}: is damaged (its SHA-256 does not agree); {_REMADE}")
    return tensors, header


def _begins(path: Path, marks: tuple[bytes, ...]) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(max(map(len, marks))).startswith(marks)
    except OSError:
        return False


def _open(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    with safe_open(path, framework="pt") as file:
        header = json.loads((file.metadata() or {})[_KEY])
        if not isinstance(header, dict):
            raise TypeError(f"metadata {type(header).__name__}")
        return header, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)


def _packed(tensor: Tensor) -> Tensor:
    """The bytes of a tensor, by order and packed, as uint8 [bytes]."""
    by_order = tensor.reshape(-1, 1).view(torch.uint8).numpy().T
    return torch.frombuffer(bytearray(bz2.compress(by_order.tobytes())), dtype=torch.uint8)


def _unpacked(packed: Tensor, dtype: str, *shape: int) -> Tensor:
    """What was packed."""
    whole = torch.empty(shape, dtype=getattr(torch, dtype))
    by_order = np.frombuffer(bz2.decompress(packed.numpy().tobytes()), np.uint8).reshape(whole.itemsize, whole.numel())
    whole.reshape(-1, 1).view(torch.uint8).numpy()[:] = by_order.T
    return whole


def _assemble(packed: dict[str, Tensor], header: dict[str, Any]) -> Checkpoint:
    forms = header.pop("packed")
    tensors = {name: _unpacked(value, *forms[name]) for name, value in packed.items()}
    replicas: int = header["replicas"]
    shapes: dict[str, list[int]] = header.pop("masked_shapes")
    predictions = tensors.pop(_PREDICTIONS, None)
    kept = replicas if predictions is None else replicas - len(predictions)
    states: list[dict[str, Tensor]] = [{} for _ in range(kept)]
    masks: list[Masks] = [{} for _ in range(replicas)]
    for key, stored in tensors.items():
        name, _, part = key.partition(":")
        if not part:
            for state, value in zip(states, stored, strict=True):
                state[name] = value.clone()
        elif part == "mask":
            shape = torch.Size(shapes[name])
            rows = stored.expand(replicas, -1)
            start = 0
            for replica in range(replicas):
                mask = unpack_bits(rows[replica], shape.numel())
                masks[replica][name] = mask.view(shape)
                if replica >= kept:
                    continue
                values = tensors[f"{name}:survivors"]
                stop = start + int(mask.sum())
                dense = torch.zeros(shape.numel(), dtype=values.dtype)
                dense[mask] = values[start:stop]
                states[replica][name] = dense.view(shape)
                start = stop
    return Checkpoint(states=states, masks=masks if shapes else None, metadata=header, predictions=predictions)


def state_sha256(state: Mapping[str, Tensor]) -> str:
    """SHA-256 of a state dict, in hexadecimal: of names, dtypes, shapes and values.

    >>> state_sha256({"w": torch.ones(2)})[:8], state_sha256({"v": torch.ones(2)})[:8]
    ('95445882', 'f928c4f5')
    """
    return _content_sha256(state, {})


def _content_sha256(tensors: Mapping[str, Tensor], header: Mapping[str, Any]) -> str:
    # Infinity is legal in a resume file: a best loss starts there.
    digest = hashlib.sha256(json.dumps(header, sort_keys=True).encode())
    for name in sorted(tensors):
        tensor = tensors[name].contiguous()
        digest.update(f"{name}|{tensor.dtype}|{list(tensor.shape)}|".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes() if tensor.numel() else b"")
    return digest.hexdigest()


def save_tree(path: str | os.PathLike[str], tree: Any, *, fingerprint: str) -> None:
    """Write nested dicts and lists of tensors and JSON values as one file (resume files).

    Args:
        fingerprint: what the content belongs to; `load_tree` returns it only for the same one.
    """
    tensors: dict[str, Tensor] = {}

    def strip(node: Any) -> Any:
        if isinstance(node, Tensor):
            key = str(len(tensors))
            tensors[key] = node.detach().cpu().contiguous().clone()
            return {"__tensor__": key}
        if isinstance(node, Mapping):
            return {str(key): strip(value) for key, value in node.items()}
        if isinstance(node, list | tuple):
            return [strip(value) for value in node]
        return node

    header = {"tree": strip(tree), "fingerprint": fingerprint}
    header["sha256"] = _content_sha256(tensors, header)
    save_tensors(path, tensors, {_KEY: json.dumps(header)})


RESULTS = "a result of sharpminima: "
"""What the fingerprint of a saved result begins with."""
TREE_BEGINS = b'{"__metadata__":{"' + _KEY.encode() + b'":"{\\"tree\\"'
"""What stands behind the first eight bytes of a file of `save_tree`, also of one that was cut off."""


def fingerprint_in(path: str | os.PathLike[str]) -> str | None:
    """The fingerprint in a file of `save_tree`; None of a damaged one, or another.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     path = Path(folder, "resume.safetensors")
    ...     save_tree(path, {"epoch": 3}, fingerprint="one job")
    ...     fingerprint_in(path), fingerprint_in(Path(folder, "none"))
    ('one job', None)
    """
    try:
        with safe_open(path, framework="pt") as file:
            return str(json.loads((file.metadata() or {})[_KEY])["fingerprint"])
    except (SafetensorError, OSError, KeyError, TypeError, ValueError):
        return None


def load_tree(path: str | os.PathLike[str], *, fingerprint: str) -> Any | None:
    """Read what `save_tree` wrote; None where there is no file, or it is damaged or belongs to something else.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     path = Path(folder, "resume.safetensors")
    ...     save_tree(path, {"epoch": 3, "values": [torch.ones(2)]}, fingerprint="one job")
    ...     load_tree(path, fingerprint="one job"), load_tree(path, fingerprint="another")
    ({'epoch': 3, 'values': [tensor([1., 1.])]}, None)
    """
    path = Path(path)
    try:
        header, tensors = _open(path)
    except (SafetensorError, OSError, KeyError, TypeError, ValueError):
        return None
    digest = header.pop("sha256", None)
    if header.get("fingerprint") != fingerprint or digest != _content_sha256(tensors, header):
        return None

    def fill(node: Any) -> Any:
        if isinstance(node, dict):
            if "__tensor__" in node:
                return tensors[node["__tensor__"]]
            return {key: fill(value) for key, value in node.items()}
        if isinstance(node, list):
            return [fill(value) for value in node]
        return node

    return fill(header["tree"])
