"""What strategies, nets and datasets are called in figures and texts."""

from sharpminima.base.names import DENSE, GRADUAL
from sharpminima.catalogue.datasets import DATASETS
from sharpminima.catalogue.methods import METHODS
from sharpminima.catalogue.models import MODELS
from sharpminima.catalogue.strategies import STRATEGIES


def title_of(strategy: str, method: str) -> str:
    """Title of a strategy; ``gradual`` is the method's own states, whatever its kind."""
    if strategy == GRADUAL:
        chosen = METHODS.get(method)
        return f"gradual ({method}, G)" if chosen is None or chosen.kind == "gradual" else f"the method ({method})"
    return "dense" if strategy == DENSE else STRATEGIES[strategy].title


def short_title_of(strategy: str) -> str:
    """What a strategy is called in tables: the paper's G and 1-S, say; an unknown name as it is.

    >>> short_title_of("gradual"), short_title_of("rewind"), short_title_of("dense")
    ('G', '1-S', 'dense')
    """
    if strategy == GRADUAL:
        return "G"
    known = STRATEGIES.get(strategy)
    return known.short if known else strategy


def title_of_dataset(name: str) -> str:
    """A dataset as a person writes it; an unknown name as it is.

    >>> title_of_dataset("fashion-mnist")
    'Fashion-MNIST'
    """
    known = DATASETS.get(name)
    return known.title or name if known else name


def title_of_model(name: str) -> str:
    """A net as a person writes it; an unknown name as it is.

    >>> title_of_model("lenet300")
    'LeNet-300'
    """
    known = MODELS.get(name)
    return known.title or name if known else name


def title_of_method(name: str) -> str:
    """A method as a person writes it; of one without a title the name in words.

    >>> title_of_method("rigl"), title_of_method("weight_rewinding")
    ('RigL', 'Weight rewinding')
    """
    known = METHODS.get(name)
    words = name.replace("_", " ")
    return known.title if known and known.title else words[:1].upper() + words[1:]


def title_of_net(model: str, dataset: str) -> str:
    """A net and the data it was trained on.

    >>> title_of_net("lenet5", "mnist")
    'LeNet-5 on MNIST'
    """
    return f"{title_of_model(model)} on {title_of_dataset(dataset)}"
