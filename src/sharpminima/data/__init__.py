"""Image datasets: raw files to one prepared file, and that file to normalised tensors.

>>> DATASETS["cifar10"].shape
(3, 32, 32)
"""

from sharpminima.catalogue.datasets import DATASETS, Dataset
from sharpminima.data._spec import RawImages
from sharpminima.data.prepare import prepare_dataset
from sharpminima.data.prepared import ImageDataset, Split, load_prepared

__all__ = ["DATASETS", "Dataset", "ImageDataset", "RawImages", "Split", "load_prepared", "prepare_dataset"]
