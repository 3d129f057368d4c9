"""One step of each penalty, by hand."""

import copy
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sharpminima.base.errors import ConfigError
from sharpminima.data import Split
from sharpminima.nets.compaction import Units
from sharpminima.nets.evaluation import Evaluation
from sharpminima.nets.models.resnet import ResNetCifar
from sharpminima.pruning import METHODS, Run
from sharpminima.pruning.engine.trainings import Trainings, fit_dense
from sharpminima.pruning.penalty.global_sparse_momentum import ActiveGradients
from sharpminima.pruning.penalty.group_lasso import GroupLasso
from sharpminima.pruning.penalty.joint_sparsity import TrainedDecay
from sharpminima.pruning.penalty.l1 import Lasso
from sharpminima.pruning.penalty.l_half import HalfPower
from sharpminima.pruning.penalty.learning_compression import Coupled
from sharpminima.pruning.penalty.penalised import Penalised
from sharpminima.pruning.penalty.sensitivity import SensitivityDecay
from sharpminima.pruning.penalty.serene import NeuronDecay
from sharpminima.pruning.penalty.slimming import Gated
from sharpminima.pruning.penalty.swd import SelectiveDecay
from sharpminima.pruning.penalty.vacl import CrossLayer
from sharpminima.pruning.penalty.weight_elimination import Elimination
from sharpminima.testing.task import small_run
from sharpminima.training import FlatModel

IMAGES, LABELS = torch.tensor([[[[1.0, 2.0]]], [[[3.0, 0.0]]]]), torch.tensor([0, 1])


def two_layers() -> nn.Module:
    model = nn.Sequential(nn.Flatten(), nn.Linear(2, 2, bias=False), nn.ReLU(), nn.Linear(2, 2, bias=False))
    model[1].weight.data = torch.tensor([[3.0, 4.0], [0.5, -0.5]])
    model[3].weight.data = torch.tensor([[0.1, -2.0], [0.3, 0.0]])
    return model


class Twice(nn.Module):
    """Two convolutions of one filter whose outputs are added, and a reader."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(1, 1, 3, padding=1), nn.Conv2d(1, 1, 3, padding=1)
        self.reader = nn.Linear(1, 2)

    def forward(self, images: Tensor) -> Tensor:
        return self.reader((self.first(images) + self.second(images)).relu().mean((2, 3)))


def a_policy(kind: type[Penalised], name: str, level: float = 0.5, **settings: Any) -> tuple[Any, FlatModel]:
    model = two_layers()
    part = Split(IMAGES, LABELS)
    flat = FlatModel(model)
    chosen = METHODS[name].settings(batch_size=1, epochs=1, **settings)
    return kind(Run(model, part, part, part, (level,), seed=0, augment=False), chosen, flat, level), flat


def test_l1_adds_the_sign() -> None:
    policy, flat = a_policy(Lasso, "l1", strength=0.1)
    policy.before_step(flat, IMAGES, LABELS)
    assert flat.view(flat.gradients, "1.weight").flatten().tolist() == pytest.approx([0.1, 0.1, 0.1, -0.1])
    assert flat.view(flat.gradients, "3.weight").flatten().tolist() == pytest.approx([0.1, -0.1, 0.1, 0.0])


def test_group_lasso_adds_rows_and_columns_by_their_norms() -> None:
    policy, flat = a_policy(GroupLasso, "group_lasso", strength=1.0)
    policy.before_step(flat, IMAGES, LABELS)
    found = flat.view(flat.gradients, "1.weight")
    assert found[0, 0].item() == pytest.approx(3 / 5 + 3 / math.hypot(3, 0.5))
    assert found[1, 1].item() == pytest.approx(-0.5 / math.hypot(0.5, 0.5) - 0.5 / math.hypot(4, 0.5))
    assert flat.view(flat.gradients, "3.weight")[1, 1].item() == 0.0


def test_vacl_is_the_mean_and_the_variance_of_the_norms_of_joined_filters() -> None:
    """Against autograd; of ResNet-8 the first stage has two convolutions with joined filters, and one by itself."""
    model = ResNetCifar(8, 3)
    part = Split(torch.zeros(2, 3, 8, 8), LABELS)
    chosen = METHODS["vacl"].settings(batch_size=1, epochs=1, strength=0.1, variance=2.0)
    flat = FlatModel(model)
    policy = CrossLayer(Run(model, part, part, part, (0.5,), seed=0, augment=False), chosen, flat, 0.5)
    with torch.no_grad():
        model.stage1[0].conv1.weight[3] = 0.0
    joined = {group.name: list(group.makers) for group in policy._groups}
    assert joined["conv1"] == ["conv1", "stage1.0.conv2", "stage2.0.conv2", "stage3.0.conv2"]
    assert joined["stage1.0.conv1"] == ["stage1.0.conv1"]
    weights = {name: flat.view(flat.values, name).clone().requires_grad_() for name in policy.names}

    def penalty(group: Units) -> Tensor:
        norms = [
            weights[f"{layer}.weight"][places].square().sum((1, 2, 3)).clamp(min=1e-30).sqrt()
            for layer, places in group.makers.items()
        ]
        return sum(n.mean() + 2.0 * n.var(correction=0) for n in torch.stack(norms).unbind(1))

    (0.1 * sum(penalty(group) for group in policy._groups)).backward()
    flat.gradients.zero_()
    policy.before_step(flat, part.images, LABELS)
    for name, weight in weights.items():
        expected = torch.zeros_like(weight) if weight.grad is None else weight.grad
        torch.testing.assert_close(flat.view(flat.gradients, name), expected)
    assert not flat.view(flat.gradients, "fc.weight").any()


def test_vacl_draws_the_filters_of_a_group_together() -> None:
    """By the penalty alone norms of 2 and 1 meet, where gamma is large, before they vanish."""
    model = Twice()
    part = Split(torch.zeros(2, 1, 4, 4), LABELS)
    flat = FlatModel(model)
    chosen = METHODS["vacl"].settings(batch_size=1, epochs=1, strength=1.0, variance=5.0)
    policy = CrossLayer(Run(model, part, part, part, (0.5,), seed=0, augment=False), chosen, flat, 0.5)

    def norms() -> list[float]:
        return [layer.weight[0].norm().item() for layer in (model.first, model.second)]

    with torch.no_grad():
        model.first.weight.mul_(2 / model.first.weight[0].norm())
        model.second.weight.mul_(1 / model.second.weight[0].norm())
        for _ in range(60):
            flat.gradients.zero_()
            policy.before_step(flat, part.images, LABELS)
            flat.values.sub_(flat.gradients, alpha=0.01)
    first, second = norms()
    assert 1.0 < second < first < 1.5
    assert first - second < 0.1


def test_swd_decays_what_is_to_leave_ever_more() -> None:
    """Of 8 weights the smallest 4 leave: 0, .1, .3 and one of the two .5, with ties both. a: 1 then 100."""
    policy, flat = a_policy(SelectiveDecay, "swd", lr=0.5, mu=0.2, a_min=1.0, a_max=100.0)
    policy.after_step(flat)
    first = 1 / (1 + 0.5 * 1.0 * 0.2)
    assert flat.view(flat.values, "1.weight").flatten().tolist() == pytest.approx([3.0, 4.0, 0.5 * first, -0.5 * first])
    assert flat.view(flat.values, "3.weight").flatten().tolist() == pytest.approx([0.1 * first, -2.0, 0.3 * first, 0.0])
    policy.after_step(flat)
    second = first / (1 + 0.5 * 100.0 * 0.2)
    assert flat.view(flat.values, "3.weight")[0, 0].item() == pytest.approx(0.1 * second)


def test_l_half_adds_the_gradient_of_the_smoothed_root() -> None:
    """lambda / 2 sign(w) / sqrt(|w| + epsilon): of 4, -.5 and 0."""
    policy, flat = a_policy(HalfPower, "l_half", strength=0.2, epsilon=0.25)
    flat.gradients.zero_()
    policy.before_step(flat, IMAGES, LABELS)
    found = flat.view(flat.gradients, "1.weight")
    assert found[0, 1].item() == pytest.approx(0.1 / math.sqrt(4.25))
    assert found[1, 1].item() == pytest.approx(-0.1 / math.sqrt(0.75))
    assert flat.view(flat.gradients, "3.weight")[1, 1].item() == 0.0


def test_weight_elimination_is_the_gradient_of_its_penalty() -> None:
    policy, flat = a_policy(Elimination, "weight_elimination", strength=0.3, w0=0.5)
    flat.gradients.zero_()
    policy.before_step(flat, IMAGES, LABELS)
    for name in ("1.weight", "3.weight"):
        weight = flat.view(flat.values, name).detach().clone().requires_grad_()
        u = weight / 0.5
        (expected,) = torch.autograd.grad(0.3 * (u**2 / (1 + u**2)).sum(), weight)
        torch.testing.assert_close(flat.view(flat.gradients, name), expected)


def test_weight_elimination_follows_the_error() -> None:
    """Better: up by a tenth; worse but under the mean: down by it; worse than the mean: down by a tenth of itself.

    The mean: 2; 1.9 after 1; 1.83 after 1.2; 1.947 after 3.
    """
    policy, flat = a_policy(Elimination, "weight_elimination", strength=1.0)
    found = []
    for epoch, loss in enumerate((2.0, 1.0, 1.2, 3.0), start=1):
        policy.after_epoch(flat, epoch, Evaluation(loss=loss, wrong=0, samples=1))
        found.append(policy.strength)
    assert found == pytest.approx([1.1, 1.2, 1.1, 0.99])
    fixed, flat = a_policy(Elimination, "weight_elimination", strength=1.0, adapt=False)
    fixed.after_epoch(flat, 1, Evaluation(loss=2.0, wrong=0, samples=1))
    assert fixed.strength == 1.0


def test_joint_sparsity_decays_the_smallest_and_trains_how_much() -> None:
    """Of 8 weights those up to .5 leave, five with the tie: sum w^2 = .25 + .25 + .01 + .09 = .6; lr .5, zeta 0."""
    policy, flat = a_policy(TrainedDecay, "joint_sparsity", lr=0.5, alpha=0.7)
    policy.after_step(flat)
    assert flat.view(flat.values, "1.weight").flatten().tolist() == pytest.approx([3.0, 4.0, 0.5 / 1.5, -0.5 / 1.5])
    assert flat.view(flat.values, "3.weight").flatten().tolist() == pytest.approx([0.1 / 1.5, -2.0, 0.3 / 1.5, 0.0])
    zeta = 0.5 * (0.7 - 0.3)
    assert policy.zeta == pytest.approx(zeta)
    policy.after_step(flat)
    expected = 0.5 / 1.5 / (1 + 0.5 * math.exp(zeta))
    assert flat.view(flat.values, "1.weight")[1, 0].item() == pytest.approx(expected)


def test_joint_sparsity_grows_no_further_where_nothing_is_left() -> None:
    """A reward of 5,000 a step: e^zeta is more than any number after the first."""
    policy, flat = a_policy(TrainedDecay, "joint_sparsity", lr=0.5, alpha=1e4)
    for _ in range(3):
        policy.after_step(flat)
    assert math.isfinite(policy.zeta)
    left = flat.view(flat.values, "1.weight").flatten().tolist()
    assert left == pytest.approx([3.0, 4.0, 0.0, 0.0], abs=1e-30)


def test_global_sparse_momentum_steps_along_the_most_salient_only() -> None:
    """|g w|: 3, .4, 5, .5 and .1, 0, .3, 0: of eight the four largest have their gradient."""
    policy, flat = a_policy(ActiveGradients, "global_sparse_momentum")
    flat.view(flat.gradients, "1.weight").copy_(torch.tensor([[1.0, 0.1], [10.0, 1.0]]))
    flat.view(flat.gradients, "3.weight").copy_(torch.tensor([[1.0, 0.0], [1.0, 9.0]]))
    policy.before_step(flat, IMAGES, LABELS)
    assert flat.view(flat.gradients, "1.weight").flatten().tolist() == pytest.approx([1.0, 0.1, 10.0, 1.0])
    assert not flat.view(flat.gradients, "3.weight").any()


def test_global_sparse_momentum_keeps_the_gradients_of_biases() -> None:
    model, part = nn.Sequential(nn.Flatten(), nn.Linear(2, 2)), Split(IMAGES, LABELS)
    flat = FlatModel(model)
    run = Run(model, part, part, part, (0.5,), seed=0, augment=False)
    policy = ActiveGradients(run, METHODS["global_sparse_momentum"].settings(), flat, 0.5)
    flat.gradients.fill_(1.0)
    policy.before_step(flat, IMAGES, LABELS)
    assert flat.view(flat.gradients, "1.bias").tolist() == [1.0, 1.0]
    assert flat.view(flat.gradients, "1.weight").sum().item() == 2


def test_learning_compression_by_hand() -> None:
    """Two images, one a step, rounds of four steps and of two; kappa 4 of 8: 3, 4, -2 and one of the two .5."""
    policy, flat = a_policy(Coupled, "learning_compression", mu=0.2, growth=2.0, rounds=2, lr=1.0, lr_fall=0.5)
    policy.total_steps = 6
    part = Split(IMAGES, LABELS)
    flat.gradients.zero_()
    policy.before_step(flat, IMAGES, LABELS)  # mu (w - theta) - nu, nu = 0
    assert flat.view(flat.gradients, "1.weight").flatten().tolist() == pytest.approx([0.0, 0.0, 0.0, -0.1])
    assert flat.view(flat.gradients, "3.weight").flatten().tolist() == pytest.approx([0.02, 0.0, 0.06, 0.0])
    policy.after_step(flat)
    policy.after_step(flat)
    policy.after_epoch(flat, 1, flat.evaluate(part.images, part.labels))
    assert policy.lr == 1.0
    policy.after_step(flat)
    flat.view(flat.values, "3.weight")[0, 0] = 0.8  # what the L step has made of .1
    policy.after_step(flat)  # C: theta keeps .8 in place of .5; nu = -mu (w - theta) for the others
    policy.after_epoch(flat, 2, flat.evaluate(part.images, part.labels))
    assert policy.lr == 0.5
    flat.gradients.zero_()
    policy.before_step(flat, IMAGES, LABELS)  # mu .4: .4 * .5 + .2 * .5, and so on
    assert flat.view(flat.gradients, "1.weight").flatten().tolist() == pytest.approx([0.0, 0.0, 0.3, -0.3])
    assert flat.view(flat.gradients, "3.weight").flatten().tolist() == pytest.approx([0.0, 0.0, 0.18, 0.0])
    policy.after_step(flat)
    policy.after_step(flat)  # C: w - nu / mu is .5 + .1 / .4 = .75 and .3 + .06 / .4: .8 stays
    assert flat.view(flat.values, "1.weight").flatten().tolist() == [3.0, 4.0, 0.0, 0.0]
    assert flat.view(flat.values, "3.weight").flatten().tolist() == pytest.approx([0.8, -2.0, 0.0, 0.0])


def test_searches_from_a_trained_net_share_it() -> None:
    """The dense training comes first in the history, once for both levels, and counts among the epochs of both."""
    settings = METHODS["global_sparse_momentum"].settings(
        batch_size=20, epochs=2, dense={"batch_size": 20, "max_epochs": 3}, recipe=None
    )
    pruned = METHODS["global_sparse_momentum"].prune(small_run(), settings)
    assert [row["epoch"] for row in pruned.history] == [1, 2, 3, 1, 2, 1, 2]
    assert [state.facts["epochs"] for state in pruned.levels.values()] == [5, 5]
    assert settings.planned_epochs((0.5, 0.8)) == (7, 7)
    run = small_run()
    trained, _ = fit_dense(run, Trainings(None), settings.dense)
    flat = FlatModel(copy.deepcopy(trained))
    assert pruned.history[2]["validation_loss"] == pytest.approx(
        flat.evaluate(run.validation.images, run.validation.labels).loss
    )


def test_sensitivity_by_hand() -> None:
    """Image (1, 2): hidden (11, 0); image (3, 0): hidden (9, 1.5). Mean of y_k by w: column means of the hidden units.

    dy_0/dw3 = (10, .75) in its own row: S = 1/2 of that. dy/dw1 of unit 0: v_k0 (mean x) = v_k0 (2, 1), over both
    outputs (.1 + .3)/2 = .2; of unit 1, alive on the second image only: 2/2 (1.5, 0).
    """
    policy, flat = a_policy(SensitivityDecay, "sensitivity", strength=0.1)
    policy.before_step(flat, IMAGES, LABELS)
    policy.after_step(flat)
    share = [[1 - 0.4, 1 - 0.2], [0.0, 1.0]]
    for name, start, kept in [
        ("1.weight", [[3.0, 4.0], [0.5, -0.5]], share),
        ("3.weight", [[0.1, -2.0], [0.3, 0.0]], [[0.0, 1 - 0.375], [0.0, 1 - 0.375]]),
    ]:
        expected = torch.tensor(start) * (1 - 0.1 * torch.tensor(kept))
        torch.testing.assert_close(flat.view(flat.values, name), expected)


def test_serene_by_hand() -> None:
    """Unit 0 fires on both images: S = (.1 + .3) / 2 = .2; unit 1 on one of two: (2 + 0) / 2 / 2 = .5. Outputs: 1/2."""
    policy, flat = a_policy(NeuronDecay, "serene", strength=0.1)
    policy.before_step(flat, IMAGES, LABELS)
    policy.after_step(flat)
    expected = torch.tensor([[3.0, 4.0], [0.5, -0.5]]) * (1 - 0.1 * torch.tensor([[0.8], [0.5]]))
    torch.testing.assert_close(flat.view(flat.values, "1.weight"), expected)
    expected = torch.tensor([[0.1, -2.0], [0.3, 0.0]]) * (1 - 0.1 * 0.5)
    torch.testing.assert_close(flat.view(flat.values, "3.weight"), expected)


@pytest.mark.parametrize(("kind", "name"), [(SensitivityDecay, "sensitivity"), (NeuronDecay, "serene")])
def test_what_outputs_feel_does_not_depend_on_the_mini_batch(kind: type[Penalised], name: str) -> None:
    """BatchNorm is measured as it acts on one image: of two that pull the same way they feel the mean."""
    model = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2), nn.ReLU(), nn.Flatten(), nn.Linear(4, 2))
    nn.init.constant_(model[1].bias, 9.0)  # no unit sleeps
    part = Split(IMAGES, LABELS)
    flat = FlatModel(model)
    policy = kind(Run(model, part, part, part, (0.5,), seed=0, augment=False), METHODS[name].settings(), flat, 0.5)

    def insensitivity(images: torch.Tensor) -> torch.Tensor:
        policy.before_step(flat, images, LABELS[: len(images)])
        return policy._insensitivity["0.weight"]

    image = 0.1 * IMAGES[:1]
    one, other, both = (insensitivity(images) for images in (image, 3 * image, torch.cat([image, 3 * image])))
    assert (both > 0).all()
    assert (both < 1).all()
    torch.testing.assert_close(both, (one + other) / 2)
    assert model[1].running_mean.tolist() == [0.0, 0.0]
    assert model.training


def test_serene_sees_potentials_that_a_relu_overwrites() -> None:
    found = []
    for in_place in (False, True):
        model, part = two_layers(), Split(IMAGES, LABELS)
        model[2] = nn.ReLU(inplace=in_place)
        flat = FlatModel(model)
        run = Run(model, part, part, part, (0.5,), seed=0, augment=False)
        policy = NeuronDecay(run, METHODS["serene"].settings(), flat, 0.5)
        policy.before_step(flat, -IMAGES, LABELS)  # the first unit sleeps
        found.append(policy._insensitivity["1.weight"])
    assert torch.equal(*found)


def test_serene_sees_neurons_of_a_linear_layer_that_reads_rows() -> None:
    run = small_run()
    images, labels = run.training.images[:20], run.training.labels[:20]
    net = nn.Sequential(nn.Linear(8, 6), nn.ReLU(), nn.Flatten(), nn.Linear(48, 3))
    flat = FlatModel(net)
    policy = NeuronDecay(run, METHODS["serene"].settings(), flat, 0.5)
    policy.before_step(flat, images, labels)
    potentials = net[0](images).detach().requires_grad_()  # [20, 1, rows, 6]
    felt = [torch.autograd.grad(y.sum(), potentials, retain_graph=True)[0] for y in net[1:](potentials).T]
    expected = 1 - torch.stack(felt).abs().mean((0, 1, 2, 3))
    torch.testing.assert_close(policy._insensitivity["0.weight"], expected.relu())


def test_slimming_gates_a_unit_where_there_is_no_batchnorm() -> None:
    model = nn.Sequential(
        nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2), nn.ReLU(), nn.Flatten(), nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)
    )
    part = Split(IMAGES, LABELS)
    net = Gated(Run(model, part, part, part, (0.5,), seed=0, augment=False), 0.1)
    assert list(net.added) == ["4"]
    with torch.no_grad():
        net.added["4"].copy_(torch.tensor([2.0, -1.0, 0.0]))
        net.model[1].weight.copy_(torch.tensor([1.0, -3.0]))
    assert net.penalty().item() == pytest.approx(0.1 * (3 + 4))
    state = net.folded()
    assert torch.equal(state["4.weight"][0], 2 * model[4].weight[0])
    assert torch.equal(state["4.bias"][1], -model[4].bias[1])
    assert not state["4.weight"][2].any()
    plain = nn.Sequential(*model)
    plain.load_state_dict(state)
    torch.testing.assert_close(plain.eval()(IMAGES), net.eval()(IMAGES))


def a_gated(model: nn.Module) -> Gated:
    part = Split(IMAGES, LABELS)
    return Gated(Run(model, part, part, part, (0.5,), seed=0, augment=False), 0.1)


def test_slimming_ranks_a_gate_times_the_norm_of_its_filter() -> None:
    """Half the gate before a filter of twice the size computes the same, and ranks the same."""
    model, other = two_layers(), two_layers()
    other[1].weight.data[1] *= 2
    net, same = a_gated(model), a_gated(other)
    with torch.no_grad():
        net.added["1"].copy_(torch.tensor([-2.0, 1.0]))
        same.added["1"].copy_(torch.tensor([-2.0, 0.5]))
    torch.testing.assert_close(net(IMAGES), same(IMAGES))
    expected = [2 * 5.0, math.hypot(0.5, 0.5)]
    assert net.scores()["1"].tolist() == same.scores()["1"].tolist() == pytest.approx(expected)


def test_slimming_ranks_joined_filters_by_their_mean_scale() -> None:
    net = a_gated(ResNetCifar(8, 3))
    assert not net.added
    with torch.no_grad():
        net.model.bn1.weight[0] = -5.0  # of conv1 and of three convolutions that are added to it, all 1 at the start
    assert net.scores()["conv1"][:2].tolist() == [(5 + 3) / 4, 1.0]
    scales = sum(module.num_features for module in net.model.modules() if isinstance(module, nn.BatchNorm2d))
    assert net.penalty().item() == pytest.approx(0.1 * (scales + 4))  # each scale once


def test_slimming_without_scales_is_refused() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2, affine=False), nn.Flatten(), nn.Linear(4, 2))
    with pytest.raises(ConfigError, match="'1' has none: build it with affine=True"):
        a_gated(model)
