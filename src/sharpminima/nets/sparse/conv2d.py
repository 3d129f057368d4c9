"""The layer: a convolution of survivors, with the max-pooling behind it if there is one."""

from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.utils import _pair

from sharpminima.nets.sparse.convolution import Convolve, Taps
from sharpminima.nets.sparse.pooled import ConvolvePooled
from sharpminima.nets.sparse.pooling import window_of


class SparseConv2d(nn.Module):
    """A convolution of survivors.

    Args:
        conv: the layer whose stride, padding and dilation to take.
        weight: the surviving weights [S], in the order of the mask.
        bias: [filters], or None.
        mask: bool [filters, channels, height, width], with S true.
    """

    def __init__(self, conv: nn.Conv2d, weight: Tensor, bias: Tensor | None, mask: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)
        self.bias = None if bias is None else nn.Parameter(bias)
        assert not isinstance(conv.padding, str)  # such are not offered
        self._stride, self._padding, self._dilation = _pair(conv.stride), _pair(conv.padding), _pair(conv.dilation)
        self._mask = mask.cpu().numpy()
        self._taps: dict[tuple[int, int], Taps] = {}
        self._window: tuple[int, int] | None = None

    def takes_over(self, pool: nn.Module) -> bool:
        """From now on do the pooling that alone reads this layer's maps, if it is a `window_of` one; whether it is."""
        self._window = window_of(pool)
        return self._window is not None

    def forward(self, images: Tensor) -> Tensor:
        """Images [N, C, H, W] to maps [N, F, H', W'], pooled if the layer does that; the batch is last in memory."""
        (vertical, horizontal), (height, width) = self._padding, images.shape[2:]
        padded = (height + 2 * vertical, width + 2 * horizontal)
        if padded not in self._taps:
            self._taps[padded] = Taps(self._mask, padded, self._stride, self._dilation)
        images = images.to(self.weight.dtype)  # there are no kernels of a coarser one
        channels = images.flatten(1).T.contiguous().view(*images.shape[1:], -1)  # no copy where the batch is last
        if any(self._padding):
            channels = F.pad(channels, (0, 0, horizontal, horizontal, vertical, vertical))
        bias = self.weight.new_zeros(len(self._mask)) if self.bias is None else self.bias
        inputs = (channels, self.weight, bias, self._taps[padded])
        maps = Convolve.apply(*inputs) if self._window is None else ConvolvePooled.apply(*inputs, self._window)[0]
        return maps.permute(3, 0, 1, 2)
