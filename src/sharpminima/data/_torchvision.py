"""torchvision, also where its compiled operators do not fit the torch beside it."""

import importlib
from types import ModuleType

import torch

_declared: list[torch.library.Library] = []  # a schema lives as long as its library object


def import_torchvision_datasets() -> ModuleType:
    """The module ``torchvision.datasets``.

    A torchvision built for CUDA cannot load its operators beside a torch for CPUs, and its import then fails
    for want of two schemas. The datasets need no operators: in that case alone the schemas are declared.
    """
    try:
        return importlib.import_module("torchvision.datasets")
    except RuntimeError as error:
        if "operator torchvision::nms does not exist" not in str(error):
            raise
    library = torch.library.Library("torchvision", "FRAGMENT")
    for operator in ("nms", "qnms"):
        library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _declared.append(library)
    return importlib.import_module("torchvision.datasets")
