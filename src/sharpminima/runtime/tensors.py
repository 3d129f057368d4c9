"""Tensors to a safetensors file, whole or not at all, with one clear error where the disk is full."""

import os
from collections.abc import Mapping

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from sharpminima.base.errors import SharpminimaError
from sharpminima.base.files import atomic_path


def save_tensors(path: str | os.PathLike[str], tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write tensors and text.

    Args:
        metadata: one entry, as the order of several is not fixed.

    Raises:
        SharpminimaError: the file cannot be written.
    """
    with atomic_path(path) as scratch:
        try:
            save_file(dict(tensors), scratch, metadata=dict(metadata))
        except SafetensorError as error:  # which a full disk is to its library
            raise SharpminimaError(
                f"{path}: cannot be written ({error}); free some space or choose another folder"
            ) from error
