"""Resume files of analyses: what is in them belongs to exactly the same call."""

import hashlib
import json
import os
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from sharpminima.resume import ResumeFile


def resume_file(
    path: str | os.PathLike[str], settings: dict[str, Any], tensors: Iterable[Tensor], every_s: float = 60.0
) -> ResumeFile:
    """The resume file ``path`` of a call with these settings (JSON values) and tensors; any other is ignored."""
    device = None
    digest = hashlib.sha256()
    for tensor in tensors:
        device = tensor.device.type
        values = tensor.detach().cpu().contiguous()
        digest.update(f"{values.dtype} {list(values.shape)} ".encode())
        digest.update(values.reshape(-1).view(torch.uint8).numpy())
    settings = {**settings, "device": device, "threads": torch.get_num_threads(), "torch": torch.__version__}
    digest.update(json.dumps(settings, sort_keys=True).encode())
    return ResumeFile(path, fingerprint=digest.hexdigest(), every_s=every_s)
