"""What shows beyond the first samples of the data, or beside the usual layers: right, or one error that names it."""

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from sharpminima.analysis import (
    FisherVectorProduct,
    GaussNewtonVectorProduct,
    HessianVectorProduct,
    hessian_diagonal,
    hessian_eigenvalues,
    hessian_trace,
    loss_barrier,
)
from sharpminima.base.errors import AnalysisError

from . import cases


def drawn(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def linear() -> nn.Module:
    return cases.seeded(lambda: nn.Linear(6, 3))


def padded() -> tuple[nn.Module, Tensor, Tensor]:
    """A net over tokens of which 0 is padding, and samples of which the first few have none."""
    draws = torch.Generator().manual_seed(3)
    tokens = torch.randint(1, 9, (40, 5), generator=draws)
    tokens[4:, 2:] = 0
    net = cases.seeded(
        lambda: nn.Sequential(
            nn.Embedding(9, 3, padding_idx=0), nn.Flatten(), nn.Linear(15, 4), nn.Tanh(), nn.Linear(4, 2)
        )
    )
    with torch.no_grad():
        net[0].weight[0] = 0.3  # where it is zero, little of what is forgotten shows
    return net.double(), tokens, torch.randint(2, (40,), generator=draws)


@pytest.mark.parametrize("negative", [False, True])
@pytest.mark.parametrize("operator", [HessianVectorProduct, GaussNewtonVectorProduct, FisherVectorProduct])
def test_the_row_of_padding_is_a_constant(operator: type[HessianVectorProduct], negative: bool) -> None:
    """As for torch's backward pass, also where no padding is among the samples that show which ways there are."""
    net, tokens, labels = padded()
    if negative:
        net[0].padding_idx = -9
    product = operator(net, tokens, labels)
    matrix = product(torch.eye(product.dimension, dtype=torch.float64))
    assert torch.allclose(matrix, matrix.T, atol=1e-12)
    assert matrix[:3].abs().max() == 0
    last_first = operator(net, tokens.flip(0), labels.flip(0))
    assert torch.allclose(matrix, last_first(torch.eye(product.dimension, dtype=torch.float64)), atol=1e-12)
    single = torch.stack([product(row) for row in torch.eye(product.dimension, dtype=torch.float64)])
    assert torch.allclose(matrix, single, atol=1e-12)


def test_eigenvalues_of_a_net_with_padding_converge() -> None:
    net, tokens, labels = padded()
    assert hessian_eigenvalues(net, tokens, labels, k=4).converged.all()


class Training(nn.Module):
    """Keeps its BatchNorm in training mode, as layer or as function; of one image it mixes none."""

    def __init__(self, function: bool) -> None:
        super().__init__()
        self.conv, self.norm, self.out = nn.Conv2d(1, 3, 2), nn.BatchNorm2d(3), nn.Linear(27, 3)
        self.function = function

    def train(self, mode: bool = True) -> "Training":
        super().train(mode)
        self.norm.train()
        return self

    def forward(self, x: Tensor) -> Tensor:
        z = self.conv(x)
        if self.function:
            z = F.batch_norm(z, self.norm.running_mean, self.norm.running_var, training=True)
        else:
            z = self.norm(z)
        return self.out(z.flatten(1))


@pytest.mark.parametrize("function", [False, True])
@pytest.mark.parametrize("images", [1, 9])
def test_statistics_that_a_net_takes_in_eval_mode_too_come_back(function: bool, images: int) -> None:
    net = cases.seeded(lambda: Training(function))
    before = copy.deepcopy(net.state_dict())
    x, y = drawn(images, 1, 4, 4), torch.zeros(images, dtype=torch.int64)
    if images == 1:
        hessian_eigenvalues(net, x, y, k=1)
    else:
        with pytest.raises(AnalysisError, match="depends on the other images"):
            hessian_eigenvalues(net, x, y, k=1)
    for name, value in net.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_a_loss_that_sets_the_mode_leaves_statistics_as_they_were() -> None:
    net, end = (cases.seeded(lambda: nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3)), seed) for seed in (0, 1))
    before = [copy.deepcopy(model.state_dict()) for model in (net, end)]

    def loss(model: nn.Module, batch: Tensor) -> Tensor:
        return model.train()(batch[0]).square().mean()

    batches = [(drawn(8, 4),)]
    hessian_eigenvalues(net, batches, loss_fn=loss, k=1)
    loss_barrier(net, end, batches, loss_fn=loss, points=3)
    for model, held in zip((net, end), before, strict=True):
        assert model.training
        for name, value in model.state_dict().items():
            assert torch.equal(value, held[name]), name


class Autoencoder(nn.Module):
    """Its decoder's weight is its encoder's."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.decoder = nn.Linear(4, 4), nn.Linear(4, 4)
        self.decoder.weight = self.encoder.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.decoder(torch.tanh(self.encoder(x)))


@pytest.mark.parametrize(
    ("chosen", "same"),
    [("decoder", ["encoder.weight", "decoder.bias"]), ("decoder.weight", ["encoder.weight"]), ("encoder", ["encoder"])],
)
def test_a_tied_weight_is_chosen_by_any_of_its_names(chosen: str, same: list[str]) -> None:
    net, x = cases.seeded(Autoencoder), drawn(9, 4)
    of = {
        key: hessian_eigenvalues(net, x, x, criterion=nn.MSELoss(), k=1, parameters=names)
        for key, names in (("alias", chosen), ("names", same))
    }
    assert of["alias"].dimension == of["names"].dimension == 16 + 4 * (len(same) == 2 or chosen == "encoder")
    assert torch.equal(of["alias"].eigenvalues, of["names"].eigenvalues)


def test_both_ends_of_a_zero_matrix_have_vectors_of_their_own() -> None:
    x, y = drawn(23, 6), drawn(23, 3)
    found = hessian_eigenvalues(linear(), x, y, criterion=nn.L1Loss(), k=4, which="BE")
    assert found.eigenvalues.abs().max() == 0
    assert torch.allclose(found.eigenvectors @ found.eigenvectors.T, torch.eye(4, dtype=torch.float64), atol=1e-6)


def test_weights_of_classes_are_taken_in_the_dtype_of_the_products() -> None:
    criterion = nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0, 0.5]))
    net, batches = linear().float(), [(drawn(8, 6).float(), torch.arange(8) % 3)]
    wide = hessian_eigenvalues(net, batches, criterion=criterion, k=2, dtype=torch.float64)
    usual = hessian_eigenvalues(net, batches, criterion=criterion, k=2)
    assert torch.allclose(wide.eigenvalues, usual.eigenvalues, rtol=1e-5)
    assert criterion.weight.dtype == torch.float32


def test_what_cannot_be_had_in_the_dtype_of_the_products_is_named() -> None:
    weight = torch.ones(3)
    batches = [(drawn(8, 6).float(), torch.arange(8) % 3)]
    with pytest.raises(AnalysisError, match=r"fails on a batch of 4 samples \(expected scalar type"):
        hessian_eigenvalues(
            linear().float(),
            batches,
            criterion=lambda outputs, targets: F.cross_entropy(outputs, targets, weight=weight),
            k=1,
            dtype=torch.float64,
        )


def embedding() -> nn.Module:
    return nn.Sequential(nn.Embedding(9, 3), nn.Flatten(), nn.Linear(15, 2))


def moved(net: nn.Module) -> nn.Module:
    """A net of other weights."""
    end = copy.deepcopy(net)
    with torch.no_grad():
        for parameter in end.parameters():
            parameter += 1
    return end


BAD = {
    "token": (embedding, lambda: torch.full((40, 5), 8).index_fill(0, torch.tensor([20]), 99), None),
    "label": (linear, lambda: drawn(40, 6), nn.CrossEntropyLoss()),
}
MEASURES = {
    "eigenvalues": lambda net, *data, **loss: hessian_eigenvalues(net, *data, k=1, **loss),
    "trace": lambda net, *data, **loss: hessian_trace(net, *data, products=6, **loss),
    "diagonal": lambda net, *data, **loss: hessian_diagonal(net, *data, matrix="gauss_newton", **loss),
    "barrier": lambda net, *data, **loss: loss_barrier(net, moved(net), *data, **loss),
}


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize("bad", BAD)
def test_a_sample_far_behind_that_does_not_go_is_named(measure: str, bad: str) -> None:
    build, inputs, criterion = BAD[bad]
    labels = torch.zeros(40, dtype=torch.int64)
    if bad == "label":
        labels[20] = 7
    net = build()
    with pytest.raises(AnalysisError, match=r"fails on a batch of \d+ samples|cannot take (inputs|outputs)"):
        MEASURES[measure](net, inputs(), labels, criterion=criterion)


class Focal(nn.BCEWithLogitsLoss):
    """A loss of one's own, which makes a mean of what torch's gives for each sample."""

    def __init__(self) -> None:
        super().__init__(reduction="none")

    def forward(self, outputs: Tensor, targets: Tensor) -> Tensor:
        each = super().forward(outputs, targets)
        return ((1 - torch.exp(-each)) * each).mean()


def test_a_loss_of_ones_own_may_average_what_torchs_gives_for_each_sample() -> None:
    x, y = drawn(12, 6), (drawn(12, 3) > 0).double()
    net = linear()
    found = hessian_eigenvalues(net, x, y, criterion=Focal(), k=1)
    same = hessian_eigenvalues(net, x, y, criterion=lambda outputs, targets: Focal()(outputs, targets), k=1)
    assert torch.equal(found.eigenvalues, same.eigenvalues)
    with pytest.raises(AnalysisError, match="reduction is 'none'"):
        hessian_eigenvalues(net, x, y, criterion=nn.BCEWithLogitsLoss(reduction="none"), k=1)


class Gaussian(nn.Linear):
    def forward(self, x: Tensor) -> torch.distributions.Normal:
        return torch.distributions.Normal(super().forward(x), 1.0)


def test_an_output_without_tensors_is_named_with_the_way_out() -> None:
    net, x, y = Gaussian(6, 3).double(), drawn(8, 6), drawn(8, 3)
    with pytest.raises(AnalysisError, match=r"output, a Normal, has no real floating point tensor .* give a loss_fn"):
        hessian_eigenvalues(net, x, y, criterion=lambda given, targets: -given.log_prob(targets).mean(), k=1)
    batches = [(x, y)]
    found = hessian_eigenvalues(net, batches, loss_fn=lambda m, b: -m(b[0]).log_prob(b[1]).mean(), k=1)
    usual = linear()
    usual.load_state_dict(net.state_dict())
    half = hessian_eigenvalues(usual, x, y, criterion=nn.MSELoss(), k=1)  # of squares, not their halves
    assert torch.allclose(found.eigenvalues, half.eigenvalues / 2, rtol=1e-5)


@pytest.mark.parametrize("name", ["memory", "graphs"])
def test_bytes_are_not_negative(name: str) -> None:
    x, y = drawn(8, 6), drawn(8, 3)
    with pytest.raises(AnalysisError, match=f"{name} is -5; give at least 0"):
        hessian_eigenvalues(linear(), x, y, criterion=nn.MSELoss(), k=1, **{name: -5})


def test_a_loader_with_a_generator_of_its_own_gives_the_same_but_for_rounding() -> None:
    data = TensorDataset(drawn(23, 6), torch.arange(23) % 3)
    loader = DataLoader(data, batch_size=5, shuffle=True, generator=torch.Generator().manual_seed(0))
    net = linear()
    first, again = (hessian_eigenvalues(net, loader, k=2).eigenvalues for _ in range(2))
    assert torch.allclose(first, again, rtol=1e-9)
