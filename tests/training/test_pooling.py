"""Poolings of maps whose batch is the last axis in memory, against torch's."""

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import gradcheck, gradgradcheck

from sharpminima.nets.sparse.pooling import BatchLast, BatchLastMaxPool, batch_last


def maps(seed: int = 0) -> Tensor:
    """[N, C, H, W] = [5, 3, 9, 7] with many equal values."""
    values = torch.randint(-2, 3, (3, 9, 7, 5), generator=torch.Generator().manual_seed(seed))
    return values.double().permute(3, 0, 1, 2).requires_grad_()


def check(pool: nn.Module, maps: Tensor) -> None:
    ours = batch_last(pool)
    found, expected = ours(maps), pool(maps.contiguous())
    assert torch.equal(found.isnan(), expected.isnan())
    assert torch.equal(found.nan_to_num(), expected.nan_to_num())
    assert found.permute(1, 2, 3, 0).is_contiguous()
    slopes = torch.arange(found.numel(), dtype=maps.dtype).view(found.shape).cos()
    assert torch.equal(*(torch.autograd.grad(pooled, maps, slopes)[0] for pooled in (found, expected)))


@pytest.mark.parametrize("window", [2, 3, (2, 3), (9, 7), 1])
def test_the_largest_of_windows_apart(window: int | tuple[int, int]) -> None:
    pool = nn.MaxPool2d(window)
    assert isinstance(batch_last(pool), BatchLastMaxPool)
    check(pool, maps())


@pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")  # torch's forward mode uses it
def test_derivatives_of_the_second_order() -> None:
    pool = batch_last(nn.MaxPool2d((2, 3)))
    values = torch.randn(3, 5, 7, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    inputs = (values.permute(3, 0, 1, 2).requires_grad_(),)
    assert gradcheck(pool, inputs, check_forward_ad=True)
    assert gradgradcheck(lambda maps: pool(maps.sin()), inputs, check_fwd_over_rev=True)


def test_what_no_window_covers_gets_no_gradient() -> None:
    found = maps()
    (gradient,) = torch.autograd.grad(batch_last(nn.MaxPool2d(2))(found).sum(), found)
    assert not gradient[:, :, 8].any()
    assert not gradient[:, :, :, 6].any()
    assert gradient.sum() == 5 * 3 * 4 * 3


def test_nan_is_the_largest() -> None:
    found = maps().detach().clone()
    found[1, 2, 3, 4] = found[1, 2, 3, 5] = torch.nan
    check(nn.MaxPool2d(2), found.requires_grad_())


@pytest.mark.parametrize(
    "pool",
    [
        nn.MaxPool2d(3, stride=2),
        nn.MaxPool2d(2, padding=1),
        nn.MaxPool2d(2, dilation=2),
        nn.MaxPool2d(2, ceil_mode=True),
        nn.AvgPool2d(2),
    ],
)
def test_other_poolings_are_torchs(pool: nn.Module) -> None:
    assert isinstance(batch_last(pool), BatchLast)
    check(pool, maps())


def test_a_window_of_more_values_than_a_byte_tells_is_torchs() -> None:
    pool = nn.MaxPool2d((16, 17))
    assert isinstance(batch_last(pool), BatchLast)
    wide = torch.randn(2, 16, 17, 3, generator=torch.Generator().manual_seed(0)).permute(3, 0, 1, 2)
    assert torch.equal(batch_last(pool)(wide), pool(wide.contiguous()))
