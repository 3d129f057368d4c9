"""Nets, datasets and runs, named as a person writes them."""

from collections.abc import Hashable, Iterable

from sharpminima.base.names import GRADUAL
from sharpminima.catalogue.methods import METHODS
from sharpminima.figures.style import GRADUAL_COLOUR, PALETTE, Look, look_of
from sharpminima.report.titles import title_of, title_of_net

_KINDS = tuple(dict.fromkeys(method.kind for method in METHODS.values()))


def experiment_name(model: str, dataset: str, method: str, methods: Iterable[Hashable]) -> str:
    """A net and its data, and the method where the study has several.

    Args:
        model, dataset, method: of the experiment.
        methods: those of the study.

    >>> experiment_name("lenet300", "mnist", "lobster", ["lobster"])
    'LeNet-300 on MNIST'
    >>> experiment_name("lenet300", "mnist", "snip", ["lobster", "snip"])
    'LeNet-300 on MNIST, snip'
    """
    return title_of_net(model, dataset) + (f", {method}" if len(set(methods)) > 1 else "")


def title_among(strategy: str, method: str, methods: Iterable[Hashable]) -> str:
    """A strategy, for a control: where there are several methods, one title stands for the nets of each.

    >>> title_among("gradual", "lobster", ["lobster"])
    'gradual (lobster, G)'
    >>> title_among("gradual", "lobster", ["lobster", "snip"])
    "the method's own (G)"
    """
    return "the method's own (G)" if strategy == GRADUAL and len(set(methods)) > 1 else title_of(strategy, method)


def look_among(strategy: str, method: str, methods: Iterable[Hashable]) -> Look:
    """How nets are drawn: as in the figures, and a method's own, where there are several, in the colour of its kind.

    >>> look_among("gradual", "lobster", ["lobster"]).colour == GRADUAL_COLOUR
    True
    """
    look = look_of(strategy, method)
    if look.colour == GRADUAL_COLOUR and method in METHODS and len(set(methods)) > 1:
        colour = PALETTE[_KINDS.index(METHODS[method].kind) % len(PALETTE)]
        return Look(look.title, colour, look.marker, look.main)
    return look
