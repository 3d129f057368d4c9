"""The datasets by name; the names are used verbatim in configs, paths and plots."""

import difflib

from sharpminima.data import cifar10, digits, mnist
from sharpminima.data._spec import DatasetSpec
from sharpminima.errors import DataError

DATASETS: dict[str, DatasetSpec] = {
    "digits": digits.SPEC,
    "digits-low": digits.LOW,
    "digits-high": digits.HIGH,
    "mnist": mnist.MNIST,
    "fashion-mnist": mnist.FASHION_MNIST,
    "cifar10": cifar10.SPEC,
}
"""Name -> facts and loader."""


def dataset_spec(name: str) -> DatasetSpec:
    """The facts about dataset ``name``.

    Raises:
        DataError: there is no such dataset; the message names the nearest one.
    """
    if name in DATASETS:
        return DATASETS[name]
    near = difflib.get_close_matches(name.lower(), DATASETS, n=1, cutoff=0.0)[0]
    raise DataError(f"there is no dataset {name!r}; did you mean {near!r}? There are {', '.join(DATASETS)}")
