"""PSP-entropy for a training loop of any kind."""

import contextlib
from collections.abc import Iterator
from functools import partial
from typing import Any

from torch import Tensor, nn

from sharpminima.base.errors import TrainingError
from sharpminima.base.numbers import check_number, check_whole
from sharpminima.nets.activations import Activations, check_activations
from sharpminima.nets.kinds import check_kind
from sharpminima.nets.preactivations import check_functions, warn_caller, watch_preactivations
from sharpminima.training.soft_entropy import MiniBatch, SoftEntropy


class PspEntropy:
    """The PSP-entropy of each mini-batch as a differentiable number, to be maximised or minimised beside the loss.

    The neurons are those that `sharpminima.psp_entropy` measures: all that enter a ReLU, wherever it stands in the
    net. Their states are soft, sigma(z / tau), so that the entropy has a gradient; as ``tau`` falls it tends to that
    of `sharpminima.psp_entropy` on the same images. Frequencies are those of a class's images in the mini-batch, with
    a running estimate where it has few. Of order 2 it is the joint entropy of pairs.

    In the engine, a step of LeNet-5 on a CPU takes 1.2 times as long with it, one of LeNet-300 1.4 times.

    Args:
        model: the net that is trained; it is not changed.
        classes: number of classes of the labels.
        tau: width of the soft state, in the unit of pre-activations. An attribute, which may fall from step to step.
        order: 1, the mean over hidden neurons of H(z_i); 2, that over pairs of a layer of H(z_i, z_j), then over
            layers; both are sums over classes, in bits, at most ``order * classes``.
        pairs: of order 2: how many pairs of each layer, drawn once.
        seed: of the drawn pairs.
        rare: images of a class. Where a mini-batch has fewer, frequencies that were seen before stand for the rest.
        activations: whose inputs count, as for `sharpminima.analysis.capture_preactivations`.

    Raises:
        AnalysisError: the model is compiled or otherwise hides its layers.
        TrainingError: an argument is out of its range.

    >>> import torch
    >>> net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
    >>> entropy = PspEntropy(net, classes=3, tau=0.5)
    >>> images, labels = torch.randn(30, 4), torch.arange(30) % 3
    >>> with entropy.of(labels) as entropies:
    ...     loss = nn.functional.cross_entropy(net(images), labels)
    >>> (loss - 0.1 * entropies.mean()).backward()  # maximises; with + it minimises
    >>> 0 < entropies.mean().item() < 3
    True
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        classes: int,
        tau: float = 1.0,
        order: int = 1,
        pairs: int = 2000,
        seed: int = 0,
        rare: int = 10,
        activations: Activations = "relu",
    ) -> None:
        check_kind(model)
        check_activations(activations)
        check_functions(model)
        check = partial(check_whole, error=TrainingError)
        classes, pairs, rare = (
            check("classes", classes, least=1),
            check("pairs", pairs, least=1),
            check("rare", rare, least=0),
        )
        order, seed = check("order", order), check("seed", seed)
        if order not in (1, 2):
            raise TrainingError(f"order is {order}; there are 1 and 2")
        self._model, self._activations, self._warned = model, activations, False
        self._soft = SoftEntropy(classes, tau=_checked_width(tau), order=order, pairs=pairs, seed=seed, rare=rare)

    @property
    def tau(self) -> float:
        """Width of the soft state; smaller is nearer to the states that `sharpminima.psp_entropy` counts."""
        return self._soft.tau

    @tau.setter
    def tau(self, tau: float) -> None:
        self._soft.tau = _checked_width(tau)

    @contextlib.contextmanager
    def of(self, labels: Tensor) -> Iterator["Watched"]:
        """While the model runs once inside this context, on images with these labels (integers [N]), it is watched.

        A mini-batch may be of any size, and may lack classes. The pre-activations of an image lie along the first axis.

        Yields:
            What has the entropy when the model has run: `Watched.mean`.

        Raises:
            AnalysisError: no ReLU runs in the model's forward pass.
            TrainingError: the model runs a second time, or a part of it alone; a label is of no class (where the labels
                are on a CPU); what enters a ReLU has another number of rows than there are labels, or other neurons
                than before.

        Warns:
            UserWarning: other activations run beside those that count; once.
        """
        batch = self._soft.over(labels)
        names: set[str] = set()

        def add(name: str, z: Tensor) -> None:
            if not watched.whole:
                raise TrainingError(
                    "a part of the model runs on its own, where not all layers can be seen; call the model, "
                    "model(images), in place of its forward or its parts"
                )
            if name in names:
                raise TrainingError("the model runs a second time; watch each pass on its own, with its labels")
            names.add(name)
            batch.add(z, watched.layer)

        with watch_preactivations(self._model, add, self._activations) as watched:
            yield Watched(batch)
        batch.end()
        if not self._warned and (said := watched.left_out()):
            self._warned = True
            warn_caller(said)


def _checked_width(tau: Any) -> float:
    tau = check_number("tau", tau, error=TrainingError)
    if tau <= 0:
        raise TrainingError(f"tau is {tau}; give a width above 0")
    return tau


class Watched:
    """A mini-batch that a model runs on."""

    def __init__(self, batch: MiniBatch) -> None:
        self._batch = batch
        self._mean: Tensor | None = None

    def mean(self) -> Tensor:
        """The entropy of the mini-batch [] in bits, with its gradient; the same however often it is asked for.

        Raises:
            TrainingError: the model has not run, or of order 2 no layer has two neurons.
        """
        if self._mean is None:
            self._mean = self._batch.mean()
        return self._mean
