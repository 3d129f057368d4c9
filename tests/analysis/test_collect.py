"""What a layer's statistics add up, against plain sums: on a CPU in one compiled pass where states are kept."""

import pytest
import torch

from sharpminima.analysis.psp import _collect, _pass
from sharpminima.analysis.psp._collect import _Layer, squares_of
from sharpminima.analysis.psp._states import pack

DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16]


def random_z(images, neurons, dtype=torch.float32, seed=0):
    draws = torch.Generator().manual_seed(seed)
    z = torch.randn(images, neurons, generator=draws, dtype=torch.float64).to(dtype)
    z[torch.rand(z.shape, generator=draws) < 0.1] = 0.0
    z[torch.rand(z.shape, generator=draws) < 0.1] = -0.0
    return z


def random_members(classes, images, seed=0):
    target = torch.randint(0, classes, (images,), generator=torch.Generator().manual_seed(seed))
    return (target == torch.arange(classes)[:, None]).float()


def collected(batches, *, pairs=True):
    layer = _Layer("relu", pairs)
    for z, members in batches:
        layer.add(z, members)
    return layer.result(sum(len(z) for z, _ in batches), torch.arange(len(batches[-1][1])))


def check(batches):
    """All counts of one and the other way, against plain ones; squares to the bit."""
    classes, neurons = len(batches[-1][1]), batches[0][0].shape[1]
    active = torch.zeros(classes, neurons, dtype=torch.int64)
    for z, members in batches:
        for image, row in zip(z, members.argmax(dim=0).tolist(), strict=True):
            active[row] += image > 0
    states = torch.cat([z > 0 for z, _ in batches])
    kept, counted = collected(batches), collected(batches, pairs=False)
    for found in (kept, counted):
        assert torch.equal(found.active, active)
        assert torch.equal(found.active_neurons, states.sum(dim=1))
    assert torch.equal(kept.states, pack(states))
    assert counted.states is None
    assert kept.squares == counted.squares
    assert kept.squares == pytest.approx(sum(float(z.double().square().sum()) for z, _ in batches), rel=1e-6)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("neurons", [1, 3, 8, 13, 64, 77])
def test_layers_of_any_width(dtype, neurons):
    check([(random_z(images, neurons, dtype, images), random_members(4, images, images)) for images in (9, 1, 5)])


def test_layers_that_are_wider_than_what_is_counted_at_once():
    check([(random_z(5, 2 * _pass._NEURONS + 11), random_members(3, 5))])


def test_one_image_and_an_absent_class():
    check([(random_z(1, 10), torch.tensor([[0.0], [1.0], [0.0]]))])


def test_classes_that_come_later():
    check([(random_z(6, 21), random_members(2, 6)), (random_z(7, 21, seed=1), random_members(5, 7))])


def test_many_parts(monkeypatch):
    monkeypatch.setattr(_collect, "CHUNK", 40)
    check([(random_z(images, 17), random_members(3, images)) for images in (7, 8)])


@pytest.mark.parametrize(
    "lie",
    [
        lambda z: z.T.contiguous().T,
        lambda z: z.repeat_interleave(2, dim=1)[:, ::2],
        lambda z: torch.cat([z, z], dim=1)[:, : z.shape[1]],
        lambda z: z[:1].expand(len(z), -1),
        lambda z: z.clone().requires_grad_(),
    ],
)
def test_values_that_lie_anyhow(lie):
    with torch.no_grad():
        check([(lie(random_z(6, 19)), random_members(3, 6))])


def test_another_default_device_changes_nothing():
    z, members = random_z(4, 9), random_members(2, 4)
    layer = _Layer("relu", pairs=True)
    with torch.device("meta"):
        layer.add(z, members)
    assert torch.equal(layer.states[0], pack(z > 0))


def test_what_is_not_a_number_is_not_above_zero():
    z = torch.tensor([[float("nan"), float("inf"), -float("inf"), 1e-45, -1e-45, 0.0, -0.0, 1.0, 2.0]])
    layer = _Layer("relu", pairs=True)
    layer.add(z, torch.ones(1, 1))
    assert layer.active.tolist() == [[0, 1, 0, 1, 0, 0, 0, 1, 1]]
    assert layer.states[0].tolist() == [[0b10001010, 0b1]]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(0, 4), (1, 1), (5, 1), (1, 50_000), (7, 30_000), (37, 13), (2, 200_000)])
def test_squares_are_those_of_all_rows_at_once_to_the_bit(dtype, shape):
    z = random_z(*shape, dtype)
    for values in (z, torch.cat([z, z], dim=1)[:, ::2], z.T.contiguous().T):
        at_once = torch.linalg.vector_norm(values, dim=1, dtype=torch.float64).square()
        assert torch.equal(squares_of(values), at_once)
