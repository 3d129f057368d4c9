import itertools
import math
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from sharpminima.analysis import (
    PspEntropyMetric,
    hessian_eigenvalues,
    loss_surface,
    preactivations,
    psp_entropy,
    psp_statistics,
)
from sharpminima.analysis.psp import entropy
from sharpminima.analysis.psp._states import pack, unpack
from sharpminima.base.errors import AnalysisError
from sharpminima.nets.evaluation import evaluate

from . import cases

QUARTER = 2 - 0.75 * math.log2(3)  # binary entropy of 1/4


def shannon(outcomes) -> float:
    counts = Counter(outcomes)
    return -sum(n / len(outcomes) * math.log2(n / len(outcomes)) for n in counts.values())


class Oracle:
    """The definitions, in plain loops over the states of one layer, [N][neurons] of 0 and 1."""

    def __init__(self, states, labels):
        self.columns = list(zip(*states, strict=True))
        self.live = [i for i, column in enumerate(self.columns) if len(set(column)) > 1]
        self.classes = [[n for n, label in enumerate(labels) if label == c] for c in sorted(set(labels))]

    def neuron(self, i, members):
        return shannon([self.columns[i][n] for n in members])

    def first(self, neurons):
        return [sum(self.neuron(i, members) for members in self.classes) for i in neurons]

    def joint_of_classes(self, neurons, order=2):
        return [
            mean(
                shannon([tuple(self.columns[i][n] for i in chosen) for n in members])
                for chosen in itertools.combinations(neurons, order)
            )
            for members in self.classes
        ]

    def joint(self, neurons, order=2):
        return sum(self.joint_of_classes(neurons, order))

    def agreement_of_classes(self, neurons, order=2):
        values = []
        for members in self.classes:
            same = [
                len({self.columns[i][n] for i in chosen}) == 1
                for n in members
                for chosen in itertools.combinations(neurons, order)
            ]
            differ = 1 - sum(same) / len(same)
            values.append(-differ * math.log2(differ) if sum(same) < len(same) else 0.0)
        return values

    def agreement(self, neurons, order=2):
        return sum(self.agreement_of_classes(neurons, order))


def oracles(model, images, labels):
    layers, _ = next(preactivations(model, images, batch_size=len(images)))
    return {name: Oracle((z > 0).int().tolist(), labels.tolist()) for name, z in layers.items()}


def mean(values):
    values = list(values)
    return sum(values) / len(values)


def identity(states, labels, **options):
    """PSP-entropy of one layer whose states are given."""
    net = cases.identity_net(max(labels) + 1, len(states[0]))
    return psp_entropy(net, cases.images_of_states(torch.tensor(states)), torch.tensor(labels), **options)


# Two classes of four images. Neurons a and b are independent coins in class 0 and one coin of 1/4 in class 1;
# neuron c is always on.
STATES = [[1, 1, 1], [1, 0, 1], [0, 1, 1], [0, 0, 1], [1, 1, 1], [0, 0, 1], [0, 0, 1], [0, 0, 1]]
LABELS = [0, 0, 0, 0, 1, 1, 1, 1]


def test_first_order_by_hand():
    result = identity(STATES, LABELS)
    expected = torch.tensor([[1, 1, 0], [QUARTER, QUARTER, 0]], dtype=torch.float64)
    torch.testing.assert_close(result.per_neuron["1"], expected, rtol=0, atol=1e-15)
    assert result.per_layer == {"1": pytest.approx(2 * (1 + QUARTER) / 3, abs=1e-15)}
    assert result.mean == pytest.approx(2 * (1 + QUARTER) / 3, abs=1e-15)
    assert result.mean_live == pytest.approx(1 + QUARTER, abs=1e-15)
    assert (result.neurons, result.live) == ({"1": 3}, {"1": 2})
    assert (result.always_on, result.always_off) == ({"1": 1 / 3}, {"1": 0})
    assert (result.order, result.definition) == (1, "joint")


@pytest.mark.slow
def test_joint_by_hand():
    result = identity(STATES, LABELS, order=2)
    both = 2 + QUARTER
    assert result.per_neuron is None
    assert result.mean == pytest.approx((both + 2 * (1 + QUARTER)) / 3, abs=1e-15)
    assert result.mean_live == pytest.approx(both, abs=1e-15)
    assert result.per_layer == {"1": result.mean}


def test_agreement_by_hand():
    # Class 0: 6 of 12 (pair, image) disagree; class 1 too. Of the live pair (a, b): 2 of 4, and none.
    result = identity(STATES, LABELS, order=2, definition="agreement")
    assert result.per_neuron is None
    assert result.mean == pytest.approx(1.0, abs=1e-15)
    assert result.mean_live == pytest.approx(0.5, abs=1e-15)


def test_state_at_zero_is_off():
    net = cases.identity_net(1, 2)
    images = torch.tensor([[0.0, 1e-300], [1.0, 1.0]], dtype=torch.float64)[:, None, None]
    result = psp_entropy(net, images, torch.zeros(2, dtype=torch.int64))
    assert result.per_neuron["1"].tolist() == [[1.0, 0.0]]


def test_norm_by_hand():
    net = nn.Sequential(nn.Flatten(), nn.ReLU(), nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1)).double()
    with torch.no_grad():
        net[2].weight.fill_(1.0), net[2].bias.fill_(-1.0), net[4].weight.fill_(1.0), net[4].bias.fill_(0.5)
    images = torch.tensor([[1.0, -2.0], [3.0, 4.0]], dtype=torch.float64)[:, None, None]
    # Second layer: 1 + 0 - 1 = 0 and 3 + 4 - 1 = 6, three times; logits 0.5 and 18.5.
    result = psp_entropy(net, images, torch.zeros(2, dtype=torch.int64))
    first, second, output = (1 + 4 + 9 + 16) / 4, 36 / 2, (0.25 + 18.5**2) / 2
    assert result.norm_per_layer == pytest.approx({"1": first, "3": second})
    assert result.norm == pytest.approx((first + second) / 2)
    assert result.norm_with_output == pytest.approx((first + second + output) / 3)


@pytest.mark.parametrize("build", [cases.mlp, cases.conv_net])
def test_against_plain_loops(build):
    net = build(2)
    images, labels = cases.data(41, seed=3)
    with torch.no_grad():  # one neuron always on and one always off
        list(net.parameters())[-3].data[:2] = torch.tensor([1e3, -1e3])
    layers = oracles(net, images, labels)
    statistics = psp_statistics(net, images, labels, pairs=True, batch_size=10)
    first = statistics.entropy()
    every = {name: oracle.first(range(len(oracle.columns))) for name, oracle in layers.items()}
    assert first.per_layer == pytest.approx({name: mean(values) for name, values in every.items()}, abs=1e-12)
    assert first.mean == pytest.approx(mean(itertools.chain(*every.values())), abs=1e-12)
    live = {name: oracle.first(oracle.live) for name, oracle in layers.items()}
    assert first.mean_live == pytest.approx(mean(itertools.chain(*live.values())), abs=1e-12)
    assert first.live == {name: len(oracle.live) for name, oracle in layers.items()}
    for name, oracle in layers.items():
        for c, members in enumerate(oracle.classes):
            expected = [oracle.neuron(i, members) for i in range(len(oracle.columns))]
            assert first.per_neuron[name][c].tolist() == pytest.approx(expected, abs=1e-12)

    last = list(layers)[-1]
    assert first.always_on[last] >= 1 / first.neurons[last]
    assert first.always_off[last] >= 1 / first.neurons[last]
    assert {name: of.tolist() for name, of in first.per_class.items()} == {
        name: pytest.approx(of.mean(dim=1).tolist(), abs=1e-12) for name, of in first.per_neuron.items()
    }
    for order, definition in itertools.product((2, 3, 4), ("joint", "agreement")):
        result = statistics.entropy(order, definition)
        plain = getattr(Oracle, f"{definition}_of_classes")
        values = {name: plain(oracle, range(len(oracle.columns)), order) for name, oracle in layers.items()}
        assert {name: of.tolist() for name, of in result.per_class.items()} == {
            name: pytest.approx(of, abs=1e-12) for name, of in values.items()
        }
        assert result.per_layer == pytest.approx({name: sum(of) for name, of in values.items()}, abs=1e-12)
        assert result.mean == pytest.approx(mean(sum(of) for of in values.values()), abs=1e-12)
        of_live = [sum(plain(of, of.live, order)) for of in layers.values() if len(of.live) >= order]
        assert result.mean_live == pytest.approx(mean(of_live), abs=1e-12)
        assert (result.exact, result.standard_error_mean, result.standard_error_mean_live) == (True, 0.0, 0.0)
        assert set(result.standard_errors.values()) == {0.0}


@st.composite
def labelled_states(draw):
    neurons, classes = draw(st.integers(2, 6)), draw(st.integers(1, 3))
    labels = [c for c in range(classes) for _ in range(draw(st.integers(1, 6)))]
    labels = draw(st.permutations(labels))
    row = st.lists(st.integers(0, 1), min_size=neurons, max_size=neurons)
    return draw(st.lists(row, min_size=len(labels), max_size=len(labels))), labels


@pytest.mark.slow
@given(labelled_states())
@settings(max_examples=60)
def test_any_states_against_plain_loops(case):
    states, labels = case
    oracle = Oracle(states, labels)
    every, classes = range(len(states[0])), len(oracle.classes)
    first = identity(states, labels)
    assert first.mean == pytest.approx(mean(oracle.first(every)), abs=1e-12)
    assert first.mean_live == pytest.approx(mean(oracle.first(oracle.live)) if oracle.live else 0, abs=1e-12)
    assert 0 <= first.mean <= classes
    below = first.mean
    for order in range(2, len(every) + 1):
        joint = identity(states, labels, order=order)
        agreement = identity(states, labels, order=order, definition="agreement")
        assert joint.mean == pytest.approx(oracle.joint(every, order), abs=1e-12)
        assert agreement.mean == pytest.approx(oracle.agreement(every, order), abs=1e-12)
        tuples = len(oracle.live) >= order
        assert joint.mean_live == pytest.approx(oracle.joint(oracle.live, order) if tuples else 0, abs=1e-12)
        assert agreement.mean_live == pytest.approx(oracle.agreement(oracle.live, order) if tuples else 0, abs=1e-12)
        # More neurons know no less, and all of them no more than each by itself.
        assert below - 1e-12 <= joint.mean <= order * first.mean + 1e-12
        below = joint.mean


@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1)), min_size=1, max_size=12))
@settings(max_examples=40)
def test_joint_entropy_with_a_constant_is_the_neurons_own(rows):
    varying, constant = [row[0] for row in rows], rows[0][1]
    states = [[value, constant] for value in varying]
    own = identity(states, [0] * len(rows)).per_neuron["1"][0, 0].item()
    assert identity(states, [0] * len(rows), order=2).mean == pytest.approx(own, abs=1e-14)


def test_constant_neurons_add_exactly_nothing():
    for definition in ("joint", "agreement"):
        result = identity([[1, 1], [1, 1], [1, 1]], [0, 1, 0], order=2, definition=definition)
        assert (result.mean, result.mean_live) == (0.0, 0.0)
    result = identity([[1, 0, 0], [1, 0, 0], [1, 0, 0]], [0, 1, 0])
    assert (result.mean, result.mean_live) == (0.0, 0.0)
    assert (result.always_on, result.always_off) == ({"1": 1 / 3}, {"1": 2 / 3})
    assert torch.equal(result.per_neuron["1"], torch.zeros(2, 3, dtype=torch.float64))


def test_a_coin_in_every_class_reaches_the_bounds():
    states = list(itertools.product((0, 1), repeat=2)) * 3
    labels = [0] * 4 + [1] * 4 + [2] * 4
    assert identity(states, labels).mean == 3.0
    assert identity(states, labels, order=2).mean == 6.0


def test_neuron_that_varies_only_between_classes_is_live_without_entropy():
    result = identity([[1, 0], [1, 1], [0, 0], [0, 1]], [0, 0, 1, 1])
    assert result.live == {"1": 2}
    assert result.per_neuron["1"].tolist() == [[0, 1], [0, 1]]
    # Both are live: the pair's entropy is that of the second neuron in each class.
    assert identity([[1, 0], [1, 1], [0, 0], [0, 1]], [0, 0, 1, 1], order=2).mean_live == 2.0


def test_layers_without_pairs_are_left_out_of_order_two():
    net = nn.Sequential(
        nn.Flatten(), nn.ReLU(), nn.Linear(2, 1), nn.ReLU(), nn.Linear(1, 2), nn.ReLU(), nn.Linear(2, 1)
    ).double()
    with torch.no_grad():
        net[4].weight.zero_(), net[4].bias.fill_(1.0)
    images = cases.images_of_states(torch.tensor(list(itertools.product((0, 1), repeat=2))))
    labels = torch.zeros(4, dtype=torch.int64)
    joint = psp_entropy(net, images, labels, order=2)
    assert joint.per_layer == {"1": 2.0, "5": 0.0}
    assert joint.mean == 1.0
    assert joint.mean_live == 2.0  # no neuron of layer 5 is live
    agreement = psp_entropy(net, images, labels, order=2, definition="agreement")
    assert agreement.per_layer == {"1": 0.5, "5": 0.0}
    assert (agreement.mean, agreement.mean_live) == (0.25, 0.5)


@pytest.mark.parametrize("neurons", [1, 7, 8, 9, 24])
def test_packed_states_come_back(neurons):
    states = torch.rand(5, neurons, generator=torch.Generator().manual_seed(1)) < 0.5
    packed = pack(states)
    assert packed.shape == (5, -(-neurons // 8))
    assert torch.equal(unpack(packed, neurons).bool(), states)
    assert packed.numpy().tobytes() == np.packbits(states.numpy(), axis=1, bitorder="little").tobytes()


def test_batch_size_and_order_of_images_do_not_matter():
    net = cases.conv_net()
    images, labels = cases.data(50)
    shuffle = torch.randperm(50, generator=torch.Generator().manual_seed(2))
    for options in ({"order": 1}, {"order": 2}, {"order": 2, "definition": "agreement"}):
        reference = psp_entropy(net, images, labels, **options)
        for result in (
            psp_entropy(net, images, labels, batch_size=7, **options),
            psp_entropy(net, images[shuffle], labels[shuffle], **options),
        ):
            assert (result.mean, result.mean_live) == (reference.mean, reference.mean_live)
            assert result.norm == pytest.approx(reference.norm, rel=1e-13)


@pytest.mark.slow
def test_lenet5_and_one_pass_for_all():
    net = cases.lenet5()
    images, labels = cases.data_for("lenet5", 40)
    statistics = psp_statistics(net, images, labels, pairs=True, batch_size=16)
    first, joint = statistics.entropy(), statistics.entropy(2)
    assert first.neurons == {"relu1": 11520, "relu2": 3200, "relu3": 500}
    assert first.mean == psp_entropy(net, images, labels, batch_size=16).mean
    weighted = sum(first.per_layer[name] * count for name, count in first.neurons.items())
    assert first.mean == pytest.approx(weighted / 15220)
    oracle = oracles(net, images, labels)["relu3"]
    assert first.per_layer["relu3"] == pytest.approx(mean(oracle.first(range(500))), abs=1e-12)
    for name in first.per_layer:
        assert first.per_layer[name] < joint.per_layer[name] < 2 * first.per_layer[name]
    evaluation = evaluate(net, images, labels, batch_size=16)
    assert statistics.evaluation == evaluation
    # 40 images: the third layer's pairs by brute force, over 60 of its neurons.
    states = torch.tensor([oracle.columns[i] for i in range(60)]).T
    some = identity(states.tolist(), labels.tolist(), order=2).mean
    assert some == pytest.approx(oracle.joint(range(60)), abs=1e-12)


def test_resnet_counts_every_relu_and_stays_in_its_mode():
    net = cases.resnet8().train()
    images, labels = cases.data(20, (3, 32, 32), 10)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    result = psp_entropy(net, images, labels, batch_size=6)
    assert result.neurons == {
        "relu": 16384,
        "stage1.0.relu1": 16384,
        "stage1.0.relu2": 16384,
        "stage2.0.relu1": 8192,
        "stage2.0.relu2": 8192,
        "stage3.0.relu1": 4096,
        "stage3.0.relu2": 4096,
    }
    z, _ = next(preactivations(net, images))
    oracle = Oracle((z["stage3.0.relu2"][:, :50] > 0).int().tolist(), labels.tolist())
    assert result.per_neuron["stage3.0.relu2"].sum(dim=0)[:50].tolist() == pytest.approx(oracle.first(range(50)))
    assert result.norm == pytest.approx(mean(value.square().mean().item() for value in z.values()))
    assert net.training
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_errors():
    net = cases.mlp()
    images, labels = cases.data(9)

    def fails(message, images=images, labels=labels, model=net, **options):
        with pytest.raises(AnalysisError, match=message):
            psp_entropy(model, images, labels, **options)

    fails("order is 0; give at least 1", order=0)
    fails("order is 1.5; give a whole number", order=1.5)
    fails("order is True; give a whole number", order=True)
    fails("samples is 1; give at least 2 tuples", order=3, samples=1)
    fails("no definition 'exact'; there are joint, agreement", definition="exact")
    fails(r"shape \[9, 12\]; give \[N, C, H, W\]", images=images.flatten(1))
    fails("torch.uint8; normalise", images=images.to(torch.uint8))
    fails("9 images but 8 labels", labels=labels[:8])
    fails("no images", images=images[:0], labels=labels[:0])
    fails("batch_size is 0", batch_size=0)
    fails(r"labels are torch.float64 \[9\]", labels=labels.double())
    fails(r"labels are torch.int64 \[9, 1\]", labels=labels[:, None])
    fails("labels run from 0 to 3, but the model has the classes 0 to 2", labels=labels + (labels == 2))
    fails("labels run from -1 to 1", labels=labels - 1)
    fails("class 1 has no images; give images of all 3 classes", labels=labels * 2 % 4)
    fails(r"cannot take images of shape \[1, 2, 3\]", images=images[:, :, :2])
    fails(r"cannot take images of shape \[1, 4, 3\], torch.float32", images=images.float())
    fails(
        r"output has shape \[4, 12, 1\]",
        model=nn.Sequential(nn.Flatten(), nn.ReLU(), nn.Unflatten(1, (12, 1))),
    )
    fails("no ReLU runs in the model's forward pass", model=nn.Sequential(nn.Flatten(), nn.Linear(12, 3).double()))
    unused = nn.Sequential(nn.Flatten(), nn.Linear(12, 3).double())
    unused[1].idle = nn.ReLU()
    fails("no ReLU runs in the model's forward pass", model=unused)
    fails("no hidden layer has 2 neurons", model=_one_hidden(), order=2)
    fails("no hidden layer has 7 neurons", order=7)
    fails("no hidden layer has 7 neurons", order=7, definition="agreement")
    images = images.clone()
    images[4] = float("nan")
    fails("pre-activations of 2 hold NaN or infinity", images=images)
    images[4] = float("inf")
    fails("pre-activations of 2 hold NaN or infinity", images=images)
    images = cases.data(9)[0]
    for value in (float("nan"), float("inf")):
        broken = cases.mlp()
        broken[5].bias.data[0] = value
        fails("parameter 5.bias of the model holds NaN or infinity", images=images, model=broken)
    broken = cases.mlp()
    broken[5].weight.data.fill_(1e308)
    fails("the logits hold NaN or infinity", images=images, model=broken)


def _one_hidden():
    return nn.Sequential(nn.Flatten(), nn.Linear(12, 1), nn.ReLU(), nn.Linear(1, 3)).double()


def test_joint_needs_the_states():
    statistics = psp_statistics(cases.mlp(), *cases.data(9))
    with pytest.raises(AnalysisError, match="pairs=True"):
        statistics.entropy(2)


@pytest.fixture
def crowded():
    """States of 14 neurons, some of them constant in one class or in both, and their labels."""
    draw = torch.Generator().manual_seed(5)
    states = (torch.rand(60, 14, generator=draw) < torch.rand(14, generator=draw)).int()
    states[:30, :3] = 1
    states[:, 3:5] = 0
    return states.tolist(), [0] * 30 + [1] * 30


def test_too_many_tuples_are_sampled_only_when_asked_for(crowded, monkeypatch):
    states, labels = crowded
    exact = identity(states, labels, order=4)
    monkeypatch.setattr(entropy, "MAX_STATES", 5000)
    message = r"tuples of 4 neurons of layer 1 have 5.4e\+03 joint states.*at most 5e\+03.*samples="
    with pytest.raises(AnalysisError, match=message):
        identity(states, labels, order=4)
    sampled = identity(states, labels, order=4, samples=50)
    assert not sampled.exact
    assert sampled.standard_errors == {"1": sampled.standard_error_mean}
    assert 0 < sampled.standard_error_mean < sampled.standard_error_mean_live < 0.2
    assert sampled.mean != exact.mean
    assert abs(sampled.mean - exact.mean) < 4 * sampled.standard_error_mean
    assert abs(sampled.mean_live - exact.mean_live) < 4 * sampled.standard_error_mean_live
    # What fits is exact, though samples are offered.
    assert identity(states, labels, order=3, samples=50).exact
    assert identity(states, labels, order=4, definition="agreement", samples=50).exact


def test_samples_follow_their_seed(crowded, monkeypatch):
    monkeypatch.setattr(entropy, "MAX_STATES", 1000)
    first, again, other = (identity(*crowded, order=3, samples=20, seed=seed) for seed in (1, 1, 2))
    assert (first.mean, first.mean_live) == (again.mean, again.mean_live)
    assert first.standard_error_mean == again.standard_error_mean
    assert first.mean != other.mean


@pytest.mark.slow
@pytest.mark.parametrize("order", [3, 5])
def test_samples_are_unbiased_and_their_error_is_calibrated(crowded, monkeypatch, order):
    states, labels = crowded
    net = cases.identity_net(2, 14)
    statistics = psp_statistics(net, cases.images_of_states(torch.tensor(states)), torch.tensor(labels), pairs=True)
    exact = statistics.entropy(order)
    monkeypatch.setattr(entropy, "MAX_STATES", 0)
    draws = [statistics.entropy(order, samples=30, seed=seed) for seed in range(1000)]
    for value, error in (("mean", "standard_error_mean"), ("mean_live", "standard_error_mean_live")):
        found = np.array([getattr(draw, value) for draw in draws])
        squared_errors = np.array([getattr(draw, error) ** 2 for draw in draws])
        assert abs(found.mean() - getattr(exact, value)) < 3 * found.std() / math.sqrt(len(found))
        assert squared_errors.mean() == pytest.approx(found.var(), rel=0.2)


def test_error_of_the_mean_is_of_independent_layers(monkeypatch):
    monkeypatch.setattr(entropy, "MAX_STATES", 100)
    result = psp_entropy(cases.conv_net(), *cases.data(60), order=3, samples=30)
    assert set(result.standard_errors) == {"first", "second"}
    assert result.standard_error_mean == pytest.approx(math.hypot(*result.standard_errors.values()) / 2)


def test_order_beyond_what_fits_a_word(monkeypatch):
    draw = torch.Generator().manual_seed(0)
    states = (torch.rand(20, 70, generator=draw) < 0.5).int().tolist()
    # All neurons together tell the 20 images apart.
    assert identity(states, [0] * 20, order=70, definition="agreement").mean == 0.0
    monkeypatch.setattr(entropy, "MAX_STATES", 0)
    result = identity(states, [0] * 20, order=65, samples=3)
    assert result.mean == pytest.approx(math.log2(20))
    assert result.standard_error_mean == pytest.approx(0, abs=1e-12)
    assert not result.exact


def test_functional_relus_count_as_modules_do():
    class Functional(nn.Module):
        def __init__(self, net):
            super().__init__()
            self.net = net

        def forward(self, images):
            hidden = torch.nn.functional.relu(self.net[1](images.flatten(1)))
            return self.net[5](self.net[3](hidden).relu_())

    net = cases.mlp(4)
    images, labels = cases.data(30)
    for order in (1, 2, 3):
        expected = psp_entropy(net, images, labels, order=order)
        found = psp_entropy(Functional(net), images, labels, order=order)
        assert list(found.per_layer) == ["relu", "relu_1"]
        assert list(found.per_layer.values()) == list(expected.per_layer.values())
        assert (found.mean, found.norm) == (expected.mean, expected.norm)


def test_relu_that_does_not_run_on_every_image():
    class Moody(nn.Sequential):
        def forward(self, images):
            return super().forward(images) if images.sum() > 0 else self[3](self[1](self[0](images)))

    net = cases.seeded(lambda: Moody(nn.Flatten(), nn.Linear(12, 4), nn.ReLU(), nn.Linear(4, 2)))
    images = torch.cat([torch.ones(4, 1, 4, 3), -torch.ones(4, 1, 4, 3)]).double()
    labels = torch.arange(8) % 2
    with pytest.raises(AnalysisError, match=r"ReLU net\.2 ran on 4 of 8 images"):
        psp_entropy(Always(net), images, labels, batch_size=4)


class Always(nn.Module):
    """A net with one more ReLU, which always runs."""

    def __init__(self, net):
        super().__init__()
        self.net, self.last = net, nn.ReLU()

    def forward(self, images):
        return self.last(self.net(images))


def test_relu_on_what_is_no_batch():
    class Gated(nn.Sequential):
        def forward(self, images):
            return super().forward(images) * self[1].weight.relu().sum()

    net = cases.seeded(lambda: Gated(nn.Flatten(), nn.Linear(12, 4), nn.ReLU(), nn.Linear(4, 3)))
    with pytest.raises(AnalysisError, match=r"ReLU relu ran on \[4, 12\] values in a batch of 2 images"):
        psp_entropy(net, *cases.data(9))


class Tokens(nn.Module):
    """A net that has its tokens before the images within."""

    def __init__(self):
        super().__init__()
        self.first, self.last, self.place = nn.Linear(1, 4), nn.Linear(4, 3), nn.Parameter(torch.randn(12, 1, 4))

    def forward(self, images):
        return self.last((self.first(images.flatten(1).T[:, :, None]) + self.place).relu().mean(0))


class Sorted(nn.Module):
    """A net that sorts the images within, and their logits back."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(12, 4), nn.Linear(4, 3)

    def forward(self, images):
        rows = images.flatten(1)
        order = rows.sum(1).argsort()
        return self.last(self.first(rows[order]).relu())[order.argsort()]


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (Tokens, r"the ReLU relu ran on \[12, 8\] values in a batch of 2 images; .*batch_first=True"),
        (Sorted, "an image's values in the ReLU relu depend on the others of its batch; .*in the order of the images"),
    ],
)
def test_rows_that_are_not_the_images_in_their_order_are_refused(build, message):
    net, (images, labels) = cases.seeded(build), cases.data(12)
    images = images[images.flatten(1).sum(1).argsort(descending=True)]
    for options in ({}, {"by_class": True}):
        with pytest.raises(AnalysisError, match=message):
            psp_entropy(net.double(), images, labels, **options)
    with pytest.raises(AnalysisError, match=message):
        PspEntropyMetric(net).update(images, labels)
    with pytest.raises(AnalysisError, match=message):
        loss_surface(net, cases.seeded(build, 1).double(), images, labels)


@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")
def test_a_layer_of_no_neurons_is_named_and_does_not_stop_other_measures() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(4, 0), nn.ReLU(), nn.Linear(0, 3), nn.ReLU(), nn.Linear(3, 2))
    images, labels = torch.randn(8, 1, 2, 2), torch.arange(8) % 2
    for measure in (psp_entropy, psp_statistics):
        with pytest.raises(AnalysisError, match="layer 2 has no neurons, and so no entropy; take it out of the model"):
            measure(net, images, labels)
    assert len(hessian_eigenvalues(net, images, labels).eigenvalues) > 0
