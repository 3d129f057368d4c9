"""A dataset by its name, or by what is near to it."""

import difflib

from sharpminima.base.errors import DataError
from sharpminima.catalogue.datasets import DATASETS, Dataset


def dataset_named(name: str) -> Dataset:
    """The entry of dataset ``name``.

    Raises:
        DataError: there is no such dataset; the message names the nearest one.
    """
    if name in DATASETS:
        return DATASETS[name]
    near = difflib.get_close_matches(name.lower(), DATASETS, n=1, cutoff=0.0)[0]
    raise DataError(f"there is no dataset {name!r}; did you mean {near!r}? There are {', '.join(DATASETS)}")
