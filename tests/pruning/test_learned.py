"""Gates, scores, variances and thresholds: the formulas by hand."""

import copy
import dataclasses
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sharpminima.catalogue.methods.search import SearchSettings, SweepSettings, swept_method
from sharpminima.data import Split
from sharpminima.nets.masks import all_masks, count
from sharpminima.pruning import METHODS, Run
from sharpminima.pruning.dynamic.dst import LearningThresholds, Step, Thresholded
from sharpminima.pruning.engine.distribution import keep_best, survivors_at
from sharpminima.pruning.engine.mixture import CHUNK, merged, surprise
from sharpminima.pruning.engine.reparametrised import Learning, by_adam, by_sgd
from sharpminima.pruning.engine.search import SearchResult, search_result
from sharpminima.pruning.engine.straight_through import with_ties
from sharpminima.pruning.engine.variational import drawn_output, dropout_kl
from sharpminima.pruning.mask_learning.autoprune import Indicated
from sharpminima.pruning.mask_learning.continuous_sparsification import Hardening, Rounds
from sharpminima.pruning.mask_learning.edge_popup import Popup
from sharpminima.pruning.mask_learning.l0 import LIMIT, HardConcrete
from sharpminima.pruning.mask_learning.network_surgery import Operating, Surgery
from sharpminima.pruning.mask_learning.optimal_masks import Coins, Tossing
from sharpminima.pruning.mask_learning.straight_through_gates import DrawnGates
from sharpminima.pruning.mask_learning.supermask import Bernoulli
from sharpminima.pruning.mask_learning.variational_dropout import NoisyWeights
from sharpminima.pruning.penalty.soft_weight_sharing import Mixture, Sharing
from sharpminima.testing.task import small_run
from sharpminima.training import FlatModel, Optimiser

from .test_methods import pruned_by, settings_of

WEIGHT = torch.tensor([[1.0, -2.0, 3.0, -4.0]])
SWEEPS = [name for name, method in METHODS.items() if "strengths" in method.settings.model_fields]


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def logit(p: float) -> float:
    return math.log(p / (1 - p))


def run_of() -> Run:
    """One layer of four weights; ten images."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 1, bias=False))
    model[1].weight.data = WEIGHT.clone()
    part = Split(torch.ones(10, 1, 2, 2), torch.zeros(10, dtype=torch.int64))
    return Run(model, part, part, part, (0.5,), seed=0, augment=False)


def settings(name: str, **changes: Any) -> SearchSettings:
    return METHODS[name].settings(batch_size=1, epochs=2, **changes)


def fill(net: Any, values: list[float]) -> None:
    with torch.no_grad():
        net.of("1.weight").copy_(torch.tensor([values]))


def close(found: Tensor, expected: list[float]) -> None:
    torch.testing.assert_close(found, torch.tensor([expected]), rtol=1e-4, atol=1e-6)


def test_l0_gates_and_their_price() -> None:
    """Test gates: clip(1.2 sigmoid(log alpha) - .1); P(z != 0) = sigmoid(log alpha + 2/3 log 11)."""
    net = HardConcrete(run_of(), settings("l0", drop_input=0.2), 5.0).eval()
    assert net.of("1.weight")[0, 0].item() == pytest.approx(math.log(4), abs=0.05)
    fill(net, [0.0, -4.0, 4.0, logit(0.5)])
    close(net.weights()["1.weight"], [0.5, 0.0, 3.0, -2.0])
    assert net.masks()["1.weight"].tolist() == [[True, False, True, True]]
    edge = math.log(11) * 2 / 3
    expected = 5.0 / 10 * sum(sigmoid(x + edge) for x in (0, -4, 4, 0))
    assert net.penalty().item() == pytest.approx(expected, rel=1e-5)


def test_l0_gates_are_open_as_often_as_their_price_says() -> None:
    net = HardConcrete(run_of(), settings("l0"), 1.0)
    gate = net.gate(torch.full((100_000,), -0.5), torch.Generator().manual_seed(0))
    assert (gate > 0).double().mean().item() == pytest.approx(sigmoid(-0.5 + math.log(11) * 2 / 3), abs=0.005)


def test_l0_gates_of_units_and_where_they_start() -> None:
    """An input of a linear layer and a filter of a convolution have one gate, priced by their weights."""
    model = nn.Sequential(nn.Conv2d(1, 3, 2), nn.Flatten(), nn.Linear(3, 5, bias=False))
    run = dataclasses.replace(run_of(), model=model)
    net = HardConcrete(run, settings("l0", gates="unit"), 5.0).eval()
    assert [tuple(net.of(name).shape) for name in net.names] == [(3, 1, 1, 1), (1, 3)]
    assert net.of("0.weight").mean().item() == pytest.approx(logit(0.8), abs=0.03)
    assert net.of("2.weight").mean().item() == pytest.approx(logit(0.5), abs=0.03)
    with torch.no_grad():
        net.of("0.weight").fill_(5.0)
        net.of("2.weight").copy_(torch.tensor([[5.0, -5.0, 0.0]]))
    edge = math.log(11) * 2 / 3
    price = 3 * 4 * sigmoid(5 + edge) + 5 * sum(sigmoid(x + edge) for x in (5, -5, 0))
    assert net.penalty().item() == pytest.approx(5.0 / 10 * price, rel=1e-5)
    weights, masks = net.weights(), net.masks()
    assert masks["2.weight"].tolist() == [[True, False, True]] * 5
    assert masks["0.weight"].all()
    torch.testing.assert_close(weights["2.weight"][:, 2], 0.5 * model[2].weight[:, 2])


class Backwards(nn.Module):
    """Its last layer is the first among its modules."""

    def __init__(self) -> None:
        super().__init__()
        self.head, self.body = nn.Linear(3, 2), nn.Linear(4, 3)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.body(images.flatten(1)).relu())


def test_l0_gates_are_more_open_in_the_layer_that_runs_first() -> None:
    net = HardConcrete(dataclasses.replace(run_of(), model=Backwards()), settings("l0"), 1.0)
    assert net.of("body.weight").mean().item() == pytest.approx(logit(0.8), abs=0.03)
    assert net.of("head.weight").mean().item() == pytest.approx(logit(0.5), abs=0.03)


@pytest.mark.parametrize("rate", [1e-2, 1e-3])
def test_a_useless_l0_gate_closes_within_the_budget(rate: float) -> None:
    """54,000 images, lambda .1: log alpha falls from log 4 to log 1/11 and stays over log 1/100.

    By Adam's rate a step that is 378 steps at .01; a few less, as the price of a gate grows while it closes. By SGD at
    100 times the learning rate it took 157,000; four epochs have 2,160.
    """
    part = Split(torch.zeros(54_000, 1, 2, 2), torch.zeros(54_000, dtype=torch.int64))
    run = dataclasses.replace(run_of(), training=part)
    chosen = METHODS["l0"].settings(gate_lr=rate)
    net = HardConcrete(run, chosen, 0.1)
    flat = FlatModel(net)
    added = by_adam(chosen, chosen.gate_lr)
    policy = Learning(run, chosen, flat, added=added, bounds=(-LIMIT, LIMIT))
    optimiser = Optimiser(flat, policy.update_groups)

    def steps_until(lowest: float) -> int:
        taken = 0
        while net.of("1.weight").max() > lowest and taken < 10_000:
            flat.gradients.zero_()
            policy.before_step(flat, torch.empty(0), torch.empty(0))
            optimiser.step(policy.lr)
            policy.after_step(flat)
            taken += 1
        return taken

    taken = steps_until(logit(1 / 12))
    assert 0.7 < taken * rate / math.log(44) < 1
    assert not net.eval().masks()["1.weight"].any()
    if rate == 1e-2:
        steps_until(-4.6)
        for _ in range(20):
            optimiser.step(policy.lr)
            policy.after_step(flat)
        assert net.of("1.weight").min().item() == pytest.approx(-math.log(100))


def test_variational_dropout_kl_and_what_it_removes() -> None:
    """log alpha = log sigma^2 - log w^2: 0, 2.9 stays, 3.1 goes, and the bound of 8."""
    chosen = settings("variational_dropout", wait=0.0, warm_up=1.0, train_clip=False)
    net = NoisyWeights(run_of(), chosen, 2.0).eval()
    logs = [2 * math.log(abs(w)) for w in WEIGHT[0].tolist()]
    fill(net, [logs[0], logs[1] + 2.9, logs[2] + 3.1, logs[3] + 20])
    close(net.log_alpha("1.weight"), [0.0, 2.9, 3.1, 8.0])
    close(net.weights()["1.weight"], [1.0, -2.0, 0.0, 0.0])

    def by_hand(a: float) -> float:
        return -(0.63576 * sigmoid(1.8732 + 1.48695 * a) - 0.5 * math.log(1 + math.exp(-a)) - 0.63576)

    assert dropout_kl(torch.tensor(2.9)).item() == pytest.approx(by_hand(2.9), rel=1e-4)
    net.step.fill_(5)  # of 20 steps of warming up
    expected = 2.0 / 10 * 0.25 * sum(by_hand(a) for a in (0.0, 2.9, 3.1, 8.0))
    assert net.penalty().item() == pytest.approx(expected, rel=1e-4)


def test_variational_dropout_waits_warms_up_and_clips() -> None:
    """None for 5 steps, then KL grows over 10. What is clipped is zero, has no KL; a linear layer keeps its noise."""
    net = NoisyWeights(run_of(), settings("variational_dropout", wait=0.25, warm_up=0.5), 10.0)
    logs = [2 * math.log(abs(w)) for w in WEIGHT[0].tolist()]
    fill(net, [logs[0], logs[1] + 2.9, logs[2] + 3.1, logs[3] + 20])
    close(net.weights()["1.weight"], [1.0, -2.0, 0.0, 0.0])
    close(net.variance("1.weight"), [1.0, 4 * math.exp(2.9), 9 * math.exp(3.1), 16 * math.exp(8)])
    both = (dropout_kl(torch.tensor(0.0)) + dropout_kl(torch.tensor(2.9))).item()
    for step, warmth in [(0, 0.0), (5, 0.0), (10, 0.5), (15, 1.0), (20, 1.0)]:
        net.step.fill_(step)
        assert net.penalty().item() == pytest.approx(warmth * both, rel=1e-4)
    net.penalty().backward()
    assert (net.of("1.weight").grad != 0).tolist() == [[True, True, False, False]]
    run = dataclasses.replace(run_of(), model=nn.Sequential(nn.Conv2d(1, 2, 2, bias=False), nn.Flatten()))
    convolution = NoisyWeights(run, settings("variational_dropout"), 1.0)
    with torch.no_grad():
        convolution.of("0.weight")[0].fill_(10.0)
    assert not convolution.variance("0.weight")[0].any()
    assert (convolution.variance("0.weight")[1] > 0).all()


def test_variational_dropout_draws_outputs_with_the_right_spread() -> None:
    """Mean w x = -2 for ones; variance sum of sigma^2 = .04."""
    net = NoisyWeights(run_of(), settings("variational_dropout"), 1.0)
    fill(net, [math.log(0.01)] * 4)
    outputs = net(torch.ones(50_000, 1, 2, 2))
    assert outputs.mean().item() == pytest.approx(-2.0, abs=0.005)
    assert outputs.var().item() == pytest.approx(0.04, rel=0.03)
    assert torch.equal(net.eval()(torch.ones(1, 1, 2, 2)), torch.tensor([[-2.0]]))


@pytest.mark.parametrize("padding_mode", ["zeros", "reflect", "replicate", "circular"])
def test_drawn_outputs_have_the_padding_of_their_layer(padding_mode: str) -> None:
    """An image of ones, 3x3 weights of variance .01: .09 where nine pixels are met, at a corner of zeros four."""
    layer = nn.Conv2d(1, 1, 3, padding=1, padding_mode=padding_mode, bias=False)
    ones = torch.ones(20_000, 1, 3, 3)
    draws = torch.Generator().manual_seed(0)
    found = drawn_output(layer, ones, layer(ones), torch.full((1, 1, 3, 3), 0.01), draws).var(0)
    met = F.conv2d(torch.ones(1, 1, 3, 3), torch.ones(1, 1, 3, 3), padding=1)[0]
    expected = 0.01 * (met if padding_mode == "zeros" else torch.full_like(met, 9.0))
    torch.testing.assert_close(found.detach(), expected, rtol=0.05, atol=0)


def test_dst_step_and_its_long_tail() -> None:
    x = torch.tensor([-1.5, -0.7, -0.2, 0.1, 0.4, 0.9, 2.0], requires_grad=True)
    y = Step.apply(x)
    y.sum().backward()
    assert y.tolist() == [0, 0, 0, 1, 1, 1, 1]
    assert x.grad.tolist() == pytest.approx([0.0, 0.4, 1.2, 1.6, 0.4, 0.4, 0.0])


def test_dst_thresholds() -> None:
    run = run_of()
    net = Thresholded(run, 0.5)
    with torch.no_grad():
        net.of("1.weight").fill_(2.5)
    close(net.weights()["1.weight"], [0.0, 0.0, 3.0, -4.0])
    assert net.penalty().item() == pytest.approx(0.5 * math.exp(-2.5))
    flat = FlatModel(net)
    policy = LearningThresholds(run, settings("dst"), flat)
    policy.after_step(flat)
    assert net.of("1.weight").item() == 2.5
    with torch.no_grad():
        net.of("1.weight").fill_(5.0)
    policy.after_step(flat)  # nothing would be left
    assert net.of("1.weight").item() == 0.0


def test_dst_opens_no_tensor_in_the_last_epoch() -> None:
    """200 weights of 1/200, 2/200, ...; thresholds over all: the last ten steps keep 1 %, those before all."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(100, 2, bias=False))
    model[1].weight.data = torch.arange(1, 201).view(2, 100) / 200.0
    run = dataclasses.replace(run_of(), model=model)
    net = Thresholded(run, 0.5)
    flat = FlatModel(net)
    policy = LearningThresholds(run, settings("dst"), flat)
    assert policy.total_steps == 20
    left = []
    for _ in range(20):
        with torch.no_grad():
            net.of("1.weight").fill_(2.0)
        policy.after_step(flat)
        left.append(int(net.masks()["1.weight"].sum()))
    assert left == [200] * 10 + [2] * 10
    assert net.masks()["1.weight"].flatten()[-2:].tolist() == [True, True]


def test_edge_popup_uses_the_best_scores_and_trains_them_alone() -> None:
    run = run_of()
    net = Popup(run, settings("edge_popup"), 0.5)
    fill(net, [0.1, -0.9, 0.5, 0.2])
    close(net.weights()["1.weight"], [0.0, -2 * math.sqrt(2), 3 * math.sqrt(2), 0.0])
    net(torch.ones(1, 1, 2, 2)).sum().backward()
    # The gradient of a score is that of its mask, by the sign of the score: also where it does not act.
    close(net.of("1.weight").grad, [math.sqrt(2), 2 * math.sqrt(2), 3 * math.sqrt(2), -4 * math.sqrt(2)])


def test_edge_popup_rescales_each_tensor_by_its_own_share() -> None:
    """Of 4 and 2 weights the best 3 act: 1 of the first, both of the second, which has nothing to make up for."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 1, bias=False), nn.Linear(1, 2, bias=False))
    net = Popup(dataclasses.replace(run_of(), model=model), settings("edge_popup", distribution="global"), 0.5)
    fill(net, [0.1, 0.9, 0.2, 0.3])
    with torch.no_grad():
        net.of("2.weight").copy_(torch.tensor([[0.8], [0.7]]))
    weights = net.weights()
    close(weights["1.weight"].detach(), [0.0, 2 * net.base("1.weight")[0, 1].item(), 0.0, 0.0])
    torch.testing.assert_close(weights["2.weight"], net.base("2.weight"))


def test_supermask_starts_at_the_density_and_rescales() -> None:
    net = Bernoulli(run_of(), settings("supermask"), 0.75)
    assert net.of("1.weight").sigmoid()[0, 0].item() == pytest.approx(0.25)
    drawn = torch.cat([net(torch.ones(1, 1, 2, 2)) for _ in range(3)])
    assert torch.isfinite(drawn).all()
    fill(net, [0.0, 3.0, -1.0, 1.0])
    close(net.eval().weights()["1.weight"], [0.0, -8.0, 0.0, 0.0])  # one of four acts: times 4


def test_supermask_keeps_at_most_the_number_asked_for_and_nothing_that_was_not_pulled_up() -> None:
    """Three of four asked for: two have s > 0; of three that have it and tie, two if two are asked for, the larger."""
    net = Bernoulli(run_of(), settings("supermask"), 0.25).eval()
    fill(net, [-0.1, 0.5, 1e-3, -3.9])
    assert net.best_masks()["1.weight"].tolist() == [[False, True, True, False]]
    close(net.weights()["1.weight"], [0.0, -4.0, 6.0, 0.0])
    net = Bernoulli(run_of(), settings("supermask"), 0.5)
    assert not net.best_masks()["1.weight"].any()  # at the start, where the density is a half, s = 0
    fill(net, [0.7, 0.7, 0.7, -0.7])
    assert net.best_masks()["1.weight"].tolist() == [[False, True, True, False]]


@pytest.mark.parametrize(("distribution", "shared"), [("global", 59), ("layerwise", 20)])
def test_supermask_keeps_what_was_pulled_up_wherever_it_is(distribution: str, shared: int) -> None:
    """Of 600 weights 60 are asked for. Thirty above 0 all stay, 29 of them in a layer of 200; of 61 the highest."""
    run = dataclasses.replace(
        run_of(), model=nn.Sequential(nn.Flatten(), nn.Linear(4, 100), nn.ReLU(), nn.Linear(100, 2))
    )
    net = Bernoulli(run, settings("supermask", distribution=distribution), 0.9)

    def kept(above: int) -> list[int]:
        with torch.no_grad():
            for name, number in {"1.weight": 1, "3.weight": above}.items():
                net.of(name).fill_(-1.0).flatten()[:number] = 1.0
        return [int(mask.sum()) for mask in net.best_masks().values()]

    assert kept(29) == [1, 29]
    assert kept(60) == [1, shared]


def test_optimal_masks_keep_the_larger_of_equal_scores() -> None:
    ranked = with_ties({"a": torch.tensor([0.0, 0.0, 1.0])}, {"a": torch.tensor([0.1, -3.0, 0.0])})["a"]
    assert ranked.argsort(descending=True).tolist() == [2, 1, 0]


def test_continuous_sparsification_hardens_and_softens_between_rounds() -> None:
    """Two rounds of 10 steps; beta 1 at a round's start, 200 at its end."""
    run = run_of()
    chosen = settings("continuous_sparsification", s0=0.1, rounds=2)
    net = Hardening(run, chosen, 0.5)
    fill(net, [0.0, 1.0, -1.0, 0.1])
    start = sigmoid(0.1)
    net.step.fill_(1)
    close(
        net.weights()["1.weight"],
        [0.5 / start, -2 * sigmoid(1) / start, 3 * sigmoid(-1) / start, -4 * sigmoid(0.1) / start],
    )
    assert net.penalty().item() == pytest.approx(0.5 / start * (0.5 + sigmoid(1) + sigmoid(-1) + sigmoid(0.1)))
    net.step.fill_(10)
    assert net.beta == pytest.approx(200)
    net.step.fill_(11)
    assert net.beta == pytest.approx(1)
    close(net.eval().weights()["1.weight"], [0.0, -2 / start, 0.0, -4 / start])
    flat = FlatModel(net)
    policy = Rounds(run, chosen, flat)
    policy.steps = 9
    policy.after_step(flat)
    close(net.of("1.weight").detach(), [0.0, 0.1, -200.0, 0.1])
    policy.steps = 19
    policy.after_step(flat)  # the end: scores decide
    close(net.of("1.weight").detach(), [0.0, 0.1, -200.0, 0.1])


def test_optimal_masks_pretrain_then_move_b_alone() -> None:
    """alpha 2: b falls by 2 clip(dL/dc + lambda, -.1, .1), and stays within 15."""
    run = run_of()
    chosen = settings("optimal_masks", alpha=2.0, strength=0.01, pretraining=0.25)
    net = Coins(run, chosen)
    assert net.pretraining == 5
    flat = FlatModel(net)
    policy = Tossing(run, chosen, flat)
    net.step.fill_(5)
    assert net.weights() == {}
    net.step.fill_(6)
    fill(net, [0.0, 14.95, 20.0, -20.0])
    drawn = net.weights()["1.weight"]
    assert drawn[0, 2:].tolist() == [3.0, 0.0]
    flat.gradients.zero_()
    flat.view(flat.gradients, "added.1_weight").copy_(torch.tensor([[0.03, -0.5, 0.5, 0.0]]))
    flat.view(flat.gradients, "model.1.weight").fill_(7.0)
    policy.before_step(flat, torch.empty(0), torch.empty(0))
    Optimiser(flat, policy.update_groups).step(policy.lr)
    policy.after_step(flat)
    close(net.of("1.weight").detach(), [-0.08, 15.0, 15.0, -15.0])
    close(net.base("1.weight").detach(), WEIGHT[0].tolist())


def test_network_surgery_cuts_and_splices_by_two_thresholds() -> None:
    """|w| of 1 to 4: mean 2.5, sigma sqrt(1.25), so that with c = .5 T is 3.06: under 2.75 out, over 3.37 in."""
    net = Surgery(run_of(), 0.5)
    assert net.thresholds["1.weight"] == pytest.approx(2.5 + 0.5 * math.sqrt(1.25))
    assert net.acting("1.weight").tolist() == [[False, False, True, True]]
    with torch.no_grad():
        net.base("1.weight").copy_(torch.tensor([[3.0, -3.5, 3.0, -2.7]]))  # between the two nothing changes
    net.operate("1.weight")
    assert net.acting("1.weight").tolist() == [[False, True, True, False]]
    close(net.weights()["1.weight"].detach(), [0.0, -3.5, 3.0, 0.0])
    net.weights()["1.weight"].sum().backward()
    close(net.base("1.weight").grad, [1.0] * 4)  # what is cut off is trained too
    with torch.no_grad():
        net.base("1.weight").copy_(torch.tensor([[0.1, -0.3, 0.2, 0.0]]))
    net.operate("1.weight")
    assert net.acting("1.weight").tolist() == [[False, True, False, False]]  # the largest, for want of others


class Namesakes(nn.Module):
    """Two layers whose names are one without dots."""

    def __init__(self) -> None:
        super().__init__()
        self.fc_1, self.fc = nn.Linear(2, 2, bias=False), nn.Sequential(nn.ReLU(), nn.Linear(2, 2, bias=False))
        self.fc_1.weight.data = torch.tensor([[9.0, 9.0], [0.1, 0.1]])
        self.fc[1].weight.data = torch.tensor([[0.1, 0.1], [9.0, 9.0]])

    def forward(self, images: Tensor) -> Tensor:
        return self.fc(self.fc_1(images.flatten(1)[:, :2]))


def test_layers_of_one_name_but_for_dots_have_gates_and_masks_of_their_own() -> None:
    run = dataclasses.replace(small_run(), model=Namesakes())
    gates = HardConcrete(run, settings("l0"), 1.0)
    assert gates.of("fc_1.weight") is not gates.of("fc.1.weight")
    assert list(gates.added) == ["fc_1_weight", "fc_1_weight_"]
    net = Surgery(run, 0.0)
    assert net.acting("fc_1.weight").tolist() == [[True, True], [False, False]]
    assert net.acting("fc.1.weight").tolist() == [[False, False], [True, True]]
    assert [name for name, _ in Surgery(run_of(), 0.5).named_buffers()] == ["step", "mask_1_weight"]  # as ever


def test_network_surgery_operates_ever_more_seldom_and_stops() -> None:
    """gamma 1, p 1: with probability 1 / (1 + t) in step t; of 1 to 99 about ln 100 - .42 = 4.2."""
    chosen = settings("network_surgery", gamma=1.0, stop=100)
    net = Surgery(run_of(), 0.5)
    flat = FlatModel(net)
    policy, operated = Operating(run_of(), chosen, flat), []
    net.operate = lambda name: operated.append(policy.steps)  # type: ignore[method-assign]
    for _ in range(300):
        policy.after_step(flat)
    assert 1 <= len(operated) <= 10
    assert max(operated) < 100
    always = Operating(run_of(), settings("network_surgery", gamma=0.0, stop=100), flat)
    for _ in range(300):
        always.after_step(flat)
    assert len(operated) == pytest.approx(99, abs=10)


def test_straight_through_gates_and_their_price() -> None:
    """lambda_2 .1, lambda_1 .05; draws let 1 act and 0 not, in eval mode at least 1/2 acts; clipped to [0, 1]."""
    run, chosen = run_of(), settings("straight_through_gates", deciding=0.5, rate=10.0)
    net = DrawnGates(run, chosen, 0.1)
    assert net.of("1.weight").tolist() == [[1.0] * 4]
    fill(net, [1.0, 0.0, 0.5, 0.4])
    assert net.weights()["1.weight"][0, :2].tolist() == [1.0, 0.0]
    assert net.penalty().item() == pytest.approx(0.05 * (0.25 + 0.24) + 0.1 * 1.9)
    net.weights()["1.weight"].sum().backward()
    close(net.of("1.weight").grad, WEIGHT[0].tolist())
    close(net.eval().weights()["1.weight"].detach(), [1.0, 0.0, 3.0, 0.0])
    flat = FlatModel(net)
    policy = Learning(run, chosen, flat, added=by_sgd(chosen, chosen.rate), bounds=(0.0, 1.0))
    flat.gradients.zero_()
    flat.view(flat.gradients, "added.1_weight").copy_(torch.tensor([[-1.0, 1.0, 0.1, 0.0]]))
    Optimiser(flat, policy.update_groups).step(policy.lr)
    policy.after_step(flat)
    close(net.of("1.weight").detach(), [1.0, 0.0, 0.4, 0.4])


def test_straight_through_gates_act_as_often_as_they_say() -> None:
    run = dataclasses.replace(run_of(), model=nn.Sequential(nn.Flatten(), nn.Linear(4, 5000, bias=False)))
    net = DrawnGates(run, settings("straight_through_gates"), 0.1)
    with torch.no_grad():
        net.of("1.weight").fill_(0.3)
    assert (net.weights()["1.weight"] != 0).double().mean().item() == pytest.approx(0.3, abs=0.01)


def test_a_closed_gate_acts_in_no_draw(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draws are 0 once in 2^24, of which a search of LeNet-300 has hundreds; a gate of 1 acts whatever is drawn."""
    net = DrawnGates(run_of(), settings("straight_through_gates"), 0.1)
    fill(net, [0.0, 1e-7, 1.0, 1.0])
    monkeypatch.setattr(torch, "rand", lambda shape, generator: torch.tensor([[0.0, 0.0, 0.0, 1 - 2**-24]]))
    assert (net.weights()["1.weight"] != 0).tolist() == [[False, True, True, True]]


@pytest.mark.parametrize("surrogate", ["softplus", "leaky_relu"])
def test_autoprune_leaves_the_size_of_weights_out_of_the_gradient(surrogate: str) -> None:
    """Loss 3 sum t: dL/dm = 3 sign(w) s'(m), and mu s'(m) from the penalty."""
    net = Indicated(run_of(), settings("autoprune", surrogate=surrogate), 0.2)
    fill(net, [2.0, 0.5, -1.0, -0.1])
    acting = net.weights()["1.weight"]
    close(acting.detach(), [1.0, -2.0, 0.0, 0.0])
    (3 * acting).sum().backward()
    close(net.base("1.weight").grad, [3.0, 3.0, 0.0, 0.0])
    slopes = [sigmoid(m) for m in (2, 0.5, -1, -0.1)] if surrogate == "softplus" else [1.0, 1.0, 0.01, 0.01]
    signs = [1, -1, 1, -1]
    close(net.of("1.weight").grad, [3 * sign * slope for sign, slope in zip(signs, slopes, strict=True)])
    net.of("1.weight").grad = None
    assert net.penalty().item() == pytest.approx(0.4)
    net.penalty().backward()
    close(net.of("1.weight").grad, [0.2 * slope for slope in slopes])
    assert net.masks()["1.weight"].tolist() == [[True, True, False, False]]


def a_mixture() -> Mixture:
    """At 0 with a share of .9, at .5 and at 2 with .075 and .025; sigma .5, 1 and 2."""
    net = Mixture(run_of(), settings("soft_weight_sharing", components=3, zero=0.9), 5.0)
    with torch.no_grad():
        net.of("means").copy_(torch.tensor([0.5, 2.0]))
        net.of("log_sigma").copy_(torch.tensor([0.5, 1.0, 2.0]).log())
        net.of("logits").copy_(torch.tensor([math.log(3), 0.0]))
    return net


def test_soft_weight_sharing_is_a_mixture_and_gamma_priors() -> None:
    """tau 5, ten images; against torch's own distributions, in which Gamma's constants are left out."""
    net = a_mixture()
    components = torch.distributions.Normal(torch.tensor([0.0, 0.5, 2.0]), torch.tensor([0.5, 1.0, 2.0]))
    shares = torch.distributions.Categorical(torch.tensor([0.9, 0.075, 0.025]))
    log_p = torch.distributions.MixtureSameFamily(shares, components).log_prob(WEIGHT).sum()
    precision = torch.tensor([4.0, 1.0, 0.25])
    shape, rate = torch.tensor([5e3, 250.0, 250.0]), torch.tensor([2.0, 0.1, 0.1])
    gamma = torch.distributions.Gamma(shape, rate)
    constants = shape * rate.log() - torch.lgamma(shape)
    expected = -(log_p + (gamma.log_prob(precision) - constants).sum()) * 5.0 / 10
    assert net.penalty().item() == pytest.approx(expected.item(), rel=1e-4)


@pytest.mark.parametrize("narrow", [0.0, 3.5])
@pytest.mark.parametrize("weights", [1, 50, 2 * CHUNK + 3])
def test_the_mixtures_own_gradients_are_those_of_its_distributions(weights: int, narrow: float) -> None:
    """Of weights, means, log sigmas and logits of the shares, against autograd through torch's distributions.

    Narrow components are responsible for far weights by less than the least number.
    """
    draws = torch.Generator().manual_seed(weights)
    values = torch.randn(weights, generator=draws, dtype=torch.float64)
    means, log_sigma, logits = torch.randn(3, 5, generator=draws, dtype=torch.float64)
    log_sigma -= narrow
    given = [each.requires_grad_() for each in (values, means, log_sigma, logits)]
    shares = torch.distributions.Categorical(logits=logits)
    whole = torch.distributions.MixtureSameFamily(shares, torch.distributions.Normal(means, log_sigma.exp()))
    expected = -whole.log_prob(values).sum()
    found = surprise(values, means, log_sigma, logits.log_softmax(0))
    torch.testing.assert_close(found, expected)
    pairs = zip(torch.autograd.grad(3 * found, given), torch.autograd.grad(3 * expected, given), strict=True)
    for gradient, right in pairs:
        torch.testing.assert_close(gradient, right)


def test_soft_weight_sharing_snaps_weights_to_the_likeliest_mean() -> None:
    """.9 N(1; 0, .5) = .097 is more than .075 N(1; .5, 1) = .026; at -2 that has more than the widest."""
    assert a_mixture().snapped()["1.weight"].tolist() == [[0.0, 0.5, 2.0, 2.0]]
    net = a_mixture()
    with torch.no_grad():
        net.of("means").fill_(2.0)
        net.of("log_sigma")[1] = net.of("log_sigma")[2]
    assert merged(net.means(), net.of("log_sigma")).tolist() == [0, 1, 1]
    net.of("means").data[1] += 1e-6  # a divergence of 2.5e-13
    assert merged(net.means(), net.of("log_sigma")).tolist() == [0, 1, 1]
    assert net.snapped()["1.weight"][0, 2].item() == pytest.approx(2.0)
    net.of("means").data[1] += 0.1
    assert merged(net.means(), net.of("log_sigma")).tolist() == [0, 1, 2]
    assert merged(torch.zeros(2), torch.tensor([0.0, 1e-4])).tolist() == [0, 1]  # 2e-8


def test_soft_weight_sharing_trains_each_part_at_its_rate() -> None:
    """Adam's first step is the rate, whatever the gradient: 3e-3 for log precision, which is -2 log sigma."""
    run, chosen = run_of(), settings("soft_weight_sharing")
    net = Mixture(run, chosen, 5.0)
    flat = FlatModel(net)
    policy = Sharing(run, chosen, flat)
    before = {name: value.detach().clone() for name, value in net.named_parameters()}
    flat.gradients.fill_(1.0)
    Optimiser(flat, policy.update_groups).step(policy.lr)
    for name, rate in {
        "model.1.weight": 5e-4,
        "added.means": 1e-4,
        "added.log_sigma": 1.5e-3,
        "added.logits": 3e-3,
    }.items():
        torch.testing.assert_close(net.get_parameter(name).detach(), before[name] - rate)


@pytest.mark.parametrize("name", ["supermask", "edge_popup"])
def test_a_part_of_the_untrained_net_is_found(name: str) -> None:
    """Each survivor is W0 times one factor a tensor, and what is not pruned is W0 itself."""
    initial = small_run().model.state_dict()
    for state in pruned_by(name).levels.values():
        for key, mask in state.masks.items():
            ratios = (state.state[key] / initial[key])[mask]
            torch.testing.assert_close(ratios, ratios[:1].expand_as(ratios))
        assert torch.equal(state.state["1.bias"], initial["1.bias"])


@pytest.mark.parametrize("name", SWEEPS)
def test_a_stronger_pull_removes_more_and_levels_take_the_best_by_validation_that_reached_them(name: str) -> None:
    pruned = pruned_by(name)
    assert [event["strength"] for event in pruned.events] == list(settings_of(name).strengths)
    sparsities = [event["sparsity"] for event in pruned.events]
    assert sparsities == sorted(sparsities)  # in so small a task
    for level, state in pruned.levels.items():
        reached = [event for event in pruned.events if event["sparsity"] >= level]
        assert state.reached == bool(reached)
        best = min(reached, key=lambda event: event["validation_loss"]) if reached else pruned.events[-1]
        assert state.facts["event"] == best["event"]


def test_a_level_has_the_best_by_validation_of_the_nets_that_reached_it() -> None:
    """Neither the weakest strength nor the least sparse net; what did not reach it may err as little as it likes."""
    came_to = {0.1: (0.6, 0.3), 0.2: (0.3, 0.1), 0.3: (0.9, 0.2), 0.4: (0.8, 0.4)}  # share removed, validation loss

    def search(run: Run, strength: float, settings: Any, resume: Any) -> SearchResult:
        share, loss = came_to[strength]
        flat = FlatModel(copy.deepcopy(run.model))
        masks = all_masks(flat.model)
        scores = {name: flat.view(flat.values, name).abs() for name in masks}
        kept = keep_best(scores, survivors_at(share, count(masks)[1]), "global")
        return search_result(flat, kept, [{"epoch": 1, "validation_loss": loss}])

    swept = swept_method("mine", search, SweepSettings, "Someone (2026)", "penalty")
    run = dataclasses.replace(small_run(), levels=(0.2, 0.5, 0.7, 0.85, 0.95))
    pruned = swept.prune(run, SweepSettings(batch_size=20, epochs=1, strengths=sorted(came_to), recipe=None))
    chosen = {level: pruned.events[state.facts["event"] - 1]["strength"] for level, state in pruned.levels.items()}
    assert chosen == {0.2: 0.2, 0.5: 0.3, 0.7: 0.3, 0.85: 0.3, 0.95: 0.3}
    assert [state.reached for state in pruned.levels.values()] == [True, True, True, True, False]
