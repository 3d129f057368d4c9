"""Any loss, inputs and batches: Hessians, traces and densities against the full matrix by autograd."""

import math
import random
from collections import namedtuple
from dataclasses import dataclass
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from sharpminima.analysis import (
    FisherVectorProduct,
    HessianVectorProduct,
    Plane,
    hessian_along_line,
    hessian_density,
    hessian_eigenvalues,
    hessian_trace,
    loss_barrier,
    loss_surface,
)
from sharpminima.analysis._loss import MeanLoss
from sharpminima.base.errors import AnalysisError
from sharpminima.base.stop import STOP, Stopped
from sharpminima.nets.masks import apply_masks

from . import cases

N = 10


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def full(model, loss_of):
    """The Hessian of what ``loss_of`` gives, in float64, row by row."""
    model.eval()
    parameters = list(model.parameters())
    gradient = torch.autograd.grad(loss_of(model), parameters, create_graph=True, materialize_grads=True)
    flat = torch.cat([part.flatten() for part in gradient])
    rows = [torch.autograd.grad(entry, parameters, retain_graph=True, materialize_grads=True) for entry in flat]
    return torch.stack([torch.cat([part.flatten() for part in row]) for row in rows])


@dataclass
class SearchResult:
    logits: Tensor
    ids: Tensor


Pair = namedtuple("Pair", "mean spread")


class Net(nn.Module):
    """Layers, and a function of them and the inputs."""

    def __init__(self, function, **layers):
        super().__init__()
        self.function = function
        for name, layer in layers.items():
            self.add_module(name, layer)

    def forward(self, *args, **kwargs):
        return self.function(self, *args, **kwargs)


def tabular(outputs=3):
    return nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, outputs))


@dataclass
class Case:
    build: object
    inputs: object
    targets: object
    criterion: object = None


labels = torch.arange(N) % 3
CASES = {
    "tabular": Case(tabular, drawn(N, 4), labels),
    "tokens": Case(
        lambda: nn.Sequential(nn.Embedding(6, 3), nn.Flatten(), nn.Tanh(), nn.Linear(12, 3)),
        torch.arange(4 * N).view(N, 4) % 6,
        labels,
    ),
    "segmentation": Case(
        lambda: nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.ReLU(), nn.Conv2d(2, 3, 1)),
        drawn(N, 1, 4, 4),
        (torch.arange(N * 16) % 3).view(N, 4, 4),
    ),
    "regression": Case(lambda: tabular(2), drawn(N, 4), drawn(N, 2, seed=1), nn.MSELoss()),
    "soft labels": Case(tabular, drawn(N, 4), drawn(N, 3, seed=1).softmax(1)),
    "multi-label": Case(tabular, drawn(N, 4), (drawn(N, 3, seed=1) > 0).double(), F.binary_cross_entropy_with_logits),
    "volumes": Case(
        lambda: nn.Sequential(nn.Conv3d(1, 2, 2), nn.ReLU(), nn.Flatten(), nn.Linear(16, 3)),
        drawn(N, 1, 3, 3, 3),
        labels,
    ),
    "two inputs": Case(
        lambda: Net(
            lambda net, a, b: net.out(torch.tanh(net.a(a) + net.b(b))),
            a=nn.Linear(4, 3),
            b=nn.Linear(2, 3),
            out=nn.Linear(3, 3),
        ),
        (drawn(N, 4), drawn(N, 2, seed=1)),
        labels,
    ),
    "inputs by name": Case(
        lambda: Net(
            lambda net, *, ids, mask: net.out((net.embed(ids) * mask[..., None]).sum(1)),
            embed=nn.Embedding(5, 3),
            out=nn.Linear(3, 3),
        ),
        {"ids": torch.arange(3 * N).view(N, 3) % 5, "mask": torch.ones(N, 3, dtype=torch.float64)},
        labels,
    ),
    "dictionary": Case(
        lambda: Net(lambda net, x: {"logits": net.net(x), "name": "x"}, net=tabular()),
        drawn(N, 4),
        labels,
        lambda outputs, y: F.cross_entropy(outputs["logits"], y),
    ),
    "tuple": Case(
        lambda: Net(lambda net, x: Pair(net.net(x), net.spread(x)), net=tabular(1), spread=nn.Linear(4, 1)),
        drawn(N, 4),
        drawn(N, 1, seed=1),
        lambda outputs, y: F.gaussian_nll_loss(outputs.mean, y, outputs.spread.exp()),
    ),
    "dataclass": Case(
        lambda: Net(lambda net, x: SearchResult(z := net.net(x), z.argmax(1)), net=tabular()),
        drawn(N, 4),
        {"class": labels, "weight": drawn(N, seed=2).exp()},
        lambda outputs, y: (F.cross_entropy(outputs.logits, y["class"], reduction="none") * y["weight"]).mean(),
    ),
}


def built(case):
    return cases.seeded(case.build, 1)


def called(net, inputs):
    return net(*inputs) if isinstance(inputs, tuple) else net(**inputs) if isinstance(inputs, dict) else net(inputs)


def mean_loss(case):
    criterion = case.criterion or F.cross_entropy
    return lambda net: criterion(called(net, case.inputs), case.targets)


def rows(value, start, stop):
    if isinstance(value, Tensor):
        return value[start:stop]
    if isinstance(value, dict):
        return {name: part[start:stop] for name, part in value.items()}
    return tuple(part[start:stop] for part in value)


def batches_of(case, edges=(0, 3, 4, N)):
    """Batches of unlike sizes."""
    return [(rows(case.inputs, a, b), rows(case.targets, a, b)) for a, b in pairwise(edges)]


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_products_are_those_of_the_full_hessian(name):
    case = CASES[name]
    net = built(case)
    expected = full(net, mean_loss(case))
    assert expected.norm() > 1e-3
    unit = torch.eye(len(expected), dtype=torch.float64)
    for data in ((case.inputs, case.targets), (batches_of(case),)):
        options = {} if len(data) == 1 else {"batch_size": 3}
        product = HessianVectorProduct(net, *data, criterion=case.criterion, **options)
        torch.testing.assert_close(product(unit), expected, rtol=0, atol=1e-12)
        torch.testing.assert_close(product(unit[0]), expected[0], rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", ["regression", "multi-label", "dictionary"])
def test_masks_and_scaling_of_any_loss(name):
    case = CASES[name]
    net = built(case)
    masks, kept = cases.random_masks(net, 0.6)
    kept = torch.from_numpy(kept)
    with torch.no_grad():
        for key, mask in masks.items():
            net.get_parameter(key).mul_(mask)
    weights = torch.cat([p.detach().flatten() for p in net.parameters()]).abs()
    expected = (weights[:, None] * full(net, mean_loss(case)) * weights)[kept][:, kept]
    product = HessianVectorProduct(net, batches_of(case), criterion=case.criterion, masks=masks, scaling="parameter")
    torch.testing.assert_close(product(torch.eye(len(expected)).double()), expected, rtol=0, atol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["regression", "two inputs"])
def test_eigenvalues_trace_and_density(name):
    case = CASES[name]
    net = built(case)
    hessian = full(net, mean_loss(case))
    values = torch.linalg.eigvalsh(hessian).flip(0)
    data, options = batches_of(case), {"criterion": case.criterion}
    found = hessian_eigenvalues(net, data, k=2, tol=1e-8, **options)
    torch.testing.assert_close(found.eigenvalues, values[:2], rtol=1e-6, atol=0)
    trace = hessian_trace(net, data, products=3 * len(hessian), **options)
    assert trace.trace == pytest.approx(float(hessian.trace()), rel=1e-9)
    density = hessian_density(net, data, probes=3, steps=len(hessian), **options)
    same = hessian_density(net, case.inputs, case.targets, probes=3, steps=len(hessian), **options)
    torch.testing.assert_close(density.nodes[:, -1], same.nodes[:, -1], rtol=1e-9, atol=0)
    assert float(density.nodes.max()) == pytest.approx(float(values[0]), rel=1e-6)


def penalised(net, batch):
    x, y = batch
    return F.mse_loss(net[2](torch.tanh(net[0](x))), y) + 0.1 * sum(p.square().sum() for p in net.parameters())


def test_a_loss_function_has_the_model_and_the_batch():
    case = CASES["regression"]
    net = built(case)
    with torch.no_grad():
        net[0].weight[1] = 0  # a smaller net would leave it, and its penalty, out
        net[0].bias[1] = 0
        net[2].weight[:, 1] = 0
    expected = full(net, lambda net: penalised(net, (case.inputs, case.targets)))
    for data in ((case.inputs, case.targets), (batches_of(case),)):
        product = HessianVectorProduct(net, *data, loss_fn=penalised)
        torch.testing.assert_close(product(torch.eye(len(expected)).double()), expected, rtol=0, atol=1e-12)


def test_batches_of_any_structure_and_samples_alone_go_to_a_loss_function():
    net, x = cases.seeded(lambda: nn.Sequential(nn.Linear(4, 2), nn.Tanh(), nn.Linear(2, 4))), drawn(N, 4)
    expected = full(net, lambda net: F.mse_loss(net(x), x))
    unit = torch.eye(len(expected)).double()
    alone = HessianVectorProduct(net, x, loss_fn=lambda net, batch: F.mse_loss(net(batch), batch), batch_size=4)
    torch.testing.assert_close(alone(unit), expected, rtol=0, atol=1e-12)
    named = [{"x": x[:7], "name": "first"}, {"x": x[7:], "name": "second"}]
    product = HessianVectorProduct(net, named, loss_fn=lambda net, batch: F.mse_loss(net(batch["x"]), batch["x"]))
    torch.testing.assert_close(product(unit), expected, rtol=0, atol=1e-12)


def test_a_loader_that_shuffles_is_read_in_one_order_and_leaves_the_random_state():
    case = CASES["regression"]
    net = built(case)
    loader = DataLoader(TensorDataset(case.inputs, case.targets), batch_size=4, shuffle=True, drop_last=True)
    torch.manual_seed(3)
    order = list(loader)
    torch.manual_seed(3)
    state = torch.get_rng_state()
    product = HessianVectorProduct(net, loader, criterion=nn.MSELoss())
    vector = torch.ones(product.dimension, dtype=torch.float64)
    first = product(vector)
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(5)  # what the caller draws between changes nothing
    assert torch.equal(product(vector), first)
    inputs, targets = (torch.cat(part) for part in zip(*order, strict=True))
    assert len(inputs) == 8
    expected = full(net, lambda net: F.mse_loss(net(inputs), targets))
    torch.testing.assert_close(first, expected @ vector, rtol=0, atol=1e-12)


class Restless:
    """Other batches every time, without torch's generator."""

    def __init__(self, case):
        self.case, self.draws = case, random.Random(0)

    def __iter__(self):
        yield self.case.inputs * self.draws.random(), self.case.targets


class Once:
    def __init__(self, batches):
        self.batches = iter(batches)

    def __iter__(self):
        yield from self.batches


def test_what_cannot_be_read_again_or_differs_is_refused():
    case = CASES["regression"]
    net, loader = built(case), DataLoader(TensorDataset(case.inputs, case.targets))
    for data, message in (
        ((batch for batch in batches_of(case)), "batches are a generator, which can be read once only.*give a list"),
        (iter(batches_of(case)), "a list_iterator, which can be read once only"),
        (Once(batches_of(case)), "can be read once only"),
        (Restless(case), "two passes over the batches differ: 10 and 10 samples"),
        (loader.dataset, "a TensorDataset, whose items are single samples; give a DataLoader of it"),
        ([], "there are no batches"),
        (7, "the data are a int; give tensors with targets, or batches"),
        ({"x": case.inputs}, "a dictionary without targets"),
        ([case.inputs], "a batch is a Tensor of 10; give pairs"),
        ([(case.inputs, case.inputs, case.targets)], r"a batch is a tuple of 3; give pairs \(inputs, targets\)"),
        ([("a", "b")], "a batch is a tuple without tensors"),
    ):
        with pytest.raises(AnalysisError, match=message):
            HessianVectorProduct(net, data, criterion=nn.MSELoss())
    with pytest.raises(AnalysisError, match="a batch size is for tensors"):
        HessianVectorProduct(net, loader, criterion=nn.MSELoss(), batch_size=3)
    ragged = [(case.inputs.float(), case.targets)]
    with pytest.raises(AnalysisError, match=r"the model cannot take inputs of \[4, 4\] torch.float32"):
        HessianVectorProduct(net, ragged, criterion=nn.MSELoss())


def mixing(net, x):
    return net.net(x - x.mean(0))


DRAWS = random.Random(0)
REFUSED = {
    "two losses": ({"criterion": F.mse_loss, "loss_fn": penalised}, "there are a criterion and a loss_fn"),
    "no function": ({"criterion": "mse"}, "criterion is a str; give a function"),
    "sum by its name": ({"criterion": nn.MSELoss(reduction="sum")}, "reduction is 'sum'; give one whose reduction is"),
    "sum": ({"criterion": lambda z, y: (z - y).square().sum()}, "gives the sum of the samples' losses; give their"),
    "a number a sample": ({"criterion": lambda z, y: (z - y).square().mean(1)}, r"criterion gives is of shape \[4\]"),
    "nothing": (
        {"criterion": lambda z, y: None},
        "what the criterion gives is a NoneType; give the mean over the samples",
    ),
    "a float": ({"criterion": lambda z, y: 3.0}, "criterion gives is a float; give the mean"),
    "failing": ({"criterion": lambda z, y: z @ y}, "the criterion cannot take outputs of"),
    "failing function": ({"loss_fn": lambda net, batch: batch["x"]}, "loss_fn fails on a batch of"),
    "of no parameter": ({"loss_fn": lambda net, batch: batch[0].mean()}, "depends on no parameter"),
    "detached": (
        {"criterion": lambda z, y: (z.detach() - y).square().mean()},
        "depends on no parameter of the model, .* must not leave autograd",
    ),
    "by chance": ({"criterion": lambda z, y: F.dropout(z - y).square().mean()}, "draws random numbers in eval mode"),
    "other every time": (
        {"criterion": lambda z, y: DRAWS.random() * (z - y).square().mean()},
        "the model or its loss gives other outputs for the same images in eval mode",
    ),
    "weights of rows": (
        {"criterion": lambda z, y: ((z - y).square().mean(1) * y[:, 0].exp()).sum() / y[:, 0].exp().sum()},
        "not the mean of its samples' losses .*weights of classes",
    ),
    "no criterion": ({}, r"labels are torch.float64|targets are .*; cross-entropy takes int64 class numbers"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_losses_that_do_not_go_are_refused_with_the_reason(what):
    options, message = REFUSED[what]
    case = CASES["regression"]
    with pytest.raises(AnalysisError, match=message):
        HessianVectorProduct(built(case), case.inputs, case.targets, **options)


def weighted_mean(net, weights, x, y):
    """What a criterion with weights of classes is of all samples at once, term by term."""
    terms = F.cross_entropy(net(x), y, reduction="none") * weights[y]
    return terms.sum() / weights[y].sum()


def test_sorted_samples_do_not_hide_that_a_loss_is_no_mean():
    """The first samples are of one class, and of the first batches too: their weights cancel."""
    net, x, y = cases.seeded(tabular, 1), drawn(300, 4), torch.arange(300) // 100
    weights = torch.tensor([1.0, 5.0, 25.0], dtype=torch.float64)
    weighted = nn.CrossEntropyLoss(weight=weights)
    by_batch = F.cross_entropy(net(x), y)  # of 50, each of one class
    assert abs(by_batch / weighted_mean(net, weights, x, y) - 1) > 0.03
    left_out = y.clone()
    left_out[-60:] = -100
    late = torch.zeros(300, 3, dtype=torch.float64)
    late[4:] = drawn(296, 3, seed=1)
    exact = Net(lambda net, x: net.net(x) * (x.abs().sum(1, keepdim=True) > 0), net=tabular())
    exact, zeros = exact.double(), torch.cat([torch.zeros(4, 4, dtype=torch.float64), x[4:]])
    for of, inputs, targets, criterion in (
        (net, x, y, weighted),
        (net, x, y, lambda z, y: F.cross_entropy(z, y, weight=weights)),
        (net, x, left_out, nn.CrossEntropyLoss()),
        (net, x, left_out, F.cross_entropy),
        (exact, zeros, late, lambda z, y: (z - y).square().sum()),
    ):
        for size in (None, 50, 300):
            with pytest.raises(AnalysisError, match="not the mean of its samples' losses"):
                HessianVectorProduct(of, inputs, targets, criterion=criterion, batch_size=size)
    with pytest.raises(AnalysisError, match="or a loss_fn that divides by the number of samples"):
        HessianVectorProduct(net, x, y, loss_fn=lambda net, batch: weighted(net(batch[0]), batch[1]))
    with pytest.raises(AnalysisError, match="not the mean of its samples' losses"):
        loss_barrier(net, cases.seeded(tabular, 2), x, y, points=3, criterion=weighted)
    batches = [(x[start : start + 75], y[start : start + 75]) for start in range(0, 300, 75)]
    with pytest.raises(AnalysisError, match="not the mean of its samples' losses"):
        FisherVectorProduct(net, batches, criterion=weighted)
    with pytest.raises(AnalysisError, match="gives the sum of the samples' losses"):
        HessianVectorProduct(exact, [(zeros, late)], criterion=lambda z, y: (z - y).square().sum())


def test_a_loss_that_is_a_mean_is_taken_whatever_it_is_made_of():
    """Weights that are alike, targets that each sample leaves out, terms that nearly cancel, a loss near zero."""
    net, x, y = cases.seeded(tabular, 1), drawn(40, 4), torch.arange(40) // 14
    alike = nn.CrossEntropyLoss(weight=torch.full((3,), 2.0, dtype=torch.float64))
    unit = torch.eye(sum(p.numel() for p in net.parameters()), dtype=torch.float64)
    expected = full(net, lambda net: F.cross_entropy(net(x), y))
    torch.testing.assert_close(HessianVectorProduct(net, x, y, criterion=alike)(unit), expected, rtol=0, atol=1e-12)
    pixels, images = nn.Conv2d(1, 3, 1).double(), drawn(40, 1, 2, 2)
    labels = torch.arange(160).view(40, 2, 2) % 3
    labels[:, 0, 0] = -100
    product = HessianVectorProduct(pixels, images, labels, criterion=nn.CrossEntropyLoss())
    expected = full(pixels, lambda net: F.cross_entropy(net(images), labels))
    torch.testing.assert_close(product(torch.eye(6, dtype=torch.float64)), expected, rtol=0, atol=1e-12)
    level = float(net(x).detach().mean())
    HessianVectorProduct(net.float(), x.float(), y, criterion=lambda z, y: (z - level).mean() + 0 * z.square().mean())
    line = nn.Linear(4, 2)
    targets = (line(x.float()) + 1e-6).detach()  # rounding is all that the loss holds
    HessianVectorProduct(line, x.float(), targets, loss_fn=lambda net, batch: F.mse_loss(net(batch[0]), batch[1]))


def test_torchs_own_means_take_no_pass_to_check():
    """Their loss is computed of few samples alone, as before; any other's of all."""
    x, y, seen = drawn(300, 4), torch.arange(300) % 3, []

    class Counted(nn.Linear):
        def forward(self, x):
            seen.append(len(x))
            return super().forward(x)

    net = Counted(4, 3).double()
    for targets, criterion, checked in (
        (y, nn.CrossEntropyLoss(label_smoothing=0.1), False),
        (y, F.cross_entropy, False),
        (drawn(300, 3).softmax(1), nn.CrossEntropyLoss(), False),
        (drawn(300, 3), nn.MSELoss(), False),
        (drawn(300, 3), lambda z, y: F.mse_loss(z, y), True),
        (y, nn.CrossEntropyLoss(weight=torch.ones(3).double()), True),
    ):
        seen.clear()
        MeanLoss(net, x, targets, criterion=criterion, batch_size=100)
        assert (max(seen), seen.count(100)) == ((100, 3) if checked else (4, 0))


def test_a_batch_whose_loss_is_not_finite_is_refused():
    net, x = cases.seeded(tabular, 1), drawn(12, 4)
    y = torch.tensor([0, 1, 2, 0, 1, 2, 0, 1, -100, -100, -100, -100])
    batches = [(x[:4], y[:4]), (x[4:8], y[4:8]), (x[8:], y[8:])]
    refused = pytest.raises(AnalysisError, match="the loss of a batch of 4 samples is nan; leave out a batch whose tar")
    with refused:
        hessian_eigenvalues(net, batches, k=1, criterion=nn.CrossEntropyLoss())
    with refused:
        loss_surface(net, cases.seeded(tabular, 2), batches, grid=(3, 1), criterion=nn.CrossEntropyLoss())
    hessian_eigenvalues(net, batches[:2], k=1, criterion=nn.CrossEntropyLoss())
    x[9] = float("nan")
    with pytest.raises(AnalysisError, match=r"the loss of a batch of 12 samples is nan; .*NaN and infinity in weights"):
        hessian_eigenvalues(net, x, x, k=1, loss_fn=lambda net, batch: net(batch[0]).square().mean())


def test_a_loss_that_uses_the_model_from_outside_is_refused():
    """Its weights would stand still there while those of copies are moved and differentiated."""
    net, other, x, y = cases.seeded(tabular, 1), cases.seeded(tabular, 2), drawn(N, 4), labels

    def decay(model):
        return 0.5 * sum(p.square().sum() for p in model.parameters())

    def outside(model):
        return {"criterion": lambda z, y: F.cross_entropy(z, y) + decay(model)}

    held = {"loss_fn": lambda model, batch: F.cross_entropy(net(batch[0]), batch[1])}
    for options in (outside(net), held):
        for data in ((x, y), ([(x, y)],)):
            with pytest.raises(
                AnalysisError, match=r"the loss uses the model from outside \(0.weight, .*take it from the"
            ):
                HessianVectorProduct(net, *data, **options)
    for own in (net, other):  # either end of a line
        with pytest.raises(AnalysisError, match="the loss uses the model from outside"):
            loss_barrier(net, other, x, y, points=3, **outside(own))
    frozen = cases.seeded(tabular, 1).requires_grad_(False)
    with pytest.raises(AnalysisError, match="the loss uses the model from outside"):
        HessianVectorProduct(frozen, x, y, **outside(frozen))
    assert not any(p.requires_grad for p in frozen.parameters())
    given = {"loss_fn": lambda model, batch: F.cross_entropy(model(batch[0]), batch[1]) + decay(model)}
    expected = full(net, lambda net: F.cross_entropy(net(x), y) + decay(net))
    unit = torch.eye(len(expected)).double()
    torch.testing.assert_close(HessianVectorProduct(net, x, y, **given)(unit), expected, rtol=0, atol=1e-12)
    far = loss_barrier(net, other, x, y, points=3, **given).loss[-1]
    assert float(far) == pytest.approx(float((F.cross_entropy(other(x), y) + decay(other)).detach()), rel=1e-12)


def test_a_loss_may_hold_other_nets_and_what_stands_still():
    net, teacher, x = cases.seeded(tabular, 1), cases.seeded(tabular, 2), drawn(N, 4)

    def still(model, batch):
        with torch.no_grad():
            before = net(batch)
        return F.mse_loss(model(batch), before) + F.mse_loss(model(batch), teacher(batch))

    fixed, taught = net(x).detach(), teacher(x).detach()
    expected = full(net, lambda net: F.mse_loss(net(x), fixed) + F.mse_loss(net(x), taught))
    product = HessianVectorProduct(net, x, loss_fn=still)
    torch.testing.assert_close(product(torch.eye(len(expected)).double()), expected, rtol=0, atol=1e-12)


def test_inputs_and_targets_that_do_not_go():
    case = CASES["regression"]
    net, mse = built(case), {"criterion": nn.MSELoss()}
    for data, message in (
        ((case.inputs[:3], case.targets), "there are 3 and 10 rows"),
        ((case.inputs, None), "there are no targets; give them behind the inputs"),
        ((case.inputs.tolist(), case.targets), "the inputs are a list; give a tensor, or a tuple or dictionary"),
        ((case.inputs, "y"), "the targets are a str without tensors"),
        ((case.inputs, torch.tensor(1.0)), "a tensor of the targets has no dimension"),
        ((case.inputs[:0], case.targets[:0]), "there are no samples"),
        ((case.inputs.to("meta"), case.targets), "the inputs are on the meta device"),
    ):
        with pytest.raises(AnalysisError, match=message):
            HessianVectorProduct(net, *data, **mse)
    pixels = CASES["segmentation"]
    with pytest.raises(AnalysisError, match="labels run from 0 to 3, but the model has the classes 0 to 2"):
        HessianVectorProduct(built(pixels), pixels.inputs, pixels.targets + (pixels.targets == 2))
    for loss in (
        {},
        {"criterion": F.cross_entropy},
        {"loss_fn": lambda net, batch: F.cross_entropy(net(batch[0]), batch[1])},
    ):
        for sizes in ((4, 0), (0, 4)):
            batches = [(pixels.inputs[:size], pixels.targets[:size]) for size in sizes]
            with pytest.raises(AnalysisError, match="a batch has no samples; leave it out"):
                HessianVectorProduct(built(pixels), batches, **loss)
    pair = CASES["tuple"]
    with pytest.raises(AnalysisError, match=r"output is a Pair; cross-entropy takes one tensor .*give a criterion"):
        HessianVectorProduct(built(pair), [(pair.inputs, pair.targets)])


def test_weights_that_torch_scales_in_each_pass_come_back():
    """Of an embedding with a largest norm; it is measured at the scaled ones, which its outputs are of."""

    def words(**options):
        embedding = nn.Embedding(6, 3, **options)
        return nn.Sequential(embedding, nn.Flatten(), nn.Tanh(), nn.Linear(12, 3))

    case = CASES["tokens"]
    net, target = (cases.seeded(lambda: words(max_norm=1.0), seed) for seed in (1, 2))
    before = [parameter.detach().clone() for each in (net, target) for parameter in each.parameters()]
    plain = cases.seeded(words, 1)
    with torch.no_grad():
        norms = plain[0].weight.norm(dim=1, keepdim=True)
        assert norms.max() > 1.1
        plain[0].weight.mul_(torch.where(norms > 1, 1 / norms, 1.0))
    expected = full(plain, mean_loss(case))
    unit = torch.eye(len(expected), dtype=torch.float64)
    loss = float(mean_loss(case)(plain).detach())
    for data in ((case.inputs, case.targets), (batches_of(case),)):
        torch.testing.assert_close(HessianVectorProduct(net, *data)(unit), expected, rtol=0, atol=1e-6)
        assert float(loss_barrier(net, target, *data, points=3).loss[0]) == pytest.approx(loss, rel=1e-6)
        hessian_along_line(net, target, *data, points=2, k=1)
    for parameter, values in zip([*net.parameters(), *target.parameters()], before, strict=True):
        assert torch.equal(parameter, values)


class Clipped(nn.Linear):
    def forward(self, x):
        self.weight.data.clamp_(-0.1, 0.1)
        return super().forward(x)


@pytest.mark.parametrize("shape", [(4,), (1, 2, 2)])
def test_nets_that_change_their_weights_are_refused_and_left_as_they_were(shape):
    net, x = nn.Sequential(nn.Flatten(), Clipped(4, 3)).double(), drawn(N, *shape)
    before = net[1].weight.detach().clone()
    for options in ({}, {"criterion": F.cross_entropy}):
        with pytest.raises(AnalysisError, match=r"changes its weights when it is run \(1.weight\).*parametrize"):
            HessianVectorProduct(net, x, labels, **options)
        with pytest.raises(AnalysisError, match="changes its weights when it is run"):
            loss_barrier(net, nn.Sequential(nn.Flatten(), Clipped(4, 3)).double(), x, labels, **options)
    assert torch.equal(net[1].weight, before)


def test_images_without_values_and_nets_without_weights_are_named():
    net, other, x = cases.mlp(0), cases.mlp(1), drawn(N, 1, 4, 3)
    x[7] = float("nan")
    with pytest.raises(AnalysisError, match=r"at the point \(0, 0\) .*the loss is nan; check the weights and the data"):
        loss_barrier(net, other, x, labels, points=3)
    with pytest.raises(AnalysisError, match="the model has no parameters; give one that has weights"):
        HessianVectorProduct(nn.Flatten(), drawn(N, 1, 1, 3), labels)


def test_nets_that_mix_samples_are_refused_also_with_batches():
    case = CASES["regression"]
    net = cases.seeded(lambda: Net(mixing, net=tabular(2)), 1)
    for data in ((case.inputs, case.targets), (batches_of(case, (0, 6, N)),)):
        with pytest.raises(AnalysisError, match="a sample's output depends on the other samples of its batch"):
            HessianVectorProduct(net, *data, criterion=nn.MSELoss())
    dropped = cases.seeded(lambda: Net(lambda net, x: F.dropout(net.net(x), 0.5), net=tabular(2)), 1)
    with pytest.raises(AnalysisError, match="draws random numbers in eval mode"):
        HessianVectorProduct(dropped, case.inputs, case.targets, criterion=nn.MSELoss())


def test_losses_of_batches_may_weigh_their_rows():
    net, x = cases.seeded(tabular, 1), drawn(N, 4)
    weighted = nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0, 5.0], dtype=torch.float64))
    expected = full(net, lambda net: (weighted(net(x[:6]), labels[:6]) * 6 + weighted(net(x[6:]), labels[6:]) * 4) / N)
    product = HessianVectorProduct(net, [(x[:6], labels[:6]), (x[6:], labels[6:])], criterion=weighted)
    torch.testing.assert_close(product(torch.eye(len(expected)).double()), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("streamed", [False, True])
def test_precision_asked_for_and_coarse_nets(streamed):
    case = CASES["two inputs"]
    net = built(case).float()
    inputs = tuple(part.float() for part in case.inputs)
    data = ([(inputs, case.targets)],) if streamed else (inputs, case.targets)
    exact = full(built(case), lambda net: F.cross_entropy(net(*(part.double() for part in inputs)), labels))
    product = HessianVectorProduct(net, *data, dtype=torch.float64)
    torch.testing.assert_close(product(torch.eye(len(exact)).double()), exact, rtol=0, atol=1e-6)
    coarse = tuple(part.bfloat16() for part in inputs)
    data = ([(coarse, case.targets)],) if streamed else (coarse, case.targets)
    assert HessianVectorProduct(net.bfloat16(), *data).rounding == torch.finfo(torch.float32).eps


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_losses_of_coarse_nets_are_computed_in_float32(dtype):
    """Whatever the data are: what the nets give is theirs, and no loss of it is rounded, or too large for them."""
    net, other, x = (part.to(dtype) for part in (built(CASES["regression"]), tabular(2), drawn(600, 4)))
    y, classes = (40 * drawn(600, 2, seed=1)).to(dtype), torch.arange(600) % 2
    hot = F.one_hot(classes, 2).to(dtype)
    for criterion, targets in (
        (nn.MSELoss(), y),
        (lambda z, y: F.mse_loss(z, y), y),
        (F.cross_entropy, classes),
        (F.cross_entropy, hot),
        (None, classes),
    ):
        loss_of = criterion or F.cross_entropy
        targets_of = targets.float() if targets.is_floating_point() else targets
        with torch.no_grad():
            expected = [float(loss_of(each(x).float(), targets_of)) for each in (net, other)]
        for data in ((x, targets), ([(x[:100], targets[:100]), (x[100:], targets[100:])],)):
            barrier = loss_barrier(net, other, *data, points=3, criterion=criterion)
            assert barrier.loss[[0, -1]].tolist() == pytest.approx(expected, rel=1e-5)
    large = loss_barrier(net, other, [(x, y)], points=3, loss_fn=lambda net, batch: F.mse_loss(net(batch[0]), batch[1]))
    assert float(large.loss[0]) == pytest.approx(float(F.mse_loss(net(x).float(), y.float()).detach()), rel=1e-2)
    HessianVectorProduct(net, x, y, loss_fn=lambda net, batch: F.mse_loss(net(batch[0]), batch[1]))  # it is a mean


def between(net, other, x):
    middle = built(CASES["regression"])
    with torch.no_grad():
        for ours, first, last in zip(middle.parameters(), net.parameters(), other.parameters(), strict=True):
            ours.copy_(first + x * (last - first))
    return middle.eval()


@pytest.mark.parametrize("way", ["criterion", "batches", "loss_fn"])
def test_surface_barrier_and_line_of_any_loss(way):
    case = CASES["regression"]
    center, target = built(case), cases.seeded(case.build, 2)
    data, options, loss_of = {
        "criterion": ((case.inputs, case.targets), {"criterion": nn.MSELoss()}, mean_loss(case)),
        "batches": ((batches_of(case),), {"criterion": nn.MSELoss()}, mean_loss(case)),
        "loss_fn": (
            (case.inputs, case.targets),
            {"loss_fn": penalised},
            lambda net: penalised(net, (case.inputs, case.targets)),
        ),
    }[way]
    expected = [float(loss_of(between(center, target, x)).detach()) for x in (0.0, 0.5, 1.0)]
    surface = loss_surface(center, target, *data, grid=(3, 1), span=(0.0, 1.0), **options)
    assert list(surface.values) == ["loss"]
    assert surface.values["loss"][0].tolist() == pytest.approx(expected, rel=1e-12)
    assert surface.center_values == {"loss": pytest.approx(expected[0], rel=1e-12)}
    barrier = loss_barrier(center, target, *data, points=3, **options)
    assert barrier.barrier == pytest.approx(max(0, expected[1] - (expected[0] + expected[2]) / 2), rel=1e-9)
    assert barrier.error.isnan().all()
    assert all(math.isnan(value) for value in (barrier.error_barrier, barrier.error_barrier_at, barrier.instability))
    line = hessian_along_line(center, target, *data, points=3, k=1, tol=1e-8, **options)
    values = [torch.linalg.eigvalsh(full(between(center, target, x), loss_of))[-1] for x in (0.0, 0.5, 1.0)]
    torch.testing.assert_close(line.eigenvalues[:, 0], torch.stack(values), rtol=1e-6, atol=0)


def test_a_masked_surface_of_batches_and_what_it_cannot_measure():
    case = CASES["regression"]
    center, target = built(case), cases.seeded(case.build, 2)
    masks = {"0.weight": torch.ones(5, 4), "0.bias": torch.ones(5), "2.weight": torch.ones(2, 5)}
    masks["0.weight"][1], masks["0.bias"][1], masks["2.weight"][:, 1] = 0, 0, 0
    for net in (center, target):
        apply_masks(net, masks)
    options = {"criterion": nn.MSELoss(), "masks": masks, "grid": (3, 2)}
    found = loss_surface(center, target, batches_of(case), **options)
    plane = Plane(center, target, masks=masks)
    for row, y in enumerate(found.y.tolist()):
        for column, x in enumerate(found.x.tolist()):
            by_hand = float(mean_loss(case)(plane.model_at(x, y).eval()).detach())
            assert float(found.values["loss"][row, column]) == pytest.approx(by_hand, rel=1e-12)
    with pytest.raises(AnalysisError, match=r"error, psp_norm are measured of images .*give measures=\('loss',\)"):
        loss_surface(center, target, batches_of(case), measures=("loss", "error", "psp_norm"), **options)


@pytest.mark.slow
@pytest.mark.parametrize("measure", [loss_surface, hessian_along_line])
def test_a_resume_file_of_another_loss_or_other_data_is_not_gone_on_from(measure, tmp_path):
    case = CASES["regression"]
    center, target = built(case), cases.seeded(case.build, 2)
    sizes = {"grid": (3, 1)} if measure is loss_surface else {"points": 3, "k": 1}

    def stopped_after_one(done, _):
        if done == 1:
            STOP.raised = True

    def seen(criterion, data):
        steps = []
        measure(
            center, target, data, criterion=criterion, resume=file, progress=lambda done, _: steps.append(done), **sizes
        )
        return steps

    others = [(inputs * 2, targets) for inputs, targets in batches_of(case)]
    for criterion, data, begins in (
        (nn.MSELoss(), batches_of(case), 2),
        (nn.HuberLoss(delta=0.5), batches_of(case), 1),
        (nn.MSELoss(), others, 1),
    ):
        file = tmp_path / "resume.safetensors"
        try:
            with pytest.raises(Stopped):
                measure(
                    center,
                    target,
                    batches_of(case),
                    criterion=nn.MSELoss(),
                    resume=file,
                    progress=stopped_after_one,
                    **sizes,
                )
        finally:
            STOP.raised = False
        assert seen(criterion, data)[0] == begins
