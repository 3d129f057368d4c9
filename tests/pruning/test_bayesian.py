"""Noise on units and its divergence: against torch's distributions, draws and numbers by hand."""

import dataclasses
import math
from typing import Any

import pytest
import torch
from torch import nn
from torch.distributions import Normal, kl_divergence

from sharpminima.data import Split
from sharpminima.pruning import METHODS, Run
from sharpminima.pruning.engine.log_normal import TruncatedLogNormal
from sharpminima.pruning.engine.variational import dropout_kl
from sharpminima.pruning.mask_learning.bayesian_compression import Limited, Scaled
from sharpminima.pruning.mask_learning.structured_bayesian import LIMITS, LogNormalUnits
from sharpminima.training import FlatModel


def run_of(count: int = 10) -> Run:
    """4 pixels, 3 hidden units, 2 classes."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    draws = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        parameter.data = torch.randn(parameter.shape, generator=draws)
    part = Split(torch.ones(count, 1, 2, 2), torch.zeros(count, dtype=torch.int64))
    return Run(model, part, part, part, (0.5,), seed=0, augment=False)


def settings(name: str, **changes: Any) -> Any:
    return METHODS[name].settings(batch_size=1, epochs=2, **changes)


def fill(net: Any, **values: Any) -> None:
    """Set what was added, by its name with _ for a dot."""
    with torch.no_grad():
        for name, value in values.items():
            parameter = net.added[name.removeprefix("of_")]
            parameter.copy_(torch.as_tensor(value).expand_as(parameter))


def scaled_net() -> Scaled:
    """Hidden units with log alpha -4, -3.1 and -2.9."""
    net = Scaled(run_of(), settings("bayesian_compression"), 5.0)
    mean = torch.tensor([0.5, 1.0, -2.0])
    fill(net, of_1_mean=mean, of_1_log_variance=mean.square().log() + torch.tensor([-4.0, -3.1, -2.9]))
    return net


def test_bayesian_compression_starts_at_the_net_itself() -> None:
    net = Scaled(run_of(), settings("bayesian_compression"), 1.0)
    assert [group.name for group in net.groups] == ["pixels", "1"]
    assert net.added.keys() == {
        *(f"{group}_{kind}" for group in ("pixels", "1") for kind in ("mean", "log_variance")),
        *(f"{layer}_{kind}" for layer in (1, 3) for kind in ("weight", "bias")),
    }
    for name, value in net.added.items():
        assert (value - (1.0 if name.endswith("mean") else -9.0)).abs().max() < 0.06
    assert [group.name for group in Scaled(run_of(), settings("bayesian_compression", pixels=False), 1.0).groups] == [
        "1"
    ]


def test_bayesian_compression_has_the_divergences_of_scales_and_weights() -> None:
    """Of weights and biases from a standard normal; strength 5, ten images."""
    net = scaled_net()
    fill(net, of_1_weight=-1.0, of_3_weight=0.5, of_1_bias=-3.0, of_3_bias=0.0)
    variances = {"1.weight": -1.0, "3.weight": 0.5, "1.bias": -3.0, "3.bias": 0.0}
    expected = dropout_kl(torch.tensor([-4.0, -3.1, -2.9])).sum()
    expected += dropout_kl(net.log_alpha(net.groups[0])).sum()
    for name, log_variance in variances.items():
        given = Normal(net.base(name), torch.tensor(log_variance / 2).exp())
        expected += kl_divergence(given, Normal(0.0, 1.0)).sum()
    assert net.penalty().item() == pytest.approx(expected.item() * 5.0 / 10, rel=1e-5)


def test_bayesian_compression_draws_with_the_spread_of_products_of_normals() -> None:
    """var(z w) = mu^2 s_w^2 + s_z^2 w^2 + s_z^2 s_w^2, where the layer reads ones; a bias adds its own."""
    net = scaled_net()
    fill(net, of_3_weight=math.log(0.09), of_3_bias=math.log(0.04))
    layer, (_, group) = net.model.get_submodule("3"), net.groups
    net.train()
    net.weights()
    drawn = layer(torch.ones(60_000, 3))
    mu, weight = net.mean(group), net.base("3.weight")
    variance = net.of("1.log_variance").exp()
    spread = (mu.square() * 0.09 + variance * weight.square() + variance * 0.09).sum(1) + 0.04
    torch.testing.assert_close(drawn.mean(0), weight @ mu + net.base("3.bias"), rtol=0, atol=0.02)
    torch.testing.assert_close(drawn.var(0), spread, rtol=0.03, atol=0)


def test_bayesian_compression_removes_units_from_the_threshold_on_and_tests_means() -> None:
    net = scaled_net()
    fill(net, of_pixels_mean=2.0, of_pixels_log_variance=torch.tensor([-9.0, -9.0, 1.0, -9.0]))
    assert net.keep()["1"].tolist() == [True, True, False]
    assert net.keep()["pixels"].tolist() == [True, True, False, True]
    folded, masks = net.folded(), net.masks()
    torch.testing.assert_close(folded["1.weight"], 2 * net.base("1.weight") * torch.tensor([1.0, 1.0, 0.0, 1.0]))
    torch.testing.assert_close(folded["3.weight"], net.base("3.weight") * torch.tensor([0.5, 1.0, 0.0]))
    assert masks["1.weight"].tolist() == [[True, True, False, True]] * 2 + [[False] * 4]
    assert masks["1.bias"].tolist() == [True, True, False]
    assert masks["3.weight"].tolist() == [[True, True, False]] * 2


def test_bayesian_compression_keeps_the_first_layers_variances_small() -> None:
    net = scaled_net()
    fill(net, of_1_weight=1.0, of_1_bias=-1.0, of_3_weight=1.0, of_1_log_variance=1.0, of_pixels_log_variance=1.0)
    flat = FlatModel(net)
    Limited(run_of(), settings("bayesian_compression"), flat).after_step(flat)
    assert net.of("1.weight").exp().unique().item() == pytest.approx(0.04)
    assert net.of("1.bias").exp().unique().item() == pytest.approx(0.04)
    for name in ("3.weight", "1.log_variance", "pixels.log_variance"):
        assert net.of(name).unique().item() == 1.0


def test_bayesian_compression_bounds_the_layer_that_runs_first() -> None:
    """The one that its net has first among its modules is its last."""

    class Backwards(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head, self.body = nn.Linear(3, 2), nn.Linear(4, 3)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return self.head(self.body(images.flatten(1)).relu())

    run = dataclasses.replace(run_of(), model=Backwards())
    net = Scaled(run, settings("bayesian_compression"), 1.0)
    fill(net, of_body_weight=1.0, of_head_weight=1.0)
    flat = FlatModel(net)
    Limited(run, settings("bayesian_compression"), flat).after_step(flat)
    assert net.of("body.weight").exp().unique().item() == pytest.approx(0.04)
    assert net.of("head.weight").unique().item() == 1.0


def noise_of(mu: float, sigma: float) -> TruncatedLogNormal:
    return TruncatedLogNormal(torch.tensor([mu]), torch.tensor([sigma]).log())


@pytest.mark.parametrize(
    ("mu", "sigma"), [(0.0, 0.01), (0.0, 1.0), (-3.0, 2.0), (-10.0, 0.5), (-19.0, 40.0), (1.5, 0.5)]
)
def test_log_normal_noise_against_integrals(mu: float, sigma: float) -> None:
    """Mean, signal to noise and divergence of its density within [-20, 0], on a fine grid there."""
    x = torch.linspace(-20, 0, 400_001, dtype=torch.float64)
    log_density = -((x - mu) / sigma).square() / 2
    log_density = log_density - (log_density.max() + torch.trapezoid((log_density - log_density.max()).exp(), x).log())
    density, theta = log_density.exp(), x.exp()
    mean = torch.trapezoid(density * theta, x)
    deviation = torch.trapezoid(density * (theta - mean).square(), x).sqrt()
    kl = torch.trapezoid(density * (log_density + math.log(20)), x)
    noise = noise_of(mu, sigma)
    for found, expected in [(noise.mean(), mean), (noise.signal_to_noise(), mean / deviation), (noise.kl(), kl)]:
        torch.testing.assert_close(found, expected[None], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("mu", "sigma"), [(0.0, 0.1), (-3.0, 2.0), (0.3, 0.1)])
def test_log_normal_noise_is_drawn_as_often_as_its_moments_say(mu: float, sigma: float) -> None:
    noise = noise_of(mu, sigma)
    drawn = noise.drawn(100_000, torch.Generator().manual_seed(0))
    assert drawn.min() > 0
    assert drawn.max() <= 1
    assert drawn.mean().item() == pytest.approx(noise.mean().item(), rel=0.01)
    assert (drawn.mean() / drawn.std()).item() == pytest.approx(noise.signal_to_noise().item(), rel=0.02)


def test_log_normal_noise_is_finite_up_to_its_limits_and_so_are_its_gradients() -> None:
    grid = torch.cartesian_prod(*[torch.linspace(*LIMITS, 31)] * 2)
    mu, log_sigma = (column.clone().requires_grad_() for column in grid.T)
    noise = TruncatedLogNormal(mu, log_sigma)
    drawn, mean, ratio = noise.drawn(20, torch.Generator().manual_seed(0)), noise.mean(), noise.signal_to_noise()
    (drawn.sum() + mean.sum() + noise.kl().sum()).backward()
    assert drawn.isfinite().all()
    assert mu.grad.isfinite().all()
    assert log_sigma.grad.isfinite().all()
    assert ((mean > 0) & (mean < 1 + 1e-5)).all()
    assert (noise.kl() > -1e-5).all()
    assert (ratio.isfinite() & (ratio > 0)).all()


def test_structured_bayesian_removes_what_is_mostly_noise_and_tests_means() -> None:
    """sigma 1.3 at mu 0 has a ratio of 1.70, sigma 4 one of .75; strength 5, ten images."""
    net = LogNormalUnits(run_of(), settings("structured_bayesian"), 5.0)
    kl_at_start = 7 * noise_of(0.0, math.exp(-5)).kl().item()  # 4 pixels, 3 units
    assert net.penalty().item() == pytest.approx(kl_at_start * 5.0 / 10)
    fill(net, of_1_log_sigma=torch.tensor([1.3, 4.0, 0.01]).log())
    hidden = net.groups[1]
    assert [round(ratio, 2) for ratio in net.noise_of(hidden).signal_to_noise().tolist()[:2]] == [1.7, 0.75]
    assert net.keep()["1"].tolist() == [True, False, True]
    means = net.mean(hidden) * torch.tensor([1.0, 0.0, 1.0])
    torch.testing.assert_close(net.folded()["3.weight"], net.base("3.weight") * means.float())
    assert net.masks()["1.bias"].tolist() == [True, False, True]
    patient = LogNormalUnits(run_of(), settings("structured_bayesian", threshold=0.5), 5.0)
    fill(patient, of_1_log_sigma=torch.tensor([1.3, 4.0, 0.01]).log())
    assert patient.keep()["1"].all()
