"""W0 of a run: what everything of it starts from."""

from pathlib import Path

from sharpminima.base.errors import ConfigError
from sharpminima.catalogue.models import MODELS
from sharpminima.catalogue.recipes import BatchNormSettings
from sharpminima.data import load_prepared
from sharpminima.nets.initial import save_initial
from sharpminima.steps.job import check_shape

_TRIED_ON = 4  # images: a BatchNorm needs several, and the widest net takes a second for as many


def init(data: Path, model_name: str, seed: int, out: Path, *, batchnorm: BatchNormSettings | None = None) -> None:
    """Write W0 of run ``seed``: what dense training, gradual methods and ``rewind`` start from.

    Its BatchNorm, where it is not the usual one, is that of all that comes after.

    Raises:
        DataError: the model takes images of another shape.
        ConfigError: the model has no BatchNorm, and ``batchnorm`` is given.
        PluginError: the model cannot be built, or its net not be trained and pruned (`sharpminima.nets.usable`).
    """
    dataset = load_prepared(data)
    if model_name in MODELS:  # else the net's builder names those that are
        check_shape(model_name, dataset)
        if batchnorm is not None and not MODELS[model_name].facts.has_batchnorm:
            raise ConfigError(f"--batchnorm: {model_name} has none; leave it out, or take another model")
    net = {"model": model_name, **({} if batchnorm is None else {"batchnorm": batchnorm.model_dump()})}
    facts = {"dataset": dataset.name, "dataset_sha256": dataset.sha256, "num_classes": dataset.num_classes}
    save_initial(out, {**net, **facts, "seed": seed}, tried_on=dataset.first("train", _TRIED_ON))
