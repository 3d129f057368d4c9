"""Post-synaptic potentials: what enters each ReLU of a net."""

import contextlib
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from sharpminima.analysis._inputs import eval_mode
from sharpminima.errors import AnalysisError


@contextlib.contextmanager
def capture_preactivations(model: nn.Module, sink: Callable[[str, Tensor], None]) -> Iterator[None]:
    """Hand the input of every ``nn.ReLU`` to ``sink(name, z)`` while ``model`` runs inside this context.

    ``name`` is the ReLU's qualified name; ``z`` [N, neurons] its input, flattened (a neuron of a convolution
    is one (channel, row, column)). The calls come in the order of the forward pass, one a ReLU and pass,
    also under ``torch.func.functional_call``. ``z`` may be overwritten after the call (by an in-place
    ReLU): clone what you keep.

    Raises:
        AnalysisError: the model has no ``nn.ReLU``; or, in a forward pass, one ReLU runs twice.
    """
    relus = {name: module for name, module in model.named_modules() if isinstance(module, nn.ReLU)}
    if not relus:
        raise AnalysisError("the model has no nn.ReLU module, so no pre-activations; use nn.ReLU, not F.relu")
    seen: set[str] = set()

    def start(module: nn.Module, args: tuple[Tensor, ...]) -> None:
        seen.clear()

    def hook(name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def run(module: nn.Module, args: tuple[Tensor, ...]) -> None:
            if name in seen:
                raise AnalysisError(f"the ReLU {name} runs twice in one forward pass; give each use its own nn.ReLU")
            seen.add(name)
            sink(name, args[0].flatten(1))

        return run

    with contextlib.ExitStack() as handles:
        handles.enter_context(model.register_forward_pre_hook(start))
        for name, module in relus.items():
            handles.enter_context(module.register_forward_pre_hook(hook(name)))
        yield


@torch.no_grad()
def preactivations(
    model: nn.Module, images: Tensor, *, batch_size: int = 1000
) -> Iterator[tuple[dict[str, Tensor], Tensor]]:
    """Yield the pre-activations and the logits of one batch after another, in eval mode, without gradients.

    Each item is ``({name of the ReLU: z [B, neurons]}, logits [B, classes])``, layers in the order of the
    forward pass, on the images' device. Memory: one batch of all hidden neurons. Each module's mode is
    restored after every batch.

    Args:
        images: normalised float images [N, C, H, W].

    Raises:
        AnalysisError: as for `capture_preactivations`.
    """
    for batch in images.split(batch_size):
        layers: dict[str, Tensor] = {}

        def keep(name: str, z: Tensor, layers: dict[str, Tensor] = layers) -> None:
            layers[name] = z.clone()

        with eval_mode(model), capture_preactivations(model, keep):
            logits = model(batch)
        yield layers, logits
