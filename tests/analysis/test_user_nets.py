"""Nets, images and masks as users give them: the right value, or one error that says what is wrong."""

import math
import re
from threading import Thread

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from sharpminima.analysis import (
    HessianVectorProduct,
    Plane,
    PspEntropyMetric,
    hessian_along_line,
    hessian_density,
    hessian_diagonal,
    hessian_eigenvalues,
    hessian_trace,
    loss_barrier,
    loss_surface,
    loss_surface_around,
    preactivations,
    psp_entropy,
    psp_statistics,
)
from sharpminima.base.errors import AnalysisError, SharpminimaError
from sharpminima.base.stop import STOP, Stopped
from sharpminima.nets.masks import apply_masks
from sharpminima.nets.models import build_model
from sharpminima.training import PspEntropy

from . import cases
from .idioms import Of, Tied, convolutional, samples, tokens, transformer

MEASURES = {
    "eigenvalues": lambda net, x, y: hessian_eigenvalues(net, x, y, k=2).eigenvalues,
    "trace": lambda net, x, y: torch.tensor(hessian_trace(net, x, y, products=6).trace),
    "density": lambda net, x, y: hessian_density(net, x, y, probes=2, steps=2).nodes,
    "entropy": lambda net, x, y: torch.tensor(psp_entropy(net, x, y, order=2).mean),
    "surface": lambda net, x, y: loss_surface(net, other(net), x, y, grid=(3, 1)).values["psp_norm"],
    "barrier": lambda net, x, y: loss_barrier(net, other(net), x, y, points=3).loss,
    "line": lambda net, x, y: hessian_along_line(net, other(net), x, y, points=2, k=1).eigenvalues,
}


def usual(seed=0):
    return cases.seeded(lambda: convolutional(nn.BatchNorm2d(4), nn.ReLU()), seed)


def other(net):
    target = usual(1)
    with torch.no_grad():
        for ours, its in zip(target.parameters(), net.parameters(), strict=True):
            ours.copy_(its.detach() * 0.5)
    return target.to(next(net.parameters()).dtype)


def masked_hessian(model, images, labels, masks):
    kept = torch.cat([masks.get(n, torch.ones(p.shape)).flatten().bool() for n, p in model.named_parameters()])
    return torch.from_numpy(cases.full_hessian(model, images, labels))[kept][:, kept]


@pytest.mark.parametrize("layer", ["conv1.weight", "conv2.weight", "fc1.weight", "fc2.weight"])
def test_a_layer_without_survivors(layer):
    model = build_model("lenet5", seed=0).double()
    draw = torch.Generator().manual_seed(0)
    masks = {
        n: torch.rand(p.shape, generator=draw) < (0.0 if n == layer else 0.002)
        for n, p in model.named_parameters()
        if p.ndim > 1
    }
    apply_masks(model, masks)
    images, labels = cases.data_for("lenet5", 6)
    product = HessianVectorProduct(model, images.double(), labels, masks=masks)
    hessian_product = double_backward(model, images.double(), labels, product)
    torch.testing.assert_close(product(hessian_product.vectors), hessian_product.found, rtol=1e-9, atol=1e-14)


class double_backward:
    def __init__(self, model, images, labels, product):
        draw = torch.Generator().manual_seed(1)
        self.vectors = torch.randn(2, product.dimension, generator=draw, dtype=torch.float64)
        parameters = list(model.eval().parameters())
        gradient = torch.autograd.grad(F.cross_entropy(model(images), labels), parameters, create_graph=True)
        flat = torch.cat([part.flatten() for part in gradient])
        rows = [torch.autograd.grad(flat @ v, parameters, retain_graph=True) for v in product.expand(self.vectors)]
        whole = torch.stack([torch.cat([part.flatten() for part in row]) for row in rows])
        self.found = whole[:, product._survivors]


def test_survivors_on_dead_paths_have_no_curvature():
    net = cases.seeded(lambda: nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3)))
    images, labels = samples()
    nn.init.zeros_(net[0].weight)
    masks = {"0.weight": torch.zeros(4, 1, 3, 3)}
    expected = masked_hessian(net, images, labels, masks)
    product = HessianVectorProduct(net, images, labels, masks=masks)
    torch.testing.assert_close(product(torch.eye(len(expected)).double()), expected, rtol=0, atol=1e-13)
    found = hessian_eigenvalues(net, images, labels, k=1, masks=masks)
    assert float(found.eigenvalues[0]) == pytest.approx(float(torch.linalg.eigvalsh(expected)[-1]), rel=1e-6)
    line = hessian_along_line(net, shifted(net), images, labels, k=1, points=2, masks=masks)
    assert float(line.eigenvalues[0, 0]) == pytest.approx(float(found.eigenvalues[0]), rel=1e-6)


def shifted(net):
    target = cases.seeded(lambda: nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3)))
    nn.init.zeros_(target[0].weight)
    nn.init.ones_(target[3].bias)
    return target


@pytest.mark.parametrize("measures", [("loss",), ("loss", "psp_norm", "psp_entropy_1")])
@pytest.mark.parametrize("masked", [False, True])
def test_surfaces_of_nets_that_take_one_layout_and_call_relus_by_function(masked, measures):
    def build():
        block = Of(lambda net, x: F.relu(net.conv(x)), conv=nn.Conv2d(1, 4, 3, 2))
        return Of(lambda net, x: net.out(net.block(x).view(x.size(0), -1)), block=block, out=nn.Linear(16, 3))

    center, target = cases.seeded(build, 0), cases.seeded(build, 1)
    images, labels = samples()
    masks = {"block.conv.weight": torch.ones(4, 1, 3, 3).index_fill(0, torch.tensor([1]), 0.0)} if masked else None
    for net in (center, target):
        apply_masks(net, masks or {})
    found = loss_surface(center, target, images, labels, grid=(3, 2), masks=masks, measures=measures)
    plane = Plane(center, target, masks=masks)
    for row, y in enumerate(found.y.tolist()):
        for column, x in enumerate(found.x.tolist()):
            statistics = psp_statistics(plane.model_at(x, y), images, labels)
            entropy = statistics.entropy()
            by_hand = {"loss": statistics.evaluation.loss, "psp_norm": entropy.norm, "psp_entropy_1": entropy.mean}
            for name in measures:
                assert float(found.values[name][row, column]) == pytest.approx(by_hand[name], rel=1e-12)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_products_of_coarse_nets_are_computed_in_float32(dtype):
    net, (images, labels) = usual().to(dtype), samples()
    found = hessian_eigenvalues(net, images.to(dtype), labels, k=3)
    expected = hessian_eigenvalues(net.float(), images.to(dtype).float(), labels, k=3)
    assert torch.equal(found.eigenvalues, expected.eigenvalues)
    with pytest.raises(AnalysisError, match=f"{dtype} is too coarse for products; give torch.float32"):
        hessian_eigenvalues(net, images.float(), labels, dtype=dtype)


def test_nets_that_compute_in_less_whatever_their_weights_are_have_no_products():
    net = Of(lambda net, x: net.out(x.flatten(1).bfloat16()), out=nn.Linear(36, 3).bfloat16())
    images, labels = samples()
    lowered = Of(lambda own, x: own.net(x.float()).bfloat16(), net=nn.Sequential(nn.Flatten(), nn.Linear(36, 3)))
    for model in (net, lowered):
        with pytest.raises(AnalysisError, match=r"computes in torch.bfloat16, too coarse|cannot take images"):
            hessian_eigenvalues(model, images.float(), labels)


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize(
    "mode",
    [
        torch.no_grad,
        torch.inference_mode,
        lambda: torch.set_grad_enabled(False),
        lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    ],
    ids=["no_grad", "inference", "set_grad_enabled", "autocast"],
)
def test_modes_of_the_caller_change_nothing(measure, mode):
    net, (images, labels) = usual().float(), samples()
    images = images.float()
    expected = MEASURES[measure](net, images, labels)
    with mode():
        assert torch.equal(MEASURES[measure](net, images, labels), expected)


@pytest.mark.parametrize("measure", MEASURES)
def test_what_was_made_in_inference_mode_or_has_a_graph(measure):
    net, (images, labels) = usual(), samples()
    expected = MEASURES[measure](net, images, labels)
    assert torch.equal(MEASURES[measure](net, images.clone().requires_grad_() * 1.0, labels), expected)
    with torch.inference_mode():
        made, images, labels = usual(), images.clone(), labels.clone()
    assert torch.equal(MEASURES[measure](made, images, labels), expected)


class Noisy(nn.Module):
    def __init__(self):
        super().__init__()
        self.out, self.calls = nn.Linear(36, 3), 0

    def forward(self, x):
        self.calls += 1
        return self.out(F.relu(x.flatten(1))) * (1 + self.calls % 2)


IN_PLACE = "changes its images in place, so the measure would see other images"


class Interrupted(nn.Module):
    """Another thread draws from torch's generator in its first passes."""

    def __init__(self, draws):
        super().__init__()
        self.out, self.draws = nn.Linear(36, 3), draws

    def forward(self, x):
        if self.draws > 0:
            self.draws -= 1
            thread = Thread(target=torch.rand, args=(1,))
            thread.start()
            thread.join()
        return self.out(F.relu(x.flatten(1)))


@pytest.mark.parametrize("measure", ["eigenvalues", "entropy"])
def test_draws_of_another_thread_do_not_refuse_a_net(measure):
    draws = 3  # the first trial of a measure, its repetition, and the next trial
    net = cases.seeded(lambda: Interrupted(draws), 0)
    found = MEASURES[measure](net, *samples())
    assert net.draws == 0
    assert torch.equal(found, MEASURES[measure](cases.seeded(lambda: Interrupted(0), 0), *samples()))


def test_draws_of_another_thread_do_not_refuse_a_loss_of_ones_own():
    x, y = samples()
    net = cases.seeded(lambda: Interrupted(2), 0)
    assert hessian_eigenvalues(net, x, y, k=1, criterion=nn.CrossEntropyLoss()).converged.all()
    with pytest.raises(AnalysisError, match="the model or its loss draws random numbers in eval mode"):
        hessian_eigenvalues(Interrupted(10**6).double(), x, y, k=1, criterion=nn.CrossEntropyLoss())


def test_losses_of_ones_own_must_leave_what_they_take():
    (x, y), net = samples(), usual()
    before = x.clone()
    with pytest.raises(AnalysisError, match=f"the model or its loss {IN_PLACE}"):
        hessian_eigenvalues(
            net, [(x, y)], k=1, loss_fn=lambda net, batch: F.cross_entropy(net(batch[0].mul_(0.5)), batch[1])
        )
    halving = Of(lambda net, x: net.out(F.relu(x.mul_(0.5)).flatten(1)), out=nn.Linear(36, 3)).double()
    with pytest.raises(AnalysisError, match=IN_PLACE):
        hessian_eigenvalues(halving, x, y, k=1, criterion=nn.CrossEntropyLoss())
    assert torch.equal(x, before)


REFUSED = {
    "in place": (lambda: Of(lambda net, x: net.out(F.relu(x.mul_(0.5)).flatten(1)), out=nn.Linear(36, 3)), IN_PLACE),
    "always drawing": (lambda: Interrupted(10**6), "the model draws random numbers in eval mode"),
    "dropout": (
        lambda: Of(lambda net, x: net.out(F.dropout(F.relu(x.flatten(1)), 0.5)), out=nn.Linear(36, 3)),
        "random",
    ),
    "state": (Noisy, "gives other outputs for the same images in eval mode"),
    "statistics of the batch": (
        lambda: convolutional(nn.BatchNorm2d(4, track_running_stats=False), nn.ReLU()),
        r"depends on the other images of its batch.*track_running_stats=True",
    ),
    "mean of the batch": (
        lambda: Of(lambda net, x: net.out(F.relu(x - x.mean(0)).flatten(1)), out=nn.Linear(36, 3)),
        "depends on the other images",
    ),
    "sequence first": (lambda: transformer(batch_first=False), "depends on the other images.*batch_first"),
    "tuple": (lambda: Of(lambda net, x: (net.out(F.relu(x.flatten(1))), x), out=nn.Linear(36, 3)), "output is a tuple"),
    "dictionary": (lambda: Of(lambda net, x: {"y": net.out(x.flatten(1))}, out=nn.Linear(36, 3)), "output is a dict"),
    "failing": (lambda: Of(lambda net, x: {}["lost"], out=nn.Linear(36, 3)), r"cannot take images .*\('lost'\)"),
    "parallel": (lambda: nn.DataParallel(usual()), "is a DataParallel; give the net inside, its .module"),
    "meta": (lambda: usual().to("meta"), "0.weight of the model is on the meta device"),
    "lazy": (lambda: nn.Sequential(nn.Flatten(), nn.LazyLinear(3)), "1.weight of the model has no shape yet"),
    "no module": (lambda: F.relu, "the model is a function; give a torch.nn.Module"),
}


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize("what", REFUSED)
def test_nets_that_cannot_be_measured_are_refused_with_the_reason(what, measure):
    build, message = REFUSED[what]
    net = build()
    net = net.double() if isinstance(net, nn.Module) else net
    measures = {
        **MEASURES,
        "surface": lambda net, x, y: loss_surface(net, usual(), x, y),
        "barrier": lambda net, x, y: loss_barrier(net, usual(), x, y),
        "line": lambda net, x, y: hessian_along_line(net, net, x, y),
    }
    if measure == "line":
        pytest.skip("takes two nets that differ")
    state = torch.get_rng_state()
    with pytest.raises(AnalysisError, match=message):
        measures[measure](net, *samples())
    if what not in ("dropout", "always drawing"):
        assert torch.equal(torch.get_rng_state(), state)


MATRICES = {
    **MEASURES,
    "fisher": lambda net, x, y: hessian_eigenvalues(net, x, y, k=2, matrix="fisher").eigenvalues,
    "gauss-newton": lambda net, x, y: hessian_eigenvalues(net, x, y, k=2, matrix="gauss_newton").eigenvalues,
    "diagonal": lambda net, x, y: hessian_diagonal(net, x, y, probes=2).diagonal,
    "fisher diagonal": lambda net, x, y: hessian_diagonal(net, x, y, matrix="fisher").diagonal,
    "gauss-newton diagonal": lambda net, x, y: hessian_diagonal(net, x, y, matrix="gauss_newton").diagonal,
    "criterion": lambda net, x, y: torch.tensor(
        hessian_trace(net, x, y, products=6, criterion=nn.CrossEntropyLoss()).trace
    ),
    "batches": lambda net, x, y: hessian_eigenvalues(net, [(x, y)], k=1, matrix="fisher").eigenvalues,
}


@pytest.mark.parametrize("measure", MATRICES)
def test_a_net_in_training_mode_is_measured_in_eval_mode_and_left_as_it_was(measure):
    net, (images, labels) = usual(), samples()
    expected = MATRICES[measure](net.eval(), images, labels)
    before = {name: value.clone() for name, value in net.train().state_dict().items()}
    state = torch.get_rng_state()
    assert torch.equal(MATRICES[measure](net, images, labels), expected)
    assert all(module.training for module in net.modules())
    assert torch.equal(torch.get_rng_state(), state)
    for name, value in net.state_dict().items():
        assert torch.equal(value, before[name]), name


class Counting(nn.Module):
    """Counts its passes and notes what it has seen, in eval mode, too, as observers of quantisation do."""

    def __init__(self):
        super().__init__()
        self.net = usual()
        self.register_buffer("passes", torch.zeros((), dtype=torch.int64))
        self.register_buffer("highest", torch.zeros(()).double())

    def forward(self, x):
        self.passes += 1  # the same tensor
        self.highest = torch.maximum(self.highest, x.detach().max())  # another one
        return self.net(x)


@pytest.mark.parametrize("measure", MEASURES)
def test_buffers_that_a_net_writes_come_back(measure):
    net, end, (images, labels) = Counting(), Counting(), samples()
    end.net = other(net)
    measures = {
        **MEASURES,
        "surface": lambda net, x, y: loss_surface(net, end, x, y, grid=(3, 1)).values["psp_norm"],
        "barrier": lambda net, x, y: loss_barrier(net, end, x, y, points=3).loss,
        "line": lambda net, x, y: hessian_along_line(net, end, x, y, points=2, k=1).eigenvalues,
    }
    held = dict(net.named_buffers())
    before = {name: buffer.clone() for name, buffer in held.items()}
    found = measures[measure](net, images, labels)
    # Sums of one and the same size differ in bits where tensors lie otherwise in memory, on some machines.
    torch.testing.assert_close(found, MEASURES[measure](usual(), images, labels), rtol=0, atol=1e-10)
    for name, buffer in net.named_buffers():
        assert buffer is held[name]
        assert torch.equal(buffer, before[name]), name


WEIGHTS = {
    "integer": (
        lambda: nn.Parameter(torch.tensor([3]), requires_grad=False),
        "is torch.int64, which has no derivatives; hold it as a buffer",
    ),
    "complex": (lambda: nn.Parameter(torch.ones(2, dtype=torch.complex64)), "is torch.complex64; hold its real and"),
    "sparse": (lambda: nn.Parameter(torch.eye(3).to_sparse()), r"is sparse \(torch.sparse_coo\); hold it dense"),
    "rows": (lambda: nn.Parameter(torch.eye(3).to_sparse_csr()), r"is sparse \(torch.sparse_csr\)"),
}


@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support is in beta")
@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize("kind", WEIGHTS)
def test_weights_without_real_derivatives_are_refused(kind, measure):
    build, message = WEIGHTS[kind]
    if measure == "line":
        measure = "barrier"  # of the same plane
    nets = [usual(), usual(1)]
    for net in nets:
        net.register_parameter("extra", build())
    measures = {
        **MEASURES,
        "surface": lambda net, x, y: loss_surface(net, nets[1], x, y),
        "barrier": lambda net, x, y: loss_barrier(net, nets[1], x, y, points=3),
    }
    with pytest.raises(AnalysisError, match=f"parameter extra of the (model|center) {message}"):
        measures[measure](nets[0], *samples())


def test_a_net_without_parameters_has_nothing_to_vary():
    net, (images, labels) = nn.Flatten(), samples()
    labels = labels % 36
    for measure in (hessian_eigenvalues, hessian_trace, hessian_density):
        with pytest.raises(AnalysisError, match="the model has no parameters; give one that has weights"):
            measure(net, images, labels)
    for measure in (loss_surface, loss_barrier, hessian_along_line):
        with pytest.raises(AnalysisError, match="the model has no parameters; there is no plane"):
            measure(net, nn.Flatten(), images, labels)


def test_a_mask_under_the_second_name_of_a_weight_is_refused_with_the_reason():
    net = cases.seeded(Tied)
    masks = {name: torch.ones_like(weight) for name, weight in net.state_dict().items()}
    with pytest.raises(AnalysisError, match=r"masks for third.weight, which .* under several names has one mask"):
        hessian_eigenvalues(net, *samples(), k=1, masks=masks)
    del masks["third.weight"]
    assert hessian_eigenvalues(net, *samples(), k=1, masks=masks).converged.all()


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning", "ignore::FutureWarning")
def test_compiled_and_quantised_nets_are_refused():
    images, labels = samples()
    images = images.float()
    net = usual().float()
    scripted = torch.jit.trace(net.eval(), images)
    quantised = torch.ao.quantization.quantize_dynamic(net, {nn.Linear}, dtype=torch.qint8)
    for model, message in ((scripted, "is compiled"), (quantised, "module 4 of the model is quantised")):
        for measure in (hessian_eigenvalues, psp_entropy):
            with pytest.raises(AnalysisError, match=message):
                measure(model, images, labels)


def test_data_that_are_no_tensors_or_elsewhere():
    net, (images, labels) = usual(), samples()
    for x, y, message in (
        (images.numpy(), labels, "the images are a ndarray; give a tensor"),
        (images.tolist(), labels, "the images are a list; give a tensor"),
        (images, labels.tolist(), "the labels are a list"),
        (images.to("meta"), labels, "the images are on the meta device"),
        (images, labels.to("meta"), "the labels are on the meta device"),
    ):
        for measure in (hessian_eigenvalues, psp_entropy):
            with pytest.raises(AnalysisError, match=message):
                measure(net, x, y)


@pytest.mark.parametrize(
    ("measure", "options", "message"),
    [
        (hessian_eigenvalues, {"k": 2.0}, "k is 2.0; give a whole number"),
        (hessian_eigenvalues, {"k": None}, "k is None"),
        (hessian_eigenvalues, {"tol": "small"}, "tol is 'small'; give a number"),
        (hessian_eigenvalues, {"block_size": 1.5}, "block_size is 1.5; give a whole number"),
        (hessian_eigenvalues, {"seed": "a"}, "seed is 'a'; give a whole number"),
        (hessian_eigenvalues, {"masks": [1]}, "the masks are a list; give a dictionary"),
        (hessian_eigenvalues, {"masks": {"0.weight": [1]}}, "the mask of 0.weight is a list; give a tensor"),
        (hessian_eigenvalues, {"dtype": "float32"}, "computed in 'float32'; give torch.float32"),
        (hessian_eigenvalues, {"k": True}, "k is True; give a whole number"),
        (hessian_eigenvalues, {"tol": "1e-4"}, "tol is '1e-4'; give a number"),
        (hessian_eigenvalues, {"tol": True}, "tol is True; give a number"),
        (hessian_eigenvalues, {"memory": "1e9"}, "memory is '1e9'; give a number"),
        (hessian_eigenvalues, {"memory": math.nan}, "memory is nan; give a finite number"),
        (hessian_eigenvalues, {"memory": math.inf}, "memory is inf; give a finite number"),
        (hessian_eigenvalues, {"graphs": "1e6"}, "graphs is '1e6'; give a number"),
        (hessian_eigenvalues, {"graphs": math.nan}, "graphs is nan; give a finite number"),
        (hessian_eigenvalues, {"batch_size": True}, "batch_size is True; give a whole number"),
        (hessian_eigenvalues, {"basis": "float32"}, "the basis is 'float32'; give torch.float32"),
        (hessian_eigenvalues, {"parameters": 5}, "parameters are 5; give a name, or names"),
        (hessian_eigenvalues, {"matrix": ["h"]}, "there is no matrix ['h']; there are hessian"),
        (hessian_eigenvalues, {"resume": 5}, "the resume file is 5; give a path"),
        (hessian_diagonal, {"probes": "60"}, "probes is '60'; give a whole number"),
        (hessian_trace, {"memory": math.nan}, "memory is nan; give a finite number"),
        (hessian_density, {"sigma": "0.1"}, "sigma is '0.1'; give a number"),
        (hessian_density, {"sigma": math.inf}, "sigma is inf; give a finite number"),
        (hessian_trace, {"products": 6.0}, "products is 6.0"),
        (hessian_density, {"probes": 2.5}, "probes is 2.5"),
        (hessian_density, {"sigma": "wide"}, "sigma is 'wide'"),
        (psp_entropy, {"batch_size": 2.5}, "batch_size is 2.5"),
        (psp_entropy, {"order": 3, "samples": 2.5}, "samples is 2.5"),
        (psp_entropy, {"activations": "gelu"}, "activations are 'gelu'; there are 'relu' and 'all'"),
    ],
)
def test_numbers_that_are_none(measure, options, message):
    with pytest.raises(SharpminimaError, match=re.escape(message)):
        measure(usual(), *samples(), **options)


@pytest.mark.parametrize(
    ("measure", "options", "message"),
    [
        (loss_surface, {"grid": 5}, "grid is 5; give two numbers"),
        (loss_surface, {"grid": (2.0, 1)}, "grid is 2.0; give a whole number"),
        (loss_surface, {"span": (0, "a")}, "span is 'a'; give a number"),
        (loss_surface, {"span": ("0", "1")}, "span is '0'; give a number"),
        (loss_surface, {"save_every_s": "3"}, "save_every_s is '3'; give a number"),
        (loss_surface, {"measures": "energy"}, "there is no measure energy"),
        (loss_surface, {"measures": [5]}, "there is no measure 5; there are loss"),
        (loss_surface, {"measures": 5}, "measures are 5; give names, of loss"),
        (hessian_along_line, {"resume": "state", "tol": "1e-4"}, "tol is '1e-4'"),
        (hessian_along_line, {"resume": "state", "scaling": object}, "there is no scaling"),
        (hessian_along_line, {"resume": "state", "memory": math.nan}, "memory is nan"),
        (loss_surface, {"activations": 3}, "activations are 3"),
        (loss_barrier, {"points": 5.0}, "points is 5.0"),
        (hessian_along_line, {"points": "two"}, "points is 'two'"),
    ],
)
def test_numbers_of_two_nets_that_are_none(measure, options, message):
    with pytest.raises(AnalysisError, match=re.escape(message)):
        measure(usual(), other(usual()), *samples(), **options)


def test_what_is_no_tensor_is_named(tmp_path):
    net, (images, labels) = usual(), samples()
    first, array = next(iter(dict(net.named_parameters()))), np.ones(3)
    for call, message in (
        (
            lambda: hessian_along_line(net, other(net), images.numpy(), labels, resume=tmp_path / "state"),
            "images are a",
        ),
        (lambda: HessianVectorProduct(net, images, labels) @ array, "what the matrix is multiplied with is a ndarray"),
        (lambda: HessianVectorProduct(net, images, labels).flatten({first: array}), f"direction of {first} is a ndarr"),
        (lambda: loss_surface_around(net, images, labels, directions=[{first: array}], grid=(3, 1)), "is a ndarray"),
        (lambda: preactivations(net, images.numpy()), "the images are a ndarray; give a tensor"),
        (lambda: preactivations(net, images, batch_size=0), "batch_size is 0; give at least 1"),
    ):
        with pytest.raises(AnalysisError, match=message):
            call()


def test_numbers_of_numpy_are_as_good_as_those_of_python(tmp_path, monkeypatch):
    net, (images, labels) = usual(), samples()
    one, two = np.int64(1), np.int64(2)
    calls = {
        "eigenvalues": lambda **more: hessian_eigenvalues(
            net, images, labels, k=one, seed=one, block_size=one, batch_size=two, tol=np.float32(1e-3), **more
        ),
        "diagonal": lambda **more: hessian_diagonal(net, images, labels, probes=two, seed=one, batch_size=two, **more),
        "trace": lambda **more: hessian_trace(net, images, labels, products=np.int64(6), batch_size=two, **more),
        "density": lambda **more: hessian_density(
            net, images, labels, probes=two, steps=two, points=two, sigma=np.float32(0.1), batch_size=two, **more
        ),
        "entropy": lambda **more: psp_entropy(
            net, images, labels, order=two, batch_size=two, seed=one, by_class=True, **more
        ),
        "surface": lambda **more: loss_surface(
            net, other(net), images, labels, grid=(np.int64(3), 1), seed=one, batch_size=two, **more
        ),
        "barrier": lambda **more: loss_barrier(net, other(net), images, labels, points=np.int64(3), **more),
        "line": lambda **more: hessian_along_line(
            net, other(net), images, labels, points=two, k=one, max_iterations=np.int64(20), batch_size=two, **more
        ),
    }
    for name, call in calls.items():
        monkeypatch.setattr(STOP, "raised", False)
        stop = lambda done, most: monkeypatch.setattr(STOP, "raised", True)  # noqa: E731
        if name != "trace":  # whose file is written in a product that stops
            with pytest.raises(Stopped):
                call(resume=tmp_path / name, progress=stop)
        monkeypatch.setattr(STOP, "raised", False)
        found = call(resume=tmp_path / name)
        found.save(tmp_path / f"{name}.safetensors")
        assert str(type(found).load(tmp_path / f"{name}.safetensors")) == str(found)


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int64, torch.float32, torch.float16, torch.float64])
def test_masks_of_any_dtype(dtype):
    center, (images, labels) = usual(), samples()
    masks = {"0.weight": torch.tensor([1.0, -0.0, 1.0, 0.0]).view(4, 1, 1, 1).expand(4, 1, 3, 3).to(dtype)}
    apply_masks(center, masks)
    target = other(center)
    expected = masked_hessian(center, images, labels, masks)
    product = HessianVectorProduct(center, images, labels, masks=masks)
    torch.testing.assert_close(product(torch.eye(len(expected)).double()), expected, rtol=0, atol=1e-13)
    plain = {"0.weight": masks["0.weight"].bool()}
    found, same = (loss_surface(center, target, images, labels, masks=m, grid=(2, 2)) for m in (masks, plain))
    assert torch.equal(found.values["psp_entropy_2"], same.values["psp_entropy_2"])


def test_a_vector_of_another_length_is_refused():
    product = HessianVectorProduct(usual(), *samples())
    size = product.dimension
    for vector in (torch.ones(2 * size), torch.ones(size - 1), torch.ones(1, 1, size), torch.ones(()), [1.0] * size):
        with pytest.raises(AnalysisError, match=rf"vectors are .*; give a tensor \[{size}\] or \[b, {size}\]"):
            product(vector)
    one = torch.ones(size, requires_grad=True)
    assert torch.equal(product(one), product(torch.ones(size, dtype=torch.float64)))
    assert product(torch.ones(0, size)).shape == (0, size)


def activated(*layers):
    return cases.seeded(lambda: nn.Sequential(nn.Flatten(), nn.Linear(36, 5), *layers, nn.Linear(5, 3)))


class Custom(nn.Module):
    def forward(self, z):
        return torch.relu(z) + 0.1 * torch.sin(z)


RELUS = {
    "clamp": lambda z: z.clamp(min=0),
    "clamp with a place": lambda z: torch.clamp(z, 0),
    "clamp_": lambda z: z.clamp_(min=0.0),
    "clip": lambda z: torch.clip(z, 0, 9),
    "clamp_min": lambda z: z.clamp_min(0),
    "relu6": F.relu6,
    "hardtanh": lambda z: F.hardtanh(z, 0.0, 2.0),
    "threshold": lambda z: F.threshold(z, 0, 0),
    "aten": torch.ops.aten.relu,
    "an overload of aten": torch.ops.aten.relu.default,
    "clamp of aten": lambda z: torch.ops.aten.clamp_min(z, 0),
    "clamp with a tensor": lambda z: z.clamp(min=torch.tensor(0.0)),
}


@pytest.mark.parametrize("relu", RELUS)
def test_relus_by_another_name(relu):
    (images, labels), linear = samples(), activated(nn.ReLU())
    net = Of(lambda net, x: net.net[3](RELUS[relu](net.net[1](x.flatten(1)))), net=linear)
    ((layers, _),) = preactivations(net, images)
    assert len(layers) == 1
    torch.testing.assert_close(next(iter(layers.values())), linear[1](images.flatten(1)).detach())
    assert psp_entropy(net, images, labels).mean == psp_entropy(linear, images, labels).mean
    ((named, _),) = preactivations(activated(nn.ReLU6()), images)
    assert list(named) == ["2"]


def test_clamps_that_are_no_relu_do_not_count():
    net = Of(lambda net, x: net.net(x.clamp(-1, 1).clamp_min(-0.5).clamp(max=0.9)), net=activated(nn.ReLU()))
    ((layers, _),) = preactivations(net, samples()[0])
    assert list(layers) == ["net.2"]


@pytest.mark.parametrize("layer", [nn.RNN, nn.RNNCell, nn.LSTM, nn.LSTMCell, nn.GRU, nn.GRUCell])
@pytest.mark.parametrize("activations", ["relu", "all"])
def test_recurrent_layers_are_named_as_left_out(layer, activations):
    def forward(net, x):
        rows = x.flatten(1) if issubclass(layer, nn.RNNCellBase) else x.flatten(1)[:, None]
        out = net.layer(rows)
        return net.net((out[0] if isinstance(out, tuple) else out).flatten(1))

    options = {} if issubclass(layer, nn.RNNCellBase) else {"batch_first": True}
    if layer in (nn.RNN, nn.RNNCell):
        options["nonlinearity"] = "relu"
    net, (images, labels) = Of(forward, layer=layer(36, 36, **options), net=activated(nn.ReLU())).double(), samples()
    with pytest.warns(UserWarning, match=rf"activations within layer\.\w+ \({layer.__name__}\) do not count"):
        assert psp_entropy(net, images, labels, activations=activations).neurons == {"net.2": 5}


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_functions_that_are_compiled_are_named():
    net, (images, labels) = Of(lambda net, x: net.net(net.act(x)), net=activated(nn.ReLU())), samples()
    net.act = torch.jit.trace(F.relu, images[:2])
    for measure in (psp_entropy, lambda net, x, y: PspEntropy(net, classes=3)):
        with pytest.raises(AnalysisError, match="act of the model is a function that is compiled, so its ReLUs cannot"):
            measure(net, images, labels)


def gated(net, x):
    return net.net(x) * F.relu(net.gate(x.flatten(1)).squeeze(1))[:, None]


def test_a_relu_of_one_value_an_image_is_one_neuron():
    (images, labels), gate = samples(), cases.seeded(lambda: nn.Linear(36, 1), 1)
    net = Of(gated, net=activated(nn.ReLU()), gate=gate)
    for options in ({}, {"by_class": True}, {"order": 2}):
        assert psp_entropy(net, images, labels, **options).neurons == {"net.2": 5, "relu": 1}
    z = gate(images.flatten(1)).detach()
    expected = psp_entropy(
        Of(lambda net, x: net.out(net.gate(x.flatten(1)).relu()), gate=gate, out=nn.Linear(1, 3).double()),
        images,
        labels,
    )
    assert torch.equal(psp_entropy(net, images, labels).per_neuron["relu"], expected.per_neuron["relu"])
    ((layers, _),) = preactivations(net, images)
    assert torch.equal(layers["relu"], z)


@pytest.mark.parametrize(
    "bound",
    [
        lambda net, x: net.net(x) * net.scale.clamp(0, 4.6).exp() + F.relu(net.scale) + F.gelu(net.scale),
        lambda net, x: net.net(x) + (x.flatten(1).long() - 1).clamp(min=0).sum(1, keepdim=True),
        lambda net, x: net.net(x) * net.bound.clamp(min=0).sum(),
    ],
    ids=["a single number", "integers", "a parameter"],
)
@pytest.mark.parametrize("activations", ["relu", "all"])
def test_what_is_bounded_but_no_neuron_does_not_count(bound, activations):
    (images, labels), net = samples(), Of(bound, net=activated(nn.ReLU()))
    net.scale = nn.Parameter(torch.tensor(1.5, dtype=torch.float64))
    net.bound = nn.Parameter(torch.ones(len(images), 2, dtype=torch.float64))
    found = psp_entropy(net, images, labels, activations=activations)
    assert found.neurons == {"net.2": 5}
    assert found.mean == psp_entropy(net.net, images, labels).mean


def test_a_chosen_module_of_integers_is_named():
    net = Of(
        lambda net, x: net.net(x + net.embedding(x.flatten(1).long().clamp(0, 2)).mean((1, 2)).view(-1, 1, 1, 1)),
        net=activated(nn.ReLU()),
        embedding=nn.Embedding(3, 2),
    ).double()
    with pytest.raises(AnalysisError, match=r"module embedding takes no floating point but torch\.int64, so it has no"):
        psp_entropy(net, *samples(), activations=lambda module: isinstance(module, nn.Embedding))


def test_activations_that_are_left_out_are_named():
    net, (images, labels) = activated(nn.ReLU(), nn.Linear(5, 5), nn.GELU(), nn.Linear(5, 5), nn.SiLU()), samples()
    with pytest.warns(UserWarning, match=r"left out are those of 4 \(GELU\), 6 \(SiLU\) \(activations=\"all\""):
        found = psp_entropy(net, images, labels)
    assert list(found.neurons) == ["2"]
    with pytest.raises(AnalysisError, match=r"no ReLU runs .*those of 2 \(GELU\) count with activations=\"all\""):
        psp_entropy(activated(nn.GELU()), images, labels)


@pytest.mark.parametrize(
    "measure",
    [
        lambda *data: psp_entropy(*data),
        lambda *data: psp_entropy(*data, order=2, by_class=True),
        lambda *data: psp_statistics(*data),
        lambda net, *data: PspEntropyMetric(net, batch_size=3).update(*data),
        lambda net, x, _: list(preactivations(net, x)),
    ],
)
def test_what_is_left_out_is_said_once_a_call_and_at_the_caller(measure):
    net, data = activated(nn.ReLU(), nn.Linear(5, 5), nn.GELU()), samples()
    with pytest.warns(UserWarning, match="left out are those of 4") as said:
        measure(net, *data)
    assert [each.filename for each in said] == [__file__]


@pytest.mark.parametrize(
    "layer",
    [nn.LeakyReLU(), nn.GELU(), nn.SiLU(), nn.Tanh(), nn.Sigmoid(), nn.ELU(), nn.Mish(), nn.PReLU(), nn.Softplus()],
)
def test_other_activations_count_by_the_sign_of_what_enters_them(layer):
    net, (images, labels) = activated(layer), samples()
    found = psp_entropy(net, images, labels, activations="all")
    with torch.no_grad():
        expected = psp_entropy(activated(nn.ReLU()), images, labels)
    assert list(found.neurons) == ["2"]
    assert torch.equal(found.per_neuron["2"], expected.per_neuron["2"])
    assert found.norm == expected.norm
    surface = loss_surface(net, scaled(net), images, labels, grid=(3, 1), span=(0, 1), activations="all")
    assert surface.center_values["psp_entropy_1"] == found.mean


def scaled(net):
    target = activated(type(net[2])())
    with torch.no_grad():
        for parameter in target.parameters():
            parameter.mul_(0.5)
    return target


def test_modules_that_a_predicate_chooses():
    net, (images, labels) = activated(Custom(), nn.Linear(5, 5), nn.ReLU()), samples()
    found = psp_entropy(net, images, labels, activations=lambda module: isinstance(module, Custom))
    assert list(found.neurons) == ["2", "4"]  # the ReLU within does not count beside the whole
    by_name = psp_entropy(activated(nn.ReLU()), images, labels)
    assert torch.equal(found.per_neuron["2"], by_name.per_neuron["2"])


def test_the_relu_of_a_transformer_is_seen():
    net = cases.seeded(lambda: transformer(batch_first=True))
    images, _ = samples()
    ((layers, _),) = preactivations(net, images)
    assert {name: z.shape[1] for name, z in layers.items()} == {"layer.relu": 9 * 6}
    assert torch.backends.mha.get_fastpath_enabled()
    net.eval()
    layer = net.layer
    attended = layer.norm1(tokens(images) + layer.self_attn(*[tokens(images)] * 3, need_weights=False)[0])
    torch.testing.assert_close(layers["layer.relu"], layer.linear1(attended).flatten(1).detach())


def test_eigenvalues_of_a_net_with_a_hook_are_those_of_what_it_computes():
    net, (images, labels) = usual(), samples()
    net.register_forward_hook(lambda *call: call[-1] * 4)
    hooked = hessian_eigenvalues(net, images, labels, k=1, tol=1e-8).eigenvalues[0]
    expected = np.linalg.eigvalsh(cases.full_hessian(net, images, labels))[-1]
    assert float(hooked) == pytest.approx(expected, rel=1e-6)


def test_frozen_parameters_count_unless_others_are_chosen():
    net, (images, labels) = usual(), samples()
    whole = HessianVectorProduct(net, images, labels)
    net[0].requires_grad_(False)
    frozen = HessianVectorProduct(net, images, labels)
    vector = torch.ones(whole.dimension)
    assert torch.equal(frozen(vector), whole(vector))
    assert not any(parameter.requires_grad for parameter in net[0].parameters())
    trainable = [name for name, parameter in net.named_parameters() if parameter.requires_grad]
    chosen = HessianVectorProduct(net, images, labels, parameters=trainable)
    rest = torch.cat([torch.full((p.numel(),), p.requires_grad) for p in net.parameters()])
    assert chosen.dimension == int(rest.sum()) < whole.dimension
    expected = torch.from_numpy(cases.full_hessian(net.requires_grad_(), images, labels))[rest][:, rest]
    torch.testing.assert_close(chosen(torch.eye(len(expected)).double()), expected, rtol=0, atol=1e-13)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("scaling", [None, "parameter"])
def test_a_weight_of_minus_zero_is_zero(scaling, masked):
    images, labels = samples()
    products = []
    for zero in (0.0, -0.0):
        net = usual()
        with torch.no_grad():
            net[0].weight[1] = zero  # a filter that is removed
            net[0].bias[1] = zero
            net[-1].weight[:, 4:8] = zero
            net[-1].weight[0, 0] = zero
        masks = {"0.weight": torch.ones(4, 1, 3, 3).index_fill(0, torch.tensor([1]), zero)} if masked else None
        product = HessianVectorProduct(net, images, labels, masks=masks, scaling=scaling)
        products.append(product(torch.eye(product.dimension).double()))
    assert torch.equal(*products)
    assert products[0].norm() > 1e-3


def test_masks_may_remove_a_layer_but_not_all():
    net, (images, labels) = usual(), samples()
    none = {name: torch.zeros_like(parameter) for name, parameter in net.named_parameters()}
    with pytest.raises(AnalysisError, match="no parameter survives; there is nothing to analyse"):
        HessianVectorProduct(net, images, labels, masks=none)
    layer = {name: mask for name, mask in none.items() if name.startswith("0.")}
    expected = masked_hessian(net, images, labels, layer)
    product = HessianVectorProduct(net, images, labels, masks=layer)
    torch.testing.assert_close(product(torch.eye(len(expected)).double()), expected, rtol=0, atol=1e-13)


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")
def test_checkpoints_of_the_first_layers_have_a_gradient_or_are_refused():
    class Checkpointed(nn.Module):
        def __init__(self, reentrant):
            super().__init__()
            self.first, self.out, self.reentrant = nn.Linear(12, 6), nn.Linear(6, 3), reentrant

        def forward(self, images):
            features = checkpoint(lambda x: torch.tanh(self.first(x)), images.flatten(1), use_reentrant=self.reentrant)
            return self.out(features)

    images, labels = cases.data(8)
    usual = cases.seeded(lambda: Checkpointed(False))
    product = HessianVectorProduct(usual, images, labels)
    assert product(torch.ones(product.dimension, dtype=torch.float64)).abs()[:78].min() > 0
    with pytest.raises(AnalysisError, match=r"no second derivatives .*None of the inputs have requires_grad"):
        HessianVectorProduct(cases.seeded(lambda: Checkpointed(True)), images, labels)
