"""The datasets by name: the facts that do not depend on their files, and what reads these."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sharpminima.catalogue.brought import running
from sharpminima.catalogue.registry import Code, Registry, loaded

Report = Callable[[str], None]
"""Takes one line of progress."""
_CONTRACT = "its code takes (dataset, root, download, report) and returns sharpminima.data.RawImages"
_IDX = "sharpminima.data.mnist:read"
_IDX_FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)


@dataclass(frozen=True, eq=False)
class Dataset:
    """The facts about a dataset."""

    name: str
    shape: tuple[int, int, int]  # channels, height, width of one image
    sizes: tuple[int, int]  # training (with validation) and test images
    class_names: tuple[str, ...]
    mean: tuple[float, ...]  # per channel, of pixels in [0, 1]
    std: tuple[float, ...]  # per channel, of pixels in [0, 1]
    source: str  # what to cite
    raw_sha256: Mapping[str, str]  # decompressed raw file, relative to the root -> SHA-256
    code: Code  # (dataset, root, download allowed, report) -> RawImages
    augment: bool = False  # training images are padded by 4, cropped and flipped
    title: str = ""  # as a person writes it; without, the name

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)

    def load(self, root: Path, download: bool, report: Report) -> Any:
        """`sharpminima.data.RawImages` from the raw files below ``root``, fetched where that is allowed.

        Raises:
            DataError: they are damaged, or not to be had.
            PluginError: a plug-in's code raised.
        """
        with running("dataset", self.name, _CONTRACT):
            return loaded(self.code)(self, root, download, report)


def _digits(name: str, title: str, digits: str, sizes: tuple[int, int]) -> Dataset:
    """The images of some of scikit-learn's digits."""
    return Dataset(
        name,
        shape=(1, 28, 28),
        sizes=sizes,
        class_names=tuple(digits),
        mean=(0.3055,),  # of the 1,438 training images of all digits, upscaled
        std=(0.3246,),
        source="Alpaydin, Kaynak: Optical recognition of handwritten digits, UCI, 1998 (in scikit-learn)",
        raw_sha256={  # of all pixels, then labels
            "sklearn.datasets.load_digits": "87ff0c9e40dc7e2c0e34e7257799c2e3f3aec1a016363bb11cad869ec428a826"
        },
        code="sharpminima.data.digits:read",
        title=title,
    )


DATASETS = Registry(
    "dataset",
    (
        _digits("digits", "digits", "0123456789", (1_438, 359)),
        _digits("digits-low", "digits 0 to 4", "01234", (721, 180)),
        _digits("digits-high", "digits 5 to 9", "56789", (717, 179)),
        Dataset(
            "mnist",
            shape=(1, 28, 28),
            sizes=(60_000, 10_000),
            class_names=tuple("0123456789"),
            mean=(0.1307,),
            std=(0.3081,),
            source="LeCun, Cortes, Burges: The MNIST database of handwritten digits",
            raw_sha256=dict(
                zip(
                    (f"MNIST/raw/{file}" for file in _IDX_FILES),
                    (
                        "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
                        "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
                        "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
                        "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
                    ),
                    strict=True,
                )
            ),
            code=_IDX,
            title="MNIST",
        ),
        Dataset(
            "fashion-mnist",
            shape=(1, 28, 28),
            sizes=(60_000, 10_000),
            class_names=(
                "T-shirt/top",
                "Trouser",
                "Pullover",
                "Dress",
                "Coat",
                "Sandal",
                "Shirt",
                "Sneaker",
                "Bag",
                "Ankle boot",
            ),
            mean=(0.2860,),
            # The customary value is the mean over images of the deviation within one; over all pixels it is 0.3530.
            std=(0.3205,),
            source="Xiao, Rasul, Vollgraf: Fashion-MNIST, arXiv:1708.07747, 2017",
            raw_sha256=dict(
                zip(
                    (f"FashionMNIST/raw/{file}" for file in _IDX_FILES),
                    (
                        "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
                        "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
                        "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
                        "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
                    ),
                    strict=True,
                )
            ),
            code=_IDX,
            title="Fashion-MNIST",
        ),
        Dataset(
            "cifar10",
            shape=(3, 32, 32),
            sizes=(50_000, 10_000),
            class_names=("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
            mean=(0.4914, 0.4822, 0.4465),
            std=(0.2470, 0.2435, 0.2616),
            source="Krizhevsky: Learning Multiple Layers of Features from Tiny Images, 2009",
            raw_sha256={
                f"cifar-10-batches-py/{file}": digest
                for file, digest in (
                    ("data_batch_1", "54636561a3ce25bd3e19253c6b0d8538147b0ae398331ac4a2d86c6d987368cd"),
                    ("data_batch_2", "766b2cef9fbc745cf056b3152224f7cf77163b330ea9a15f9392beb8b89bc5a8"),
                    ("data_batch_3", "0f00d98ebfb30b3ec0ad19f9756dc2630b89003e10525f5e148445e82aa6a1f9"),
                    ("data_batch_4", "3f7bb240661948b8f4d53e36ec720d8306f5668bd0071dcb4e6c947f78e9682b"),
                    ("data_batch_5", "d91802434d8376bbaeeadf58a737e3a1b12ac839077e931237e0dcd43adcb154"),
                    ("test_batch", "f53d8d457504f7cff4ea9e021afcf0e0ad8e24a91f3fc42091b8adef61157831"),
                )
            },
            code="sharpminima.data.cifar10:read",
            title="CIFAR-10",
            augment=True,
        ),
    ),
)
"""Name -> facts and loader."""
