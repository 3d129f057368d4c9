"""Attention to units: against layers of torch, and where a unit spoils the net."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from training.cases import NETS, build, images_of

from sharpminima.nets.compaction import Units
from sharpminima.pruning import METHODS, Run
from sharpminima.pruning.structured.attention_channels import Attentive, search
from sharpminima.testing.task import small_run


class SqueezeExcitation(nn.Module):
    """As one finds it in nets."""

    def __init__(self, channels: int, rows: int) -> None:
        super().__init__()
        self.pool, self.fc1, self.fc2 = (
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(channels, rows, 1),
            nn.Conv2d(rows, channels, 1),
        )

    def forward(self, maps: Tensor) -> Tensor:
        return maps * self.fc2(self.fc1(self.pool(maps)).relu()).sigmoid()


def settings(**changes: Any) -> Any:
    return METHODS["attention_channels"].settings(dense=None, batch_size=20, epochs=2, **changes)


def run_of(kind: str, level: float = 0.5) -> Run:
    part = images_of(kind, 40, 0)
    return replace(small_run(), model=build(kind), training=part, validation=part, test=part, levels=(level,))


def test_attention_is_squeeze_and_excitation_where_units_are_read() -> None:
    """6 filters, BatchNorm and ReLU before the layer that reads them; then 4 filters before a flattened map."""
    run = run_of("batchnorm")
    net = Attentive(run, settings(reduction=3, frozen=True))
    expected = list(build("batchnorm").eval())
    for place, group, reader, count in ((5, "3", "6", 4), (3, "0", "3", 6)):
        attention = SqueezeExcitation(count, 4).double()
        with torch.no_grad():
            for layer, number in ((attention.fc1, 1), (attention.fc2, 2)):
                layer.weight.copy_(net.of(f"{group}.{reader}.w{number}")[..., None, None])
                net.of(f"{group}.{reader}.b{number}").copy_(layer.bias)
        expected.insert(place, attention)
    images = run.training.images
    torch.testing.assert_close(net(images), nn.Sequential(*expected)(images))


@pytest.mark.parametrize("kind", NETS)
def test_a_frozen_net_stays_as_it_is_while_attention_learns(kind: str) -> None:
    """Parameters and BatchNorm's statistics, up to the units that leave."""
    run = run_of(kind)
    found = search(run, 0.5, settings(frozen=True), None)
    for name, value in run.model.state_dict().items():
        kept = found.masks.get(name, torch.ones_like(value, dtype=torch.bool))
        assert torch.equal(found.state[name], value * kept)
    assert len({row["validation_loss"] for row in found.history}) == 2


def test_attention_learns_with_the_net_unless_that_is_frozen() -> None:
    run = run_of("batchnorm")
    found = search(run, 0.5, settings(), None)
    for name, value in run.model.state_dict().items():
        kept = found.masks.get(name, torch.ones_like(value, dtype=torch.bool))
        assert not torch.equal(found.state[name], value * kept), name


def test_statistics_are_means_over_images_and_readers() -> None:
    run = run_of("residual")
    net = Attentive(run, settings(frozen=True))
    (group, *_) = [group for group in net.groups if len(group.readers) > 1]
    images = run.training.images
    found = net.statistics(images)[group.name]
    attention: list[Tensor] = []
    factors = net.factors

    def noted(of: Units, reader: str, features: Tensor) -> Tensor:
        result = factors(of, reader, features)
        attention.extend([result] * (of is group))
        return result

    net.factors = noted  # type: ignore[method-assign]
    net(images)
    assert len(attention) == len(group.readers)
    torch.testing.assert_close(found, torch.stack(attention).mean((0, 1)))
    halves = [net.statistics(part)[group.name] for part in images.split(20)]
    torch.testing.assert_close(found, (halves[0] + halves[1]) / 2)


def test_a_unit_that_spoils_the_net_gets_least_attention_and_leaves() -> None:
    """It is always on, and says the wrong class; the others are those of a trained net."""
    run = small_run()
    trained = METHODS["l1_filters"].prune(
        run, METHODS["l1_filters"].settings(batch_size=20, epochs=1, recipe={"batch_size": 20, "max_epochs": 8})
    )
    model = run.model
    model.load_state_dict(trained.levels[0.5].state)
    dead = int((~trained.levels[0.5].masks["1.bias"]).nonzero()[0])
    with torch.no_grad():
        model[1].bias[dead] = 3.0
        model[3].weight[0, dead] = 3.0
    net_settings = settings(attention_lr=0.05, frozen=True)
    found = search(replace(run, model=model), 1 / 12, net_settings, None)
    assert (~found.masks["1.bias"]).nonzero().flatten().tolist() == [dead]
