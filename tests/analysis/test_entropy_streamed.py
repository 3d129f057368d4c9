"""PSP-entropy class by class, batch by batch, of the classes that are present, and of layers that are too wide."""

import dataclasses
import sys

import pytest
import torch
from torch import nn

from sharpminima.analysis import PspEntropyMetric, psp_entropy, psp_statistics
from sharpminima.analysis.psp import entropy
from sharpminima.base.errors import AnalysisError
from sharpminima.base.stop import STOP, Stopped

from . import cases
from .peaks import run_measured

ORDERS = [(1, "joint"), (2, "joint"), (2, "agreement"), (3, "joint")]


def assert_same(found, expected, *, exactly=()):
    """All fields up to rounding; those named, to the bit."""
    for field in dataclasses.fields(expected):
        first, second = getattr(found, field.name), getattr(expected, field.name)
        if isinstance(second, str):
            assert first == second
        elif field.name in exactly and second is not None:
            torch.testing.assert_close(first, second, rtol=0, atol=0)
        elif first is not None or second is not None:
            torch.testing.assert_close(first, second, rtol=1e-12, atol=1e-13)


def assert_identical(found, expected):
    assert_same(found, expected, exactly=[field.name for field in dataclasses.fields(expected)])


@pytest.mark.parametrize(("order", "definition"), ORDERS)
@pytest.mark.parametrize("build", [cases.mlp, cases.conv_net])
def test_class_by_class(build, order, definition):
    model, (images, labels) = build(1), cases.data(40)
    whole = psp_entropy(model, images, labels, order=order, definition=definition)
    done = []
    found = psp_entropy(
        model, images, labels, order=order, definition=definition, by_class=True, batch_size=7,
        progress=lambda *at: done.append(at),
    )  # fmt: skip
    assert found.per_neuron is None
    assert_same(dataclasses.replace(found, per_neuron=whole.per_neuron), whole)
    assert done == [(1, 3), (2, 3), (3, 3)]


def test_class_by_class_samples_the_same_tuples(monkeypatch):
    model, (images, labels) = cases.mlp(1), cases.data(60)
    monkeypatch.setattr(entropy, "MAX_STATES", 0)
    options = {"order": 2, "samples": 20, "seed": 3}
    assert_same(
        psp_entropy(model, images, labels, by_class=True, **options), psp_entropy(model, images, labels, **options)
    )


def test_class_by_class_goes_on_to_the_same_bits(tmp_path, monkeypatch):
    model, (images, labels) = cases.mlp(1), cases.data(40)
    options = {"order": 2, "by_class": True}
    whole = psp_entropy(model, images, labels, **options)
    file, done = tmp_path / "state", []
    with pytest.raises(Stopped):
        psp_entropy(
            model, images, labels, resume=file, **options,
            progress=lambda at, _: monkeypatch.setattr(STOP, "raised", at == 2),
        )  # fmt: skip
    monkeypatch.setattr(STOP, "raised", False)
    again = psp_entropy(model, images, labels, resume=file, progress=lambda *at: done.append(at), **options)
    assert done == [(3, 3)]
    assert_identical(again, whole)
    assert not file.exists()
    with pytest.raises(AnalysisError, match="give by_class=True with resume"):
        psp_entropy(model, images, labels, resume=file)


class Shifted(nn.Module):
    """A net whose state dict does not tell what it shifts, nor by which function."""

    def __init__(self, shift, relu):
        super().__init__()
        self.hidden, self.out, self.shift, self.relu = nn.Linear(12, 6), nn.Linear(6, 3), shift, relu

    def forward(self, images):
        return self.out(self.relu(self.hidden(images.flatten(1) + self.shift)))


def test_class_by_class_goes_on_with_a_net_that_does_the_same_alone(tmp_path, monkeypatch):
    images, labels = cases.data(40)

    def run(shift, relu, progress=None):
        model = cases.seeded(lambda: Shifted(shift, relu))
        return psp_entropy(model, images, labels, by_class=True, resume=tmp_path / "state", progress=progress)

    def begins_at(shift, relu):
        with pytest.raises(Stopped):
            run(0.0, torch.relu, progress=lambda at, _: monkeypatch.setattr(STOP, "raised", at == 1))
        monkeypatch.setattr(STOP, "raised", False)
        done = []
        run(shift, relu, progress=lambda at, _: done.append(at))
        return done[0]

    assert begins_at(0.0, torch.relu) == 2
    assert begins_at(1.0, torch.relu) == 1
    assert begins_at(0.0, lambda z: z.clamp(min=0)) == 1  # a layer of another name


@pytest.mark.filterwarnings("ignore:only the ReLUs' pre-activations count")
def test_class_by_class_knows_a_predicate_by_what_it_chooses(tmp_path, monkeypatch):
    net = nn.Sequential(nn.Flatten(), nn.Linear(12, 6), nn.ReLU(), nn.Linear(6, 4), nn.Tanh(), nn.Linear(4, 3))
    model, (images, labels) = net.double(), cases.data(40)

    def choosing(kind):
        return lambda module: isinstance(module, kind)

    def done_after_one(activations):
        monkeypatch.setattr(STOP, "raised", False)
        with pytest.raises(Stopped):
            psp_entropy(
                model, images, labels, by_class=True, activations=choosing(nn.Tanh), resume=tmp_path / "state",
                progress=lambda at, _: monkeypatch.setattr(STOP, "raised", True),
            )  # fmt: skip
        monkeypatch.setattr(STOP, "raised", False)
        done = []
        psp_entropy(
            model, images, labels, by_class=True, activations=activations, resume=tmp_path / "state",
            progress=lambda at, _: done.append(at),
        )  # fmt: skip
        return done

    assert done_after_one(choosing(nn.Tanh)) == [2, 3]  # another function, as in another process
    assert done_after_one(choosing(nn.Linear)) == [1, 2, 3]
    assert done_after_one("all") == [1, 2, 3]


@pytest.mark.parametrize(("order", "definition"), ORDERS)
@pytest.mark.parametrize("by_class", [False, True])
def test_classes_that_are_present(order, definition, by_class):
    model, (images, labels) = cases.mlp(1), cases.data(40, classes=2)
    labels = labels * 2  # of the classes 0, 1, 2 there is no 1
    with pytest.raises(AnalysisError, match=r"class 1 has no images; .* 3 classes, or classes='present'"):
        psp_entropy(model, images, labels, order=order, by_class=by_class)
    options = {"order": order, "definition": definition}
    found = psp_entropy(model, images, labels, classes="present", by_class=by_class, **options)
    assert found.classes.tolist() == [0, 2]
    # The same net without the class in between.
    smaller = cases.mlp(1)
    smaller[-1] = nn.Linear(4, 2).double()
    smaller[-1].weight.data, smaller[-1].bias.data = model[-1].weight.data[::2], model[-1].bias.data[::2]
    expected = psp_entropy(smaller, images, labels // 2, by_class=by_class, **options)
    same = {"classes": expected.classes, "norm_with_output": expected.norm_with_output}
    assert_same(dataclasses.replace(found, **same), expected)
    # The output has all three logits.
    logits = model(images).detach()
    norms = [*found.norm_per_layer.values(), float(logits.square().mean())]
    assert found.norm_with_output == pytest.approx(sum(norms) / 3, rel=1e-12)


def test_many_empty_classes_are_not_listed():
    net = nn.Sequential(nn.Flatten(), nn.Linear(12, 3), nn.ReLU(), nn.Linear(3, 1000)).double()
    with pytest.raises(AnalysisError, match=r"^class 3, 4, 5, 6, 7, \.\.\. \(997 in all\) has no images"):
        psp_entropy(net, *cases.data(6))
    with pytest.raises(AnalysisError, match="classes are 'some'; there are 'all' and 'present'"):
        psp_entropy(net, *cases.data(6), classes="some")


@pytest.mark.parametrize(("order", "definition"), ORDERS)
def test_metric_is_the_function(order, definition):
    model, (images, labels) = cases.conv_net(1), cases.data(40)
    options = {"order": order, "definition": definition, "batch_size": 10}
    expected = psp_entropy(model, images, labels, **options)
    metric = PspEntropyMetric(model, **options)
    for part in range(0, 40, 20):
        metric.update(images[part : part + 20], labels[part : part + 20])
    assert_identical(metric.compute(), expected)
    assert_identical(metric.compute(), expected)  # it may be asked again

    # However the images are split, and whenever a class first occurs: counts are integers.
    metric.reset()
    order_of = labels.argsort(stable=True, descending=True)
    for part in order_of.split(7):
        metric.update(images[part], labels[part])
    assert_same(metric.compute(), expected, exactly=("per_neuron", "per_class", "per_layer", "mean", "live"))


def test_metric_of_classes_that_are_present():
    model, (images, labels) = cases.mlp(1), cases.data(20, classes=2)
    metric = PspEntropyMetric(model, classes="present")
    metric.update(images, labels * 2)
    assert_identical(metric.compute(), psp_entropy(model, images, labels * 2, classes="present"))
    metric = PspEntropyMetric(model)
    metric.update(images, labels * 2)
    with pytest.raises(AnalysisError, match="class 1 has no images"):
        metric.compute()
    metric.update(images, labels)
    assert metric.compute().classes.tolist() == [0, 1, 2]


def test_errors_of_the_metric():
    model, (images, labels) = cases.mlp(1), cases.data(20)
    metric = PspEntropyMetric(model)
    with pytest.raises(AnalysisError, match="no images yet; call update first"):
        metric.compute()
    metric.update(images, labels)
    with torch.no_grad():
        model[1].weight.mul_(2)
    with pytest.raises(AnalysisError, match="weights have changed since the first update; call reset"):
        metric.update(images, labels)
    metric.reset()
    metric.update(images, labels)
    assert_identical(metric.compute(), psp_entropy(model, images, labels))
    with pytest.raises(AnalysisError, match="order is 0; give at least 1"):
        PspEntropyMetric(model, order=0)
    with pytest.raises(AnalysisError, match="there are 'all' and 'present'"):
        PspEntropyMetric(model, classes="some")


class Failing(nn.Module):
    """A net that fails behind its ReLU, on images that hold a number above 9."""

    def __init__(self):
        super().__init__()
        self.hidden, self.out = nn.Linear(12, 6).double(), nn.Linear(6, 3).double()

    def forward(self, images):
        hidden = torch.relu(self.hidden(images.flatten(1)))
        if images.max() > 9:
            raise RuntimeError("out of memory")
        return self.out(hidden)


@pytest.mark.parametrize("order", [1, 2])
def test_an_update_that_fails_counts_nothing(order):
    model, (images, labels) = cases.seeded(Failing), cases.data(40)
    failing = images.clone()
    failing[35] = 10
    metric, expected = (PspEntropyMetric(model, batch_size=10, order=order) for _ in range(2))
    for at, last in ((0, 40), (20, 40), (30, 40)):
        with pytest.raises(AnalysisError, match="out of memory"):
            metric.update(failing[at:last], labels[at:last].flip(0))
        metric.update(images[at:], labels[at:])
        expected.update(images[at:], labels[at:])
        assert_identical(metric.compute(), expected.compute())
        assert metric.statistics().evaluation == expected.statistics().evaluation


def test_the_metric_notices_weights_that_are_written_to_as_data():
    model, (images, labels) = cases.resnet8(1).float(), cases.data(20, (3, 32, 32), 10)
    images, metric = images.float(), PspEntropyMetric(model)
    model.register_buffer("unknown", torch.tensor(float("nan")))  # which the net does not use
    metric.update(images, labels)
    metric.update(images, labels)
    weight, statistics = model.conv1.weight, model.bn1.running_mean

    def notices(change):
        kept = weight.data.clone(), statistics.data.clone()
        change()
        with pytest.raises(AnalysisError, match="weights have changed since the first update; call reset"):
            metric.update(images, labels)
        weight.data, statistics.data = kept
        metric.update(images, labels)

    notices(lambda: weight.data.mul_(-1))
    notices(lambda: weight.data[0, 0].copy_(weight.data[0, 0].flip(0)))
    notices(lambda: setattr(weight, "data", weight.data * 1.001))
    notices(lambda: statistics.data.add_(1e-6))


@pytest.mark.parametrize("by_class", [False, True])
def test_wide_layers_ask_for_samples_of_pairs(by_class):
    # 150,000 neurons: 4.5e10 joint states of pairs in each class.
    draws = torch.Generator().manual_seed(0)
    states = torch.rand(30, 150_000, generator=draws) < 0.5
    net = nn.Sequential(nn.Flatten(), nn.ReLU(), nn.AdaptiveAvgPool1d(3))
    images, labels = cases.images_of_states(states).float(), torch.arange(30) % 3
    with pytest.raises(
        AnalysisError, match=r"tuples of 2 neurons of layer 1 .* too many .* sample tuples with samples="
    ):
        psp_entropy(net, images, labels, order=2, by_class=by_class)
    found = psp_entropy(net, images, labels, order=2, samples=2000, by_class=by_class)
    # Pairs of independent neurons: the exact mean is that of the first 300 neurons, nearly.
    few = nn.Sequential(nn.Flatten(), nn.ReLU(), nn.AdaptiveAvgPool1d(3))
    exact = psp_entropy(few, images[..., :3000], labels, order=2)
    assert not found.exact
    assert 0 < found.standard_error_mean < 0.02
    assert abs(found.mean - exact.mean) < 4 * found.standard_error_mean + 0.01


def test_progress():
    model, (images, labels) = cases.mlp(1), cases.data(25)
    done = []
    psp_entropy(model, images, labels, order=2, batch_size=10, progress=lambda *at: done.append(at))
    assert done == [(1, 3), (2, 3), (3, 3), *((step, 6) for step in range(1, 7))]
    done.clear()
    statistics = psp_statistics(model, images, labels, batch_size=10, progress=lambda *at: done.append(at))
    assert (statistics.outputs, done) == (3, [(1, 3), (2, 3), (3, 3)])


_PEAK = """
import torch
from torch import nn
from sharpminima.analysis import psp_entropy
torch.set_num_threads(1)
neurons, classes = 200_000, 100
images = torch.randn(2 * classes, 1, 1, neurons, generator=torch.Generator().manual_seed(0))
labels = torch.arange(len(images)) % classes
net = nn.Sequential(nn.Flatten(), nn.ReLU(), nn.AdaptiveAvgPool1d(classes))

few = images[..., :1000]
psp_entropy(net, few, labels, batch_size=10)
start = peak()
streamed = psp_entropy(net, images, labels, batch_size=10, by_class=True)
between = peak()
whole = psp_entropy(net, images, labels, batch_size=10)
assert abs(streamed.mean - whole.mean) < 1e-9
print(between - start, peak() - start)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_peak_memory_is_what_is_said():
    by_class, whole = run_measured(_PEAK)
    passing = 5 * 8 * 2**21  # a batch's pre-activations, and parts of 2^21 numbers
    counts = 100 * 200_000
    assert by_class <= 32 * 200_000 + passing
    assert 16 * counts <= whole <= 16 * counts + passing
