"""BatchNorm's running statistics, taken anew at the weights that a net has."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from sharpminima.base.errors import AnalysisError
from sharpminima.nets.modes import same_modes


@torch.no_grad()
def recalibrate(model: nn.Module, images: Tensor, batch_size: int) -> None:
    """Set BatchNorm's running mean and variance to the means of those of the batches of ``images``, in place.

    All but BatchNorm is in eval mode. The batches are nearly equal, and at most of ``batch_size``.

    Raises:
        AnalysisError: a batch would have one image, which has no variance.

    >>> net = nn.Sequential(nn.BatchNorm2d(1), nn.Flatten())
    >>> recalibrate(net, torch.tensor([1.0, 3.0]).view(2, 1, 1, 1), batch_size=2)
    >>> float(net[0].running_mean), float(net[0].running_var), net[0].momentum
    (2.0, 2.0, 0.1)
    """
    batches = images.tensor_split(-(-len(images) // batch_size))

    def passes() -> None:
        if min(map(len, batches)) < 2:
            raise AnalysisError(
                f"{len(images)} images in batches of {batch_size}: one image has no variance; give more"
            )
        for batch in batches:
            model(batch)

    recalibrate_by(model, passes)


@torch.no_grad()
def recalibrate_by(model: nn.Module, passes: Callable[[], None]) -> None:
    """Set BatchNorm's running mean and variance to the means of those of the batches that ``passes`` gives ``model``.

    All but BatchNorm is in eval mode. A net without running statistics makes no pass. Where a pass fails, the
    statistics stay as they were.
    """
    norms = [
        module
        for module in model.modules()
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_mean is not None
    ]
    if not norms:
        return
    momenta = [module.momentum for module in norms]
    before = [(buffer, buffer.clone()) for module in norms for buffer in module.buffers()]
    with same_modes(model):
        try:
            model.eval()
            for module in norms:
                module.reset_running_stats()
                module.momentum = None  # the mean over batches
                module.train()
            passes()
        except BaseException:
            for buffer, values in before:
                buffer.copy_(values)
            raise
        finally:
            for module, momentum in zip(norms, momenta, strict=True):
                module.momentum = momentum
