"""The nets by name, with what can be said of them without building them."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from sharpminima.base.errors import PluginError
from sharpminima.catalogue.brought import described, running
from sharpminima.catalogue.registry import Code, Registry, loaded

if TYPE_CHECKING:
    from torch import nn

_CONTRACT = "its builder takes num_classes and the arguments of the entry, by name, and returns a torch.nn.Module"
_MEASURE = "sharpminima.nets.facts:net_facts"  # builds the net
_GREY, _COLOUR = (1, 28, 28), (3, 32, 32)


@dataclass(frozen=True)
class NetFacts:
    """Sizes of a net of 10 classes."""

    parameters: int
    state: int  # values of its state dict: parameters and BatchNorm's statistics
    prunable: int
    multiplications: int  # of an image, in layers with weights
    outputs: int  # of an image, of layers with weights
    has_units: bool  # filters or hidden units that can be left out

    @property
    def has_batchnorm(self) -> bool:
        """Whether it has a BatchNorm, which keeps statistics beside its parameters."""
        return self.state > self.parameters


@dataclass(frozen=True, eq=False)
class Model:
    """A net: its builder takes ``num_classes`` and the ``arguments``."""

    name: str
    shape: tuple[int, int, int]  # channels, height and width of one image
    code: Code
    arguments: Mapping[str, Any] = field(default_factory=dict)
    known: NetFacts | None = None  # None: the net is built where they are asked for
    title: str = ""  # as a person writes it; without, the name

    @property
    def facts(self) -> NetFacts:
        """Its sizes with 10 classes: those that are known, else counted on a net that is built for it."""
        return self.known or loaded(_MEASURE)(self)

    def __call__(self, *, num_classes: int = 10) -> "nn.Module":
        """Build it; its weights are drawn from PyTorch's default generator.

        Raises:
            PluginError: a plug-in's builder cannot be called or raised, or what was built is no module.
        """
        name = unlabelled(self.name)
        with running("model", name, _CONTRACT):
            net = loaded(self.code)(**self.arguments, num_classes=num_classes)
        from torch import nn  # which the builder has loaded

        if not isinstance(net, nn.Module):
            raise PluginError(f"{described('model', name)}: its builder returned {net!r:.40}; {_CONTRACT}")
        return net


def _with_units(parameters: int, state: int, prunable: int, multiplications: int, outputs: int) -> NetFacts:
    return NetFacts(parameters, state, prunable, multiplications, outputs, has_units=True)


def _lenet(name: str, title: str, builder: str, *facts: int) -> Model:
    return Model(name, _GREY, f"sharpminima.nets.models.lenet:{builder}", {}, _with_units(*facts), title)


def _conv(depth: int, *facts: int) -> Model:
    code = "sharpminima.nets.models.conv:ConvN"
    return Model(f"conv{depth}", _COLOUR, code, {"depth": depth}, _with_units(*facts), f"Conv-{depth}")


def _resnet(depth: int, *facts: int) -> Model:
    code = "sharpminima.nets.models.resnet:ResNetCifar"
    return Model(f"resnet{depth}", _COLOUR, code, {"depth": depth}, _with_units(*facts), f"ResNet-{depth}")


def _projected(depth: int, *facts: int) -> Model:
    code, arguments = "sharpminima.nets.models.resnet:ResNetCifar", {"depth": depth, "projection": True}
    title = f"ResNet-{depth} with projections"
    return Model(f"resnet{depth}-projection", _COLOUR, code, arguments, _with_units(*facts), title)


def _wide(depth: int, width: int, *facts: int) -> Model:
    code, arguments = "sharpminima.nets.models.wrn:WideResNet", {"depth": depth, "width": width}
    return Model(f"wrn{depth}-{width}", _COLOUR, code, arguments, _with_units(*facts), f"WRN-{depth}-{width}")


def _vgg(depth: int, *facts: int) -> Model:
    code = "sharpminima.nets.models.vgg:Vgg"
    return Model(f"vgg{depth}", _COLOUR, code, {"depth": depth}, _with_units(*facts), f"VGG-{depth}")


LABEL = "@[a-z0-9.-]+"
"""Behind a model's name: what a study calls its way of training that net, where it has several."""


def unlabelled(name: str) -> str:
    """The model's own name.

    >>> unlabelled("lenet300@plus")
    'lenet300'
    """
    return name.partition("@")[0]


class Models(Registry[Model]):
    """The nets; ``lenet300@plus`` is ``lenet300`` under a label, so that a study may train it in several ways.

    The label stands in paths and tables; net and W0 are those of the model itself.

    >>> MODELS["lenet300@plus"].title, MODELS["lenet300@plus"].facts == MODELS["lenet300"].facts
    ('LeNet-300 (plus)', True)
    """

    def __missing__(self, name: str) -> Model:
        """The model of a labelled name."""
        base = unlabelled(name)
        if base == name or base not in self.keys() or not re.fullmatch(LABEL, name.removeprefix(base)):
            raise KeyError(name)
        entry = self[base]
        return replace(entry, name=name, title=f"{entry.title or base} ({name.partition('@')[2]})")

    def __contains__(self, name: object) -> bool:
        """Whether there is such a model, with a label or without."""
        return isinstance(name, str) and self.get(name) is not None

    def get(self, name: str, default: Any = None) -> Any:
        """The model, or else the default."""
        try:
            return self[name]
        except KeyError:
            return default


MODELS = Models(
    "model",
    (
        _lenet("lenet300", "LeNet-300", "LeNet300", 266_610, 266_610, 266_610, 266_200, 410),
        _lenet("lenet5", "LeNet-5", "LeNet5", 431_080, 431_080, 431_080, 2_293_000, 15_230),
        _lenet("lenet5-bn", "LeNet-5 with BatchNorm", "LeNet5BatchNorm", 431_150, 431_292, 431_010, 2_293_000, 15_230),
        _lenet("lenet3", "LeNet-3", "LeNet3", 61_706, 61_706, 61_706, 416_520, 6_518),
        Model(
            "mlp3x400",
            _GREY,
            "sharpminima.nets.models.mlp:MLP3x400",
            known=NetFacts(638_810, 638_810, 638_810, 637_600, 1_210, has_units=True),
            title="MLP 3×400",
        ),
        _conv(2, 4_301_642, 4_301_642, 4_301_642, 43_780_608, 131_594),
        _conv(4, 2_425_930, 2_425_930, 2_425_930, 98_306_560, 197_130),
        _conv(6, 2_262_602, 2_262_602, 2_262_602, 153_881_088, 229_898),
        _resnet(20, 269_722, 271_117, 268_346, 40_551_040, 188_426),
        _resnet(32, 464_154, 466_457, 461_882, 68_862_592, 303_114),
        _resnet(56, 853_018, 857_137, 848_954, 125_485_696, 532_490),
        _resnet(110, 1_727_962, 1_736_167, 1_719_866, 252_887_680, 1_048_586),
        _projected(20, 272_282, 273_677, 270_906, 40_813_184, 200_714),
        _projected(56, 855_578, 859_697, 851_514, 125_747_840, 544_778),
        _projected(110, 1_730_522, 1_738_727, 1_722_426, 253_149_824, 1_060_874),
        _wide(16, 4, 2_748_890, 2_752_519, 2_745_274, 392_612_352, 589_834),
        _wide(16, 8, 10_961_370, 10_968_583, 10_954_170, 1_548_145_664, 1_163_274),
        _wide(28, 10, 36_479_194, 36_497_171, 36_461_242, 5_243_328_768, 2_596_874),
        _vgg(13, 9_413_066, 9_418_964, 9_407_178, 228_267_008, 249_866),
        _vgg(16, 14_724_042, 14_732_503, 14_715_594, 313_201_664, 276_490),
        _vgg(19, 20_035_018, 20_046_042, 20_024_010, 398_136_320, 303_114),
    ),
)
"""Name -> net; with a label behind the name, see `Models`."""
