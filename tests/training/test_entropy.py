"""The differentiable PSP-entropy: its gradient, its value against the measured one, its running estimates."""

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from sharpminima.analysis import psp_entropy
from sharpminima.base.errors import AnalysisError, TrainingError
from sharpminima.nets.models import build_model
from sharpminima.training import PspEntropy


def net(seed: int = 0) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        layers = [nn.Conv2d(1, 3, 3), nn.ReLU(inplace=True), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(27, 5), nn.ReLU()]
        return nn.Sequential(*layers, nn.Linear(5, 3)).double()


def batch(count: int = 30, seed: int = 1) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(seed)
    return torch.randn(count, 1, 8, 8, generator=random, dtype=torch.float64), torch.arange(count) % 3


def entropy_of(
    model: nn.Module, images: Tensor, labels: Tensor, entropy: PspEntropy | None = None, **options
) -> Tensor:
    with (entropy or PspEntropy(model, classes=3, **options)).of(labels) as found:
        model(images)
    return found.mean()


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("tau", [1.0, 0.3])
def test_the_gradient_is_that_of_finite_differences(order: int, tau: float) -> None:
    model, (images, labels) = net(), batch()
    entropy_of(model, images, labels, order=order, tau=tau).backward()
    for parameter in list(model.parameters())[:4]:  # what comes behind the last ReLU has none
        place = int(parameter.grad.abs().argmax())
        with torch.no_grad():
            sides = []
            for step in (1e-5, -1e-5):
                parameter.view(-1)[place] += step
                sides.append(entropy_of(model, images, labels, order=order, tau=tau).item())
                parameter.view(-1)[place] -= step
        slope = (sides[0] - sides[1]) / 2e-5
        assert abs(slope) > 1e-4
        assert parameter.grad.view(-1)[place].item() == pytest.approx(slope, rel=1e-5)


@pytest.mark.parametrize("order", [1, 2])
def test_a_class_topped_up_has_the_gradient_of_finite_differences(order: int) -> None:
    model, (images, labels) = net(), batch()
    before, few = PspEntropy(model, classes=3, order=order), (images[:7], labels[:7])
    entropy_of(model, images, labels, before)

    def value() -> Tensor:
        return entropy_of(model, *few, _again(before, model))

    value().backward()
    weight = model[0].weight
    place = int(weight.grad.abs().argmax())
    with torch.no_grad():
        sides = []
        for step in (1e-5, -1e-5):
            weight.view(-1)[place] += step
            sides.append(value().item())
            weight.view(-1)[place] -= step
    assert weight.grad.view(-1)[place].item() == pytest.approx((sides[0] - sides[1]) / 2e-5, rel=1e-5)


def _again(entropy: PspEntropy, model: nn.Module) -> PspEntropy:
    """A copy with the running estimates as they are."""
    another = copy.copy(entropy)
    another._soft = copy.deepcopy(entropy._soft)
    return another


@pytest.mark.parametrize("order", [1, 2])
def test_as_tau_falls_the_value_becomes_the_measured_one(order: int) -> None:
    model, (images, labels) = net(), batch(90)
    with torch.no_grad():
        model[4].weight[2] = 0  # a neuron that is exactly 0 is off, not on half of the time
        model[4].bias[2] = 0
    measured = psp_entropy(model, images, labels, order=order).mean
    gaps = []
    for tau in (1.0, 1e-1, 1e-2, 1e-6):
        gaps.append(abs(entropy_of(model, images, labels, order=order, tau=tau, pairs=10**6).item() - measured))
    assert gaps == sorted(gaps, reverse=True)
    assert gaps[0] > 0.1
    assert gaps[-1] < 1e-9


def test_drawn_pairs_estimate_the_mean_over_all_pairs() -> None:
    model, (images, labels) = net(), batch(90)
    whole = entropy_of(model, images, labels, order=2, pairs=10**6).item()
    drawn = [entropy_of(model, images, labels, order=2, pairs=60, seed=seed).item() for seed in range(20)]
    assert len(set(drawn)) == 20
    assert sum(drawn) / 20 == pytest.approx(whole, rel=0.01)
    assert drawn[3] == entropy_of(model, images, labels, order=2, pairs=60, seed=3).item()


def test_the_running_estimate_stands_for_the_images_that_a_rare_class_lacks() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(1, 1, bias=False), nn.ReLU(), nn.Linear(1, 2)).double()
    model[1].weight.data.fill_(1.0)
    entropy = PspEntropy(model, classes=2, tau=1e-9, rare=4)

    def value(of_class_0: list[float], of_class_1: list[float]) -> float:
        images = torch.tensor([*of_class_0, *of_class_1], dtype=torch.float64).view(-1, 1)
        labels = torch.tensor([0] * len(of_class_0) + [1] * len(of_class_1))
        return entropy_of(model, images, labels, entropy).item()

    def bits(p: float) -> float:
        return float(torch.special.entr(torch.tensor([p, 1 - p])).sum() / torch.log(torch.tensor(2.0)))

    assert value([1, 1, -1, -1], []) == pytest.approx(1)  # nothing is known of class 1
    assert value([1, 1, 1, 1], [1, -1]) == pytest.approx(0 + 1)  # nothing was known of it before
    # Class 0 had 1/2, then 1 of as many images: 3/4; class 1 had 1/2. Both have one image here, and lack three.
    assert value([1], [-1]) == pytest.approx(bits((1 + 3 * 0.75) / 4) + bits(3 * 0.5 / 4), rel=1e-6)


def test_in_a_plain_loop_the_measured_entropy_goes_where_beta_says() -> None:
    images, labels = batch(90)
    found = {}
    for beta in (-0.3, 0.0, 0.3):
        model = net()
        entropy = PspEntropy(model, classes=3, tau=0.3)
        sgd = torch.optim.SGD(model.parameters(), lr=0.1)
        for _ in range(60):
            with entropy.of(labels) as watched:
                loss = F.cross_entropy(model(images), labels)
            sgd.zero_grad()
            (loss - beta * watched.mean()).backward()
            sgd.step()
        found[beta] = psp_entropy(model, images, labels).mean
    assert found[-0.3] < found[0.0] - 0.1
    assert found[0.3] > found[0.0] + 0.1


class Functional(nn.Module):
    """ReLUs without modules, of which one runs twice."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.last = nn.Linear(64, 6), nn.Linear(6, 6), nn.Linear(6, 3)

    def forward(self, images: Tensor) -> Tensor:
        hidden = F.relu(self.first(images.flatten(1)))
        for _ in range(2):
            hidden = torch.relu_(self.second(hidden))
        return self.last(hidden)


def normalised() -> nn.Module:
    layers = [nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(inplace=True), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(108, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 3))


@pytest.mark.parametrize("build_net", [net, Functional, normalised])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_plain_loop_takes_any_net_and_mini_batches_of_any_size_that_lack_classes(
    build_net: Callable[[], nn.Module], dtype: torch.dtype
) -> None:
    images, labels = batch(90)
    order = labels.argsort(stable=True)  # so that no mini-batch has all classes, and the last one has fewer images
    loader = DataLoader(TensorDataset(images[order].to(dtype), labels[order]), batch_size=25)
    found = {}
    for beta in (0.0, 0.3):
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(0)
            model = build_net().to(dtype)
        entropy, values = PspEntropy(model, classes=3, tau=0.5), []
        sgd = torch.optim.SGD(model.parameters(), lr=0.05)
        for _ in range(10):
            for few, target in loader:
                with entropy.of(target) as watched:
                    loss = F.cross_entropy(model(few), target)
                sgd.zero_grad()
                (loss - beta * watched.mean()).backward()
                sgd.step()
                values.append(watched.mean().item())
        assert all(0 < value <= 3 for value in values)
        assert all(parameter.isfinite().all() for parameter in model.parameters())
        found[beta] = sum(values[-4:])
    assert found[0.3] > found[0.0]


def test_a_model_that_has_not_run_or_runs_twice_is_named() -> None:
    model, (images, labels) = net(), batch()
    entropy = PspEntropy(model, classes=3)
    with entropy.of(labels) as watched:
        pass
    with pytest.raises(TrainingError, match="the model has not run since the mini-batch began"):
        watched.mean()
    with entropy.of(labels):
        model(images)
        with pytest.raises(TrainingError, match="the model runs a second time"):
            model(images)
    for part in (model.forward, model[:2]):
        with (
            pytest.raises(
                TrainingError, match=r"call the model, model\(images\), in place of its forward or its parts"
            ),
            entropy.of(labels),
        ):
            part(images)
    with entropy.of(labels):
        model[-1](model(images).detach()[:, :1].expand(-1, 5))  # a part without ReLUs
    one = nn.Sequential(nn.Flatten(), nn.Linear(64, 1), nn.ReLU(), nn.Linear(1, 3)).double()
    with pytest.raises(TrainingError, match="no layer has two neurons"):
        entropy_of(one, images, labels, order=2)


def test_channels_last_maps_give_the_same() -> None:
    images, labels = torch.randn(20, 1, 28, 28, generator=torch.Generator().manual_seed(0)), torch.arange(20) % 10
    values = []
    for layout in (torch.contiguous_format, torch.channels_last):
        model = build_model("lenet5", seed=0).to(memory_format=layout)
        entropy = PspEntropy(model, classes=10)
        for few in (images, images[:7]):
            values.append(entropy_of(model, few, labels[: len(few)], entropy).item())
    assert values[:2] == pytest.approx(values[2:], rel=1e-5)


def test_bad_arguments_are_named() -> None:
    for name, value in {"classes": 0, "order": 3, "tau": 0.0, "pairs": 0, "rare": -1}.items():
        with pytest.raises(TrainingError, match=f"{name} is {value}"):
            PspEntropy(net(), **{"classes": 3, name: value})
    for name, value, wanted in (
        ("classes", 3.0, "a whole number"),
        ("order", True, "a whole number"),
        ("pairs", "2000", "a whole number"),
        ("rare", None, "a whole number"),
        ("seed", 0.5, "a whole number"),
        ("tau", "narrow", "a number"),
        ("tau", float("nan"), "a finite number"),
    ):
        with pytest.raises(TrainingError, match=f"{name} is {value!r}; give {wanted}"):
            PspEntropy(net(), **{"classes": 3, name: value})
    entropy = PspEntropy(net(), classes=3)
    with pytest.raises(TrainingError, match=r"tau is 0\.0; give a width above 0"):
        entropy.tau = 0
    assert entropy.tau == 1.0
    with pytest.raises(AnalysisError, match="no ReLU"):
        entropy_of(nn.Sequential(nn.Flatten(), nn.Linear(64, 3)).double(), *batch())


def test_other_activations_are_named_once_and_count_when_asked_for() -> None:
    model = nn.Sequential(
        nn.Flatten(), nn.Linear(64, 4), nn.ReLU(), nn.Linear(4, 4), nn.GELU(), nn.Linear(4, 3)
    ).double()
    images, labels = batch()
    entropy = PspEntropy(model, classes=3)
    with pytest.warns(UserWarning, match="GELU"):
        entropy_of(model, images, labels, entropy)
    entropy_of(model, images, labels, entropy)
    both = entropy_of(model, images, labels, activations="all", tau=1e-6).item()
    assert both == pytest.approx(psp_entropy(model, images, labels, activations="all").mean)
