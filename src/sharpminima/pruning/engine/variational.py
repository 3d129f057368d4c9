"""What methods share that train distributions: outputs by local reparametrisation, and a divergence of dropout."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sharpminima.pruning.engine.activations import padded

TINY = 1e-8
"""Beside squares and variances, whose logarithms and roots are taken."""


def dropout_kl(log_alpha: Tensor) -> Tensor:
    """KL from a normal of variance alpha times its squared mean to the log-uniform prior, up to a constant, in nats.

    Molchanov, Ashukha, Vetrov, "Variational dropout sparsifies deep neural networks", ICML 2017, equation 14, an
    approximation. Of the shape of ``log_alpha``; it falls to 0 as alpha grows.

    >>> [round(each, 3) for each in dropout_kl(torch.tensor([-2.0, 0.0, 8.0])).tolist()]
    [1.541, 0.431, 0.0]
    """
    return -(0.63576 * (1.8732 + 1.48695 * log_alpha).sigmoid() - 0.5 * F.softplus(-log_alpha) - 0.63576)


def drawn_output(
    layer: nn.Linear | nn.Conv2d,
    inputs: Tensor,
    output: Tensor,
    variance: Tensor,
    draws: torch.Generator,
    bias_variance: Tensor | None = None,
) -> Tensor:
    """A layer's ``output`` as a draw from its distribution, where its weights are independent normals.

    Kingma, Salimans, Welling, "Variational dropout and the local reparameterization trick", NeurIPS 2015: outputs are
    drawn, each by itself, and no weights.

    Args:
        inputs: what the layer took [N, ...].
        output: what it gave with the means of its weights.
        variance: of its weights, of their shape.
        draws: CPU.
        bias_variance: of its biases [outputs]; None: they are no draws.

    >>> layer, ones = nn.Linear(4, 1), torch.ones(1000, 4)
    >>> drawn = drawn_output(layer, ones, layer(ones), torch.full((1, 4), 0.25), torch.Generator().manual_seed(0))
    >>> round(drawn.std().item(), 1)
    1.0
    """
    if isinstance(layer, nn.Linear):
        spread = F.linear(inputs.square(), variance, bias_variance)
    else:
        inputs, zeros = padded(layer, inputs)
        spread = F.conv2d(inputs.square(), variance, bias_variance, layer.stride, zeros, layer.dilation, layer.groups)
    noise = torch.randn(output.shape, generator=draws).to(output)
    return output + (spread + TINY).sqrt() * noise
