"""What a loop of one's own may do to PSP-entropy: NaN, narrow layers, compiling, checkpoints, labels, failures."""

import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from sharpminima.base.errors import TrainingError
from sharpminima.nets.preactivations import capture_preactivations
from sharpminima.training import PspEntropy
from sharpminima.training.soft_entropy import SoftEntropy, _Classes


def net(*widths: int) -> nn.Sequential:
    """Linear layers of these widths, with ReLUs between them."""
    layers: list[nn.Module] = []
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        for inputs, outputs in pairwise(widths):
            layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def batch(count: int = 30, seed: int = 1) -> tuple[Tensor, Tensor]:
    return torch.randn(count, 4, generator=torch.Generator().manual_seed(seed)), torch.arange(count) % 3


def value(entropy: PspEntropy, model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    with entropy.of(labels) as found:
        model(images)
    return found.mean()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("rare", [0, 10, 20])
def test_a_mini_batch_of_nan_leaves_no_trace(order: int, rare: int, dtype: torch.dtype) -> None:
    model, (images, labels) = net(4, 8, 5, 3).to(dtype), batch()
    images = images.to(dtype)
    one_nan, later = images + 2, images + 2
    one_nan[4] = torch.nan
    disturbed, plain = (PspEntropy(model, classes=3, order=order, rare=rare) for _ in range(2))
    assert value(disturbed, model, images * torch.nan, labels).isnan()  # as the first, before anything is known
    for few in (images, images[:7]):
        expected = value(plain, model, few, labels[: len(few)])
        assert expected.isfinite()
        assert torch.equal(value(disturbed, model, few, labels[: len(few)]), expected)
        assert value(disturbed, model, images * torch.nan, labels).isnan()
        assert value(disturbed, model, one_nan, labels).isnan()
        with pytest.MonkeyPatch.context() as patch:  # NaN behind the first ReLU alone
            patch.setattr(model[2], "forward", lambda hidden: torch.full_like(hidden[:, :5], torch.nan))
            assert value(disturbed, model, later, labels).isnan()


def test_of_several_nets_the_one_with_nan_alone_is_left_out() -> None:
    entropy, alone = (SoftEntropy(3, neurons=4) for _ in range(2))
    z, labels = torch.randn(2, 30, 4, generator=torch.Generator().manual_seed(0)), torch.arange(30) % 3
    for rows in (z, torch.stack([z[0], z[1] * torch.nan]), z[:, :7]):
        several = entropy.over(labels[: rows.shape[1]].expand(2, -1))
        several.add(rows)
        several.end()
        single = alone.over(labels[None, : rows.shape[1]])
        single.add(rows[:1])
        single.end()
        assert torch.equal(several.mean()[0], single.mean()[0])
    assert several.mean().isfinite().all()
    assert entropy.state()["seen"][0].sum(-1).tolist() == [67, 37]


@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")
@pytest.mark.parametrize("narrow", [0, 1])
def test_a_layer_without_pairs_before_another_one(narrow: int) -> None:
    model, (images, labels) = net(4, narrow, 6, 3), batch()
    nn.init.ones_(model[2].bias)  # without inputs torch makes it 0
    for order in (1, 2):
        entropy = PspEntropy(model, classes=3, order=order)
        first, again = (value(entropy, model, images, labels).item() for _ in range(2))
        assert again == pytest.approx(first)
        assert first > 0


class Gated(nn.Module):
    """A net with a ReLU of one value an image, and with a clamped number."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden, self.gate, self.scale = nn.Linear(4, 6), nn.Linear(6, 1), nn.Parameter(torch.tensor(1.5))

    def forward(self, images: Tensor) -> Tensor:
        hidden = torch.relu(self.hidden(images))
        return hidden * torch.relu(self.gate(hidden).squeeze(1))[:, None] * self.scale.clamp(0, 4.6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_relu_of_one_value_an_image_is_one_neuron(dtype: torch.dtype) -> None:
    model, (images, labels) = Gated().to(dtype), batch()
    images = images.to(dtype)
    entropy = SoftEntropy(3).over(labels)
    hidden = model.hidden(images)
    for z in (hidden, model.gate(hidden.relu())):
        entropy.add(z)
    assert value(PspEntropy(model, classes=3), model, images, labels) == entropy.mean()


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("pairs", [10, 2000])
def test_a_pass_in_inference_mode_counts_as_any(order: int, dtype: torch.dtype, pairs: int) -> None:
    model, (images, labels) = net(4, 8, 5, 3).to(dtype), batch()
    images, found = images.to(dtype), []
    for inference in (True, False):
        entropy = PspEntropy(model, classes=3, order=order, pairs=pairs)
        with torch.inference_mode(inference):
            value(entropy, model, images, labels)
        for few in (images[:7], images[:9]):
            few_labels = labels[: len(few)]
            found.append(torch.autograd.grad(value(entropy, model, few, few_labels), model[0].weight)[0])
        with torch.inference_mode(inference):
            found.append(value(entropy, model, images[:7], labels[:7]).clone())
    assert all(torch.equal(*pair) for pair in zip(found[:3], found[3:], strict=True))


@pytest.mark.parametrize("order", [1, 2])
def test_second_derivatives_are_refused(order: int) -> None:
    model, (images, labels) = net(4, 8, 3), batch()
    found = value(PspEntropy(model, classes=3, order=order), model, images, labels)
    with pytest.raises(TrainingError, match="no second derivatives; take its gradient without create_graph"):
        torch.autograd.grad(found, model[0].weight, create_graph=True)


class Checkpointed(nn.Module):
    """A net whose hidden layers are computed again in the backward pass."""

    def __init__(self, use_reentrant: bool) -> None:
        super().__init__()
        self.net, self.use_reentrant = net(4, 8, 3), use_reentrant

    def forward(self, images: Tensor) -> Tensor:
        images = images.requires_grad_()
        return self.net[2](checkpoint(self.net[:2], images, use_reentrant=self.use_reentrant))


@pytest.mark.parametrize("order", [1, 2])
def test_checkpoints_without_a_graph_are_named_and_others_work(order: int) -> None:
    images, labels = batch()
    model = Checkpointed(use_reentrant=True)
    with pytest.raises(TrainingError, match=r"checkpoint with use_reentrant=False, and .* torch\.no_grad\(\)"):
        value(PspEntropy(model, classes=3, order=order), model, images, labels)
    gradients = []
    for other in (Checkpointed(use_reentrant=False), net(4, 8, 3)):
        value(PspEntropy(other, classes=3, order=order), other, images, labels).backward()
        gradients.append(next(other.parameters()).grad)
    assert torch.equal(*gradients)
    with torch.no_grad():
        assert value(PspEntropy(model, classes=3, order=order), model, images.detach(), labels) > 0


@pytest.mark.parametrize("outer", [1, 2])
def test_two_entropies_of_one_pass(outer: int) -> None:
    model, (images, labels) = net(4, 8, 5, 3).double(), batch()
    images = images.double()
    alone = [value(PspEntropy(model, classes=3, order=order), model, images, labels) for order in (outer, 3 - outer)]
    around, inside = PspEntropy(model, classes=3, order=outer), PspEntropy(model, classes=3, order=3 - outer)
    with around.of(labels) as first, inside.of(labels) as second:
        model(images)
    assert [first.mean(), second.mean()] == alone


def test_a_sink_may_watch_another_net() -> None:
    model, (images, _), names = net(4, 8, 3), batch(), []

    def sink(name: str, z: Tensor) -> None:
        other = net(8, 2, 2)
        with capture_preactivations(other, lambda inner, _: names.append((name, inner))):
            other(z)

    with capture_preactivations(model, sink):
        model(images)
    assert names == [("1", "1")]


def test_labels_go_to_where_the_net_is() -> None:
    z, labels = torch.empty(30, 4, device="meta"), torch.arange(30) % 3  # as of a net on a GPU
    classes = _Classes.of(labels, z, SoftEntropy(3))
    assert classes.members is not None
    assert classes.members.device == classes.counts.device == z.device
    with pytest.raises(TrainingError, match="labels run from 0 to 2; there are 2 classes"):
        _Classes.of(labels, z, SoftEntropy(2))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (Tensor.tolist, "labels are a list; give the classes' numbers as an integer tensor"),
        (Tensor.numpy, "labels are a ndarray; give"),
        (lambda labels: None, "labels are a NoneType; give"),
        (nn.functional.one_hot, r"labels are torch\.int64 \[30, 3\]; give .* \(of one-hot ones, \.argmax\(1\)\)"),
        (Tensor.float, r"labels are torch\.float32 \[30\]; give"),
        (Tensor.bool, r"labels are torch\.bool \[30\]; give"),
        (torch.sum, r"labels are torch\.int64 \[\]; give"),
    ],
)
def test_labels_that_are_no_integers_are_named(change: Callable[[Tensor], Any], message: str) -> None:
    with (
        pytest.raises(TrainingError, match=message),
        PspEntropy(net(4, 8, 3), classes=3).of(change(torch.arange(30) % 3)),
    ):
        pass


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_pass_that_fails_midway_leaves_no_trace(
    order: int, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, (images, labels) = net(4, 8, 5, 3).to(dtype), batch()
    images = images.to(dtype)
    failing, plain = (PspEntropy(model, classes=3, order=order, rare=20) for _ in range(2))

    def fail(*_: Any) -> None:
        raise RuntimeError("out of memory")

    with monkeypatch.context() as patch:
        patch.setattr(model[2], "forward", fail)
        with pytest.raises(RuntimeError, match="out of memory"):
            value(failing, model, images + 2, labels)
    for few in (images, images[:7]):
        assert value(failing, model, few, labels[: len(few)]) == value(plain, model, few, labels[: len(few)])


class Auxiliary(nn.Module):
    """A net of functional ReLUs, or of one module that runs again, with a head more in the middle in training mode."""

    def __init__(self, widths: tuple[int, int], act: nn.Module | None) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Linear(4, 6), nn.Linear(6, widths[0]), nn.Linear(6, widths[1])
        self.act = act

    def forward(self, images: Tensor) -> Tensor:
        act = self.act or torch.relu
        hidden = act(self.first(images))
        if self.training:
            act(self.head(hidden) - 5)
        return act(self.second(hidden))


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("widths", [(6, 6), (5, 7)])
@pytest.mark.parametrize("act", [None, nn.ReLU()])
def test_a_layer_is_known_again_whichever_others_run(
    order: int, widths: tuple[int, int], act: nn.Module | None
) -> None:
    model, (images, labels) = Auxiliary(widths, act), batch()
    alone = {}
    for training in (True, False):
        model.train(training)
        alone[training] = value(PspEntropy(model, classes=3, order=order, rare=0), model, images, labels)
    entropy = PspEntropy(model, classes=3, order=order, rare=11)  # one image of a class before
    for training in (True, False, True):
        model.train(training)
        found = value(entropy, model, images, labels)
        torch.testing.assert_close(found, alone[training], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("order", [1, 2])
def test_a_state_without_names_and_with_one_count_for_all_layers_is_taken_up(order: int) -> None:
    z, labels = torch.randn(30, 6, generator=torch.Generator().manual_seed(0)), torch.arange(30) % 3
    entropies, found = [SoftEntropy(3, order=order) for _ in range(3)], []
    first = entropies[0].over(labels)
    for layer in (z, z + 0.5):
        first.add(layer)
    first.end()
    state = entropies[0].state()
    entropies[1].restore(state)
    without_names = {"running": state["running"], "axes": state["axes"]}
    entropies[2].restore({**without_names, "seen": state["seen"][0].clone()})
    for entropy in entropies:
        seen = entropy.over(labels[:7])
        for layer in (z[:7], z[:7] - 0.5):
            seen.add(layer)
        found.append(seen.mean())
    assert found[0] == found[1] == found[2]
    assert entropies[1]._seen[0] is entropies[1]._seen[1]


COMPILED = """
import torch
from torch import nn
from sharpminima.training import PspEntropy
from sharpminima.base.errors import AnalysisError
net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
images, labels = torch.randn(30, 4), torch.arange(30) % 3
compiled = torch.compile(net, backend="aot_eager")
compiled(images)
entropy = PspEntropy(net, classes=3)
found = []
for model in (net, compiled, compiled, compiled):
    with entropy.of(labels) as watched:
        model(images)
    found.append(torch.autograd.grad(watched.mean(), net[0].weight)[0])
assert all(torch.equal(each, found[0]) for each in found)
def step():
    with entropy.of(labels):
        return net(images)
try:
    torch.compile(step, backend="aot_eager")()
except AnalysisError as error:
    assert "compile the model alone" in str(error)
else:
    raise AssertionError("not refused")
"""


def test_a_compiled_net_runs_as_it_was_written() -> None:
    done = subprocess.run([sys.executable, "-c", COMPILED], capture_output=True, text=True, timeout=120)  # may crash
    assert done.returncode == 0, done.stderr[-2000:]
