"""The entropy of a layer as one operation, in float32, against the plain operations in float64."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from sharpminima.base.errors import TrainingError
from sharpminima.training.soft_entropy import SoftEntropy

CLASSES = 4
LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "rows": lambda z: z,
    "columns": lambda z: z.T.contiguous().T,
    "gaps": lambda z: torch.stack([z, z], -1)[..., 0],
    "one row for all": lambda z: z[:1].expand_as(z),
    "negative bit": lambda z: torch.complex(z, -z).conj().imag,
}


def pre_activations(images: int, neurons: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """z [images, neurons] float64 with zeros among them, and labels."""
    random = torch.Generator().manual_seed(seed)
    z = 3 * torch.randn(images, neurons, generator=random, dtype=torch.float64)
    z[:, 0] = 0
    z[torch.rand(z.shape, generator=random) < 0.05] = 0
    return z.float().double(), torch.randint(0, CLASSES, (images,), generator=random)


def passes_of(layout: Callable[[Tensor], Tensor], dtype: torch.dtype, neurons: int, tau: float) -> list[Tensor]:
    """Values and gradients of two mini-batches, the second of few images and of no image of the last class."""
    entropy, found = SoftEntropy(CLASSES, tau=tau), []
    for images, seed in ((60, 0), (7, 1)):
        z, labels = pre_activations(images, neurons, seed)
        z = layout(z.to(dtype)).requires_grad_()
        if seed:
            labels = labels % (CLASSES - 1)
        batch = entropy.over(labels)
        batch.add(z)
        batch.end()
        value = batch.mean()
        (3 * value).backward()
        found += [value.detach(), z.grad]
    return [*found, *entropy.state()["running"]]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("tau", [1.0, 0.2])
@pytest.mark.parametrize("neurons", [1, 130, 2100])  # less than a part, and more than one that none divides
def test_values_gradients_and_running_estimates(layout: str, tau: float, neurons: int) -> None:
    single, double = (passes_of(LAYOUTS[layout], dtype, neurons, tau) for dtype in (torch.float32, torch.float64))
    for ours, expected in zip(single, double, strict=True):
        assert ours.dtype == torch.float32
        torch.testing.assert_close(ours.double(), expected, rtol=2e-5, atol=2e-6)


def test_a_neuron_that_is_0_has_no_entropy_and_no_gradient() -> None:
    z = torch.zeros(20, 3, requires_grad=True)
    batch = SoftEntropy(CLASSES).over(torch.arange(20) % CLASSES)
    batch.add(z)
    batch.mean().backward()
    assert batch.mean().item() == 0
    assert not z.grad.any()


@pytest.mark.parametrize("tau", [1e-9, 1e-42])
def test_states_of_a_tiny_tau_are_those_that_are_counted(tau: float) -> None:
    z, labels = pre_activations(60, 30)
    z = z.float().requires_grad_()
    batch = SoftEntropy(CLASSES, tau=tau).over(labels)
    batch.add(z)
    batch.mean().backward()
    p = torch.stack([(z[labels == label] > 0).double().mean(0) for label in range(CLASSES)])
    bits = torch.special.entr(torch.stack([p, 1 - p])).sum((0, 1)) / torch.log(torch.tensor(2.0))
    assert batch.mean().item() == pytest.approx(bits.mean().item(), rel=1e-5)
    assert z.grad.abs().max() < 1e-6


def test_an_entropy_of_nan_is_nan() -> None:
    z = torch.randn(20, 3)
    z[4, 1] = torch.nan
    batch = SoftEntropy(CLASSES).over(torch.arange(20) % CLASSES)
    batch.add(z)
    assert batch.mean().isnan()


def test_the_number_of_threads_changes_no_bit() -> None:
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            found.append(passes_of(LAYOUTS["rows"], torch.float32, 6000, 0.5))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(one, two) for one, two in zip(*found, strict=True))


def test_a_graph_that_is_kept_gives_its_gradient_again() -> None:
    z, labels = pre_activations(20, 5)
    z = z.float().requires_grad_()
    batch = SoftEntropy(CLASSES).over(labels)
    batch.add(z)
    first, second = (torch.autograd.grad(batch.mean(), z, retain_graph=True)[0] for _ in range(2))
    assert torch.equal(first, second)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_what_does_not_fit_is_named(dtype: torch.dtype) -> None:
    z, labels = pre_activations(20, 5)
    z, entropy = z.to(dtype), SoftEntropy(CLASSES)
    with pytest.raises(TrainingError, match=r"takes \[20, 5\] of 10 labels; its first axis must be that of the images"):
        entropy.over(labels[:10]).add(z)
    for wrong in (-1, CLASSES):
        labels[3] = wrong
        with pytest.raises(TrainingError, match=f"labels run from .*{wrong}.*; there are {CLASSES} classes"):
            entropy.over(labels).add(z)
    labels[3] = 0
    known = entropy.over(labels)
    known.add(z)
    known.end()
    with pytest.raises(TrainingError, match=r"layer 1 is another one than before: .*; after a change of the net"):
        entropy.over(labels).add(z[:, :4])


def test_a_batch_whose_mean_is_not_asked_for_counts_too() -> None:
    z, labels = pre_activations(60, 5)
    asked, silent = SoftEntropy(CLASSES), SoftEntropy(CLASSES)
    for entropy in (asked, silent):
        for _ in range(2):
            batch = entropy.over(labels)
            batch.add(z.float())
            batch.end()
            if entropy is asked:
                batch.mean()
    assert len(silent.state()["running"]) == 1
    assert torch.equal(silent.state()["running"][0], asked.state()["running"][0])


@pytest.mark.parametrize("order", [1, 2])
def test_sums_are_not_of_bfloat16_where_a_net_is(order: int) -> None:
    z, labels = pre_activations(60, 30)
    values = []
    for enabled in (False, True):
        entropy = SoftEntropy(CLASSES, order=order)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            for few in (60, 7):
                batch = entropy.over(labels[:few])
                batch.add(z.float()[:few])
                batch.end()
                values.append(batch.mean())
    assert values[:2] == values[2:]
