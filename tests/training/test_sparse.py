"""Layers of survivors against the dense layers that hold zeros, in float64."""

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.autograd import gradcheck, gradgradcheck
from torch.func import functional_call
from torch.nn import functional as F

from sharpminima.nets.checkpoint import load_checkpoint
from sharpminima.nets.compaction import compact, reordered
from sharpminima.nets.models import build_model
from sharpminima.nets.sparse import SparseConv2d, SparseLinear, _kernels, is_offered, is_worth
from sharpminima.nets.sparse.pooling import BatchLastMaxPool, batch_last
from sharpminima.training import FlatModel

MASKS = Path(__file__).parents[2] / "benchmarks" / "masks"


def draws(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def called(graph: nn.Module) -> list[type]:
    """The kinds of modules that a traced net calls."""
    return [type(graph.get_submodule(node.target)) for node in graph.graph.nodes if node.op == "call_module"]


def gradients(output: Tensor, *inputs: Tensor) -> tuple[Tensor, ...]:
    """Of a sum that weighs every output differently."""
    return torch.autograd.grad((output * torch.arange(output.numel()).view(output.shape).cos()).sum(), inputs)


def check(sparse: nn.Module, dense: nn.Module, mask: Tensor, features: Tensor, pool: nn.Module | None = None) -> None:
    """A layer of survivors, which does the pooling if there is one, against the dense layer and the pooling."""
    with torch.no_grad():
        dense.weight *= mask
    found, expected = sparse(features), dense(features)
    if pool is not None:
        expected = pool(expected)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    to_features, to_weight, to_bias = gradients(found, features, sparse.weight, sparse.bias)
    wanted = gradients(expected, features, dense.weight, dense.bias)
    torch.testing.assert_close(to_features, wanted[0], rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(to_weight, wanted[1][mask], rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(to_bias, wanted[2], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("density", [0.0, 0.05, 0.5, 1.0])
@pytest.mark.parametrize("batch", [1, 6])
def test_linear(density: float, batch: int) -> None:
    dense = nn.Linear(11, 7, dtype=torch.float64)
    mask = torch.rand(7, 11, generator=draws(0)) < density
    sparse = SparseLinear(dense.weight.detach()[mask], dense.bias.detach().clone(), mask)
    features = torch.randn(batch, 11, generator=draws(1), dtype=torch.float64, requires_grad=True)
    check(sparse, dense, mask, features)
    assert sparse(features).T.is_contiguous()


@settings(max_examples=120)
@given(
    stride=st.integers(1, 2),
    padding=st.integers(0, 2),
    dilation=st.integers(1, 2),
    kernel=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    channels_last=st.booleans(),
    window=st.none() | st.tuples(st.integers(1, 3), st.integers(1, 3)),
    density=st.sampled_from([0.02, 0.3, 1.0]),
    seed=st.integers(0, 100),
)
def test_convolution(
    stride: int,
    padding: int,
    dilation: int,
    kernel: tuple[int, int],
    channels_last: bool,
    window: tuple[int, int] | None,
    density: float,
    seed: int,
) -> None:
    dense = nn.Conv2d(3, 4, kernel, stride=stride, padding=padding, dilation=dilation, dtype=torch.float64)
    mask = torch.rand(dense.weight.shape, generator=draws(seed)) < density
    sparse = SparseConv2d(dense, dense.weight.detach()[mask], dense.bias.detach().clone(), mask)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    images = torch.randn(5, 3, 13, 12, generator=draws(seed + 1), dtype=torch.float64).contiguous(memory_format=layout)
    pool = None if window is None else nn.MaxPool2d(window)
    assert pool is None or sparse.takes_over(pool)
    check(sparse, dense, mask, images.requires_grad_(), pool)
    assert sparse(images).permute(1, 2, 3, 0).is_contiguous()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")  # torch's forward mode uses it
@pytest.mark.parametrize("pooled", [False, True])
def test_derivatives_of_the_second_order(pooled: bool) -> None:
    dense = nn.Conv2d(2, 3, 3, stride=(1, 2), padding=1, dtype=torch.float64)
    mask = torch.rand(dense.weight.shape, generator=draws(0)) < 0.5
    sparse = SparseConv2d(dense, dense.weight.detach()[mask], dense.bias.detach().clone(), mask)
    assert not pooled or sparse.takes_over(nn.MaxPool2d((2, 3)))
    images = torch.randn(2, 2, 5, 6, generator=draws(1), dtype=torch.float64, requires_grad=True)

    def maps(images: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return functional_call(sparse, {"weight": weight, "bias": bias}, (images,)).tanh()

    inputs = (images, *(parameter.detach().clone().requires_grad_() for parameter in sparse.parameters()))
    assert gradcheck(maps, inputs, check_forward_ad=True)
    assert gradgradcheck(maps, inputs, check_fwd_over_rev=True)


def test_other_poolings_are_not_taken_over() -> None:
    mask = torch.ones(4, 3, 3, 3, dtype=torch.bool)
    sparse = SparseConv2d(nn.Conv2d(3, 4, 3), torch.randn(int(mask.sum())), None, mask)
    assert not sparse.takes_over(nn.AvgPool2d(2))
    assert not sparse.takes_over(nn.MaxPool2d(3, stride=2))
    assert sparse(torch.randn(2, 3, 10, 10)).shape == (2, 4, 8, 8)


@pytest.mark.slow
def test_maps_that_are_read_twice_are_pooled_apart() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.pool, self.fc = nn.Conv2d(1, 4, 3), nn.MaxPool2d(2), nn.Linear(4 * 45, 3)

        def forward(self, images: Tensor) -> Tensor:
            maps = self.conv(images)
            return self.fc(torch.cat([self.pool(maps).flatten(1), maps.flatten(1)], 1))

    torch.manual_seed(0)
    model, images = Net(), torch.randn(5, 1, 8, 8)
    masks = {"conv.weight": torch.rand(model.conv.weight.shape, generator=draws(0)) < 0.5}
    with torch.no_grad():
        model.conv.weight *= masks["conv.weight"]
    small = compact(model, masks, sparse=(nn.Conv2d,)).model
    assert isinstance(small.get_submodule("conv"), SparseConv2d)
    torch.testing.assert_close(small(images), model(images))


@pytest.mark.parametrize("pool", [None, nn.MaxPool2d(2)])
def test_a_row_of_a_large_batch_is_taken_in_tiles(pool: nn.Module | None) -> None:
    dense = nn.Conv2d(2, 3, 3, dtype=torch.float64)
    mask = torch.rand(dense.weight.shape, generator=draws(0)) < 0.7
    sparse = SparseConv2d(dense, dense.weight.detach()[mask], dense.bias.detach().clone(), mask)
    images = torch.randn(150, 2, 4, 11, generator=draws(1), dtype=torch.float64, requires_grad=True)
    assert _kernels._TILE < 150 * 9
    assert pool is None or sparse.takes_over(pool)
    check(sparse, dense, mask, images, pool)


def test_maps_of_one_layer_enter_the_next_without_a_copy() -> None:
    mask = torch.rand(4, 3, 3, 3, generator=draws(0)) < 0.5
    first = SparseConv2d(nn.Conv2d(3, 4, 3), torch.randn(int(mask.sum())), None, mask)
    pool = batch_last(nn.MaxPool2d(2))
    maps = F.relu(pool(first(torch.randn(6, 3, 10, 10))))
    assert maps.flatten(1).T.is_contiguous()
    assert maps.flatten(1).data_ptr() == maps.data_ptr()
    torch.testing.assert_close(pool(maps), nn.MaxPool2d(2)(maps.contiguous()))


def test_which_layers_are_worth_it() -> None:
    mask = torch.zeros(64, 64, dtype=torch.bool)
    mask[:16] = True
    assert is_worth(mask)
    mask[16, 0] = True
    assert not is_worth(mask)
    assert not is_worth(torch.zeros(63, 64, dtype=torch.bool))
    kernels = torch.zeros(4, 2, 3, 3, dtype=torch.bool)
    kernels[:2] = True
    assert is_worth(kernels)
    kernels[2, 0, 0, 0] = True
    assert not is_worth(kernels)
    assert is_worth(torch.ones(4, 1, 3, 3, dtype=torch.bool))


def test_which_layers_are_offered(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = torch.device("cpu")
    offered = torch.backends.mkl.is_available()
    assert is_offered(nn.Linear(3, 3), cpu) == offered
    assert is_offered(nn.Conv2d(3, 4, 3, padding=1), cpu)
    assert not is_offered(nn.Conv2d(4, 4, 3, groups=2), cpu)
    assert not is_offered(nn.Conv2d(3, 4, 3, padding="same"), cpu)
    assert not is_offered(nn.Conv2d(3, 4, 3, padding=1, padding_mode="reflect"), cpu)
    assert not is_offered(nn.Linear(3, 3), torch.device("cuda"))
    assert not is_offered(nn.Conv2d(3, 4, 3), torch.device("cuda"))
    monkeypatch.setattr(torch.backends.mkl, "is_available", lambda: False)
    assert not is_offered(nn.Linear(3, 3), cpu)
    assert is_offered(nn.Conv2d(3, 4, 3), cpu)


@pytest.mark.slow
@pytest.mark.skipif(not torch.backends.mkl.is_available(), reason="products of sparse matrices come from MKL")
def test_lenet5_at_a_real_mask_keeps_its_function() -> None:
    checkpoint = load_checkpoint(MASKS / "lenet5-99.57.safetensors")
    masks = checkpoint.masks[0]
    model = build_model("lenet5", seed=3)
    flat = FlatModel(model, compaction=True)
    flat.set_masks(masks)
    modules = {name: type(module) for name, module in flat.network.named_modules()}
    assert modules["conv1"] is modules["conv2"] is SparseConv2d
    assert modules["fc1"] is SparseLinear
    assert len(flat.network.get_submodule("conv1").bias) == 11  # that are alive
    images = torch.randn(8, 1, 28, 28, generator=draws(0))
    torch.testing.assert_close(flat.network(images), model(images), rtol=1e-5, atol=1e-6)
    assert not any(issubclass(kind, nn.MaxPool2d | BatchLastMaxPool) for kind in called(flat.network))


def test_relu_after_pooling_is_the_same_net() -> None:
    model = build_model("lenet5", seed=1)
    images = torch.randn(4, 1, 28, 28, generator=draws(0))
    graph = reordered(model)
    order = [node.target for node in graph.graph.nodes if node.op == "call_module"]
    assert order[:2] == ["conv1", "pool"]
    assert isinstance(graph.get_submodule(order[2]), nn.ReLU)
    ours, theirs = graph(images), model(images)
    assert torch.equal(ours, theirs)
    theirs_and_ours = gradients(theirs, *model.parameters()), gradients(ours, *graph.parameters())
    for expected, found in zip(*theirs_and_ours, strict=True):
        assert torch.equal(found, expected)


def test_parameters_without_a_mask_stay_dense() -> None:
    small = compact(build_model("lenet5"), {}, sparse=(nn.Conv2d, nn.Linear))
    assert not any(isinstance(module, SparseConv2d | SparseLinear) for module in small.model.modules())
