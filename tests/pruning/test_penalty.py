"""One step of each penalty, by hand."""

import math
from typing import Any

import pytest
import torch
from torch import nn

from sharpminima.base.errors import ConfigError
from sharpminima.data import Split
from sharpminima.nets.models.resnet import ResNetCifar
from sharpminima.pruning import METHODS, Run
from sharpminima.pruning.penalty.group_lasso import GroupLasso
from sharpminima.pruning.penalty.l1 import Lasso
from sharpminima.pruning.penalty.penalised import Penalised
from sharpminima.pruning.penalty.sensitivity import SensitivityDecay
from sharpminima.pruning.penalty.serene import NeuronDecay
from sharpminima.pruning.penalty.slimming import Gated
from sharpminima.pruning.penalty.swd import SelectiveDecay
from sharpminima.training import FlatModel

IMAGES, LABELS = torch.tensor([[[[1.0, 2.0]]], [[[3.0, 0.0]]]]), torch.tensor([0, 1])


def two_layers() -> nn.Module:
    model = nn.Sequential(nn.Flatten(), nn.Linear(2, 2, bias=False), nn.ReLU(), nn.Linear(2, 2, bias=False))
    model[1].weight.data = torch.tensor([[3.0, 4.0], [0.5, -0.5]])
    model[3].weight.data = torch.tensor([[0.1, -2.0], [0.3, 0.0]])
    return model


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
