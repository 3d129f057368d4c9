"""Channels that stand and fall together, and nets that are really smaller without them."""

import copy
from collections import OrderedDict
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from training.cases import Convolutional, Normalised, dense_net

from sharpminima.nets.compaction import build as building
from sharpminima.nets.compaction import compact, removable_pixels, removable_units
from sharpminima.nets.counts import count_net
from sharpminima.nets.masks import Masks, apply_masks
from sharpminima.nets.models.resnet import ResNetCifar
from sharpminima.nets.models.wrn import WideResNet
from sharpminima.pruning.engine.units import unit_masks, units_of
from sharpminima.training import FlatModel
from sharpminima.training import flat as flat_module


class Joining(nn.Module):
    """An own net of two branches, added and put side by side, in functions and methods."""

    def __init__(self, join: Callable[[Tensor, Tensor], Tensor], read: int) -> None:
        super().__init__()
        self.left, self.right = nn.Conv2d(3, 5, 3, padding=1), nn.Conv2d(3, 5, 3, padding=1)
        self.reader, self.head = nn.Conv2d(read, 4, 3), nn.Linear(4, 3)
        self.join = join

    def forward(self, images: Tensor) -> Tensor:
        features = self.reader(F.relu(self.join(self.left(images), self.right(images).relu())))
        return self.head(F.relu(features).mean((2, 3)))


NETS: dict[str, Callable[[], nn.Module]] = {
    "linear": dense_net,
    "convolutional": Convolutional,
    "batchnorm": Normalised,
    "option A": lambda: ResNetCifar(8, 3),
    "projection": lambda: ResNetCifar(8, 3, projection=True),
    "wide": lambda: WideResNet(10, 1, 3),
    "added": lambda: Joining(torch.add, 5),
    "side by side": lambda: Joining(lambda one, other: torch.cat([one, other], dim=1), 10),
}


def build(kind: str) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        return NETS[kind]().double()


def images_for(kind: str) -> Tensor:
    channels = 1 if kind in ("linear", "convolutional", "batchnorm") else 3
    return torch.randn(5, channels, 8, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def without_some(model: nn.Module, share: float = 0.4) -> Masks:
    draws = torch.Generator().manual_seed(2)
    groups = units_of(model)
    keep = {group.name: torch.rand(group.count, generator=draws) > share for group in groups}
    for each in keep.values():
        each[0] = True
    return unit_masks(model, groups, keep)


def test_a_resnets_shortcuts_join_their_channels() -> None:
    """Option A puts 16 channels in the middle of 32, and those in the middle of 64."""
    first, _, _, new, _, last = groups = removable_units(build("option A"))
    assert [group.count for group in groups] == [16, 16, 32, 16, 64, 32]
    assert list(first.makers) == ["conv1", "stage1.0.conv2", "stage2.0.conv2", "stage3.0.conv2"]
    assert list(first.norms) == ["bn1", "stage1.0.bn2", "stage2.0.bn2", "stage3.0.bn2"]
    assert list(first.readers) == ["stage1.0.conv1", "stage2.0.conv1", "stage3.0.conv1", "fc"]
    found = [first.makers[name][[0, -1]].tolist() for name in first.makers]
    assert found == [[0, 15], [0, 15], [8, 23], [24, 39]]
    assert first.readers["fc"].flatten().tolist() == list(range(24, 40))
    assert new.makers["stage2.0.conv2"].tolist() == [*range(8), *range(24, 32)]
    assert new.makers["stage3.0.conv2"].tolist() == [*range(16, 24), *range(40, 48)]
    assert last.makers["stage3.0.conv2"].tolist() == [*range(16), *range(48, 64)]


def test_additions_join_and_concatenations_do_not() -> None:
    both, reader = removable_units(build("added"))
    assert list(both.makers) == ["left", "right"]
    assert list(reader.readers) == ["head"]
    left, right, _ = removable_units(build("side by side"))
    assert left.readers["reader"].flatten().tolist() == [0, 1, 2, 3, 4]
    assert right.readers["reader"].flatten().tolist() == [5, 6, 7, 8, 9]


@pytest.mark.parametrize(
    "join",
    [
        torch.mul,
        lambda one, other: one + 2 * other,
        lambda one, other: torch.add(one, other, alpha=2),
        lambda one, other: one + other.flip(1),
        lambda one, other: one + other + 1.0,
        lambda one, other: one + other[:, [0, 1, 2, 3, 4]],
    ],
)
def test_what_is_not_understood_stays(join: Callable[[Tensor, Tensor], Tensor]) -> None:
    assert [group.name for group in removable_units(Joining(join, 5))] == ["reader"]


@pytest.mark.slow
@pytest.mark.parametrize("kind", NETS)
def test_what_is_effective_is_what_the_smaller_net_holds(kind: str) -> None:
    """Path counts against real removal: parameters and FLOPs of a net built without the units."""
    model, images = build(kind).train(), images_for(kind)
    for _ in range(3):
        model(images)
    with torch.no_grad():  # no shift that happens to be zero
        for parameter in model.parameters():
            parameter.add_(0.01)
    masks = without_some(model)
    apply_masks(model, masks)
    compacted = compact(model.eval(), masks)
    counts = count_net(model, images.shape[1:], masks)
    smaller = count_net(compacted.model, images.shape[1:])
    assert counts.effective == counts.nonzero == compacted.parameter_count == smaller.parameters
    assert counts.flops_effective == smaller.flops_dense < counts.flops_dense
    assert all(module.weight.shape[0] > 0 for module in compacted.model.modules() if hasattr(module, "weight"))
    torch.testing.assert_close(compacted.model.eval()(images), model(images))


@pytest.mark.slow
@pytest.mark.parametrize("kind", NETS)
def test_the_smaller_net_learns_the_same(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flat_module, "_WORTH", 1.0)
    images, labels = images_for(kind), torch.tensor([0, 1, 2, 0, 1])
    flats = [FlatModel(build(kind), compaction=compaction) for compaction in (False, True)]
    for flat in flats:
        flat.set_masks(without_some(build(kind)))
        for _ in range(3):
            flat.backward(flat.loss(images, labels))
            flat.values.add_(flat.gradients, alpha=-0.1)
            flat.push()
    whole, small = flats
    assert sum(p.numel() for p in small.network.parameters()) < sum(p.numel() for p in whole.network.parameters())
    torch.testing.assert_close(whole.values, small.values, rtol=1e-10, atol=1e-12)
    for flat in flats:
        flat.network.eval()
        flat.model.eval()
    torch.testing.assert_close(whole.network(images), small.model(images), rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("kind", ["option A", "wide"])
def test_a_channel_that_something_still_makes_stays(kind: str) -> None:
    """All but one of those that make a unit are removed, or all but a shift."""
    model = build(kind)
    units = next(group for group in units_of(model) if len(group.makers) > 1)
    whole = unit_masks(model, [units], {units.name: torch.arange(units.count) > 0})
    size = compact(model, whole).parameter_count
    maker, norm = list(units.makers)[-1], next(iter(units.norms))
    for name, place in ((f"{maker}.weight", units.makers[maker][0]), (f"{norm}.bias", units.norms[norm][0])):
        masks = {key: mask.clone() for key, mask in whole.items()}
        masks[name][place] = True
        kept = build(kind).eval()
        apply_masks(kept, masks)
        assert compact(kept, masks).parameter_count > size
        images = images_for(kind)
        torch.testing.assert_close(compact(kept, masks).model.eval()(images), kept(images))


def test_pixels_are_units_where_a_linear_layer_alone_reads_them() -> None:
    """Of a net without some of them, the smaller one reads the others."""
    net = build("linear")
    (pixels,) = removable_pixels(net)
    assert (pixels.name, pixels.count, pixels.readers["1"].tolist()) == ("pixels", 64, [[i] for i in range(64)])
    keep = {"pixels": torch.arange(64) % 3 > 0}
    masks = unit_masks(net, [pixels], keep)
    apply_masks(net, masks)
    small = compact(net, masks)
    assert small.parameter_count == sum(p.numel() for p in net.parameters()) - 16 * 22
    images = images_for("linear")
    torch.testing.assert_close(small.model(images), net(images))
    assert [removable_pixels(build(kind)) for kind in ("convolutional", "option A")] == [[], []]


def test_a_layer_may_be_called_pixels() -> None:
    """Its units and the images' pixels keep names of their own."""
    layers = {"flat": nn.Flatten(), "pixels": nn.Linear(64, 8), "relu": nn.ReLU(), "out": nn.Linear(8, 4)}
    net = nn.Sequential(OrderedDict(layers))
    names = [units.name for units in (*removable_pixels(net), *removable_units(net))]
    assert names == ["pixels_", "pixels"]


class Flattened(nn.Module):
    """Reads the maps of two layers, of 16 and 4 positions, side by side."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(1, 4, 3, stride=2, padding=1), nn.Conv2d(4, 8, 3, stride=2, padding=1)
        self.fc, self.head = nn.Linear(4 * 16 + 8 * 4, 6), nn.Linear(6, 3)

    def forward(self, images: Tensor) -> Tensor:
        a = F.relu(self.a(images))
        b = F.relu(self.b(a))
        return self.head(F.relu(self.fc(torch.cat([a.flatten(1), b.flatten(1)], 1))))


class Pooled(nn.Module):
    """Takes the mean over the rows of what a linear layer has made of each."""

    def __init__(self) -> None:
        super().__init__()
        self.rows, self.more, self.head = nn.Linear(8, 6), nn.Linear(6, 5), nn.Linear(5, 3)
        self.relu = nn.ReLU()

    def forward(self, images: Tensor) -> Tensor:
        features = self.relu(self.more(self.relu(self.rows(images))))
        return self.head(features.mean((1, 2)))


# The units of a linear layer on maps [N, 1, 8, 8] lie along the width, and a flattened map has them side by side.
ON_ROWS: dict[str, Callable[[], nn.Module]] = {
    "flattened": lambda: nn.Sequential(nn.Linear(8, 6), nn.ReLU(), nn.Flatten(), nn.Linear(48, 3)),
    "pooled": lambda: nn.Sequential(nn.Linear(8, 6), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(12, 3)),
    "over the width": lambda: nn.Sequential(
        nn.Conv2d(1, 6, 3, padding=1), nn.ReLU(), nn.Linear(8, 6), nn.ReLU(), nn.Flatten(), nn.Linear(288, 3)
    ),
    "as wide as channels": lambda: nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Linear(8, 4), nn.ReLU(), nn.Flatten(), nn.Linear(256, 3)
    ),
    "normalised": lambda: nn.Sequential(
        nn.Linear(8, 6), nn.BatchNorm2d(1), nn.ReLU(), nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(72, 3)
    ),
    "convolved": lambda: nn.Sequential(nn.Linear(8, 1), nn.ReLU(), nn.Conv2d(1, 3, (8, 1)), nn.Flatten()),
    "mean of rows": Pooled,
    "flattened sides": Flattened,
}


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("kind", ON_ROWS)
def test_units_along_another_axis_are_not_taken_for_channels(
    kind: str, sparse: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever masks leave, with compaction the same net is trained."""
    monkeypatch.setattr(flat_module, "_WORTH", 1.0)
    monkeypatch.setattr(building, "is_worth", lambda mask: sparse)
    images, labels = images_for("linear"), torch.tensor([0, 1, 2, 0, 1])
    torch.manual_seed(0)
    model = ON_ROWS[kind]().double()
    draws, found = torch.Generator().manual_seed(3), []
    masks = {}
    for name, parameter in model.named_parameters():
        masks[name] = torch.rand(parameter.shape, generator=draws) < 0.6
        masks[name][torch.rand(len(parameter), generator=draws) < 0.4] = False
    for compaction in (False, True):
        flat = FlatModel(copy.deepcopy(model), compaction=compaction)
        flat.set_masks(masks)
        outputs = flat.network(images)
        flat.backward(F.cross_entropy(outputs, labels))
        found.append((outputs.detach(), flat.gradients))
    torch.testing.assert_close(found[0], found[1])


def test_units_that_cannot_be_told_apart_stay() -> None:
    """Those of several rows an image, and maps of different sizes that meet flattened; what reads them may leave."""
    left = {
        "flattened": [],
        "pooled": [],
        "over the width": [],
        "as wide as channels": [],
        "normalised": ["3"],
        "convolved": [],
        "mean of rows": [],
        "flattened sides": ["fc"],
    }
    assert {kind: [units.name for units in removable_units(net())] for kind, net in ON_ROWS.items()} == left


@pytest.mark.parametrize(
    "flatten",
    [
        lambda maps: torch.flatten(maps, 1),
        lambda maps: maps.flatten(start_dim=1),
        lambda maps: maps.view(maps.size(0), -1),
        lambda maps: torch.reshape(maps, (-1, 64)),
    ],
)
def test_units_behind_a_vector_an_image_may_leave(flatten: Callable[[Tensor], Tensor]) -> None:
    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.norm, self.two, self.head = (
                *(nn.Linear(64, 6), nn.BatchNorm1d(6)),
                *(nn.Linear(6, 5), nn.Linear(5, 3)),
            )

        def forward(self, images: Tensor) -> Tensor:
            return self.head(F.relu(self.two(F.relu(self.norm(self.one(flatten(images)))))))

    assert [units.name for units in removable_units(Own())] == ["two"]


def test_linear_layers_leave_units_out_of_every_row() -> None:
    """Along the last axis nothing has to be known of those before it."""
    net = Pooled().double()
    masks = {name: torch.ones_like(parameter, dtype=torch.bool) for name, parameter in net.named_parameters()}
    masks["more.weight"][:, :4] = False
    apply_masks(net, masks)
    small = compact(net, masks)
    assert small.model.get_submodule("rows").weight.shape == (2, 8)
    torch.testing.assert_close(small.model(images_for("linear")), net(images_for("linear")))
