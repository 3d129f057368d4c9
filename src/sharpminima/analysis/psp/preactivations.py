"""Pre-activations of a net on many images."""

from collections.abc import Iterator

from torch import Tensor, nn

from sharpminima.analysis._inputs import check_valued
from sharpminima.base.numbers import check_whole
from sharpminima.nets.activations import Activations, check_activations
from sharpminima.nets.modes import eval_mode, measuring
from sharpminima.nets.preactivations import capture_preactivations


def preactivations(
    model: nn.Module, images: Tensor, *, batch_size: int = 1000, activations: Activations = "relu"
) -> Iterator[tuple[dict[str, Tensor], Tensor]]:
    """Yield the pre-activations and the logits of one batch after another, in eval mode, without gradients.

    Each item is ``({name of the ReLU: z [B, neurons]}, logits [B, classes])``, layers in the order of the
    forward pass and named as in `capture_preactivations`, on the images' device. Memory: one batch of all
    hidden neurons. Each module's mode is restored after every batch.

    Args:
        images: normalised float images [N, C, H, W].
        activations: as for `capture_preactivations`.

    Raises:
        AnalysisError: as for `capture_preactivations`; images that are no tensor, or a batch size below 1.

    >>> import torch
    >>> net = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    >>> for z, logits in preactivations(net, torch.ones(5, 1, 2, 2), batch_size=3):
    ...     print(list(z["2"].shape), list(logits.shape))
    [3, 3] [3, 2]
    [2, 3] [2, 2]
    """
    batch_size = check_whole("batch_size", batch_size, least=1)
    check_valued(images=images)
    check_activations(activations)
    return _of_batches(model, images, batch_size, activations)


def _of_batches(
    model: nn.Module, images: Tensor, batch_size: int, activations: Activations
) -> Iterator[tuple[dict[str, Tensor], Tensor]]:
    for batch in images.split(batch_size):
        layers: dict[str, Tensor] = {}

        def keep(name: str, z: Tensor, layers: dict[str, Tensor] = layers) -> None:
            layers[name] = z.clone()

        with measuring(gradients=False), eval_mode(model), capture_preactivations(model, keep, activations):
            logits = model(batch)
        yield layers, logits
