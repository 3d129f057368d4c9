"""PSP-entropy of a net on images, in one call."""

import os

from torch import Tensor, nn

from sharpminima.analysis.psp._by_class import entropy_by_class
from sharpminima.analysis.psp.entropy import Progress, PspEntropy, check_order, psp_statistics
from sharpminima.base.errors import AnalysisError
from sharpminima.nets.activations import Activations


def psp_entropy(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    order: int = 1,
    definition: str = "joint",
    samples: int | None = None,
    seed: int = 0,
    batch_size: int = 250,
    activations: Activations = "relu",
    classes: str = "all",
    by_class: bool = False,
    progress: Progress | None = None,
    resume: str | os.PathLike[str] | None = None,
) -> PspEntropy:
    """PSP-entropy of ``model`` on ``images``, in bits.

    Order 1 (eq. 4-5): H(z_i) = sum over classes c of H(z_i|c), at most the number of classes; ``mean`` over
    all hidden neurons. Order k > 1, over the tuples of k distinct neurons of a layer, by ``definition``:

    - ``joint``: H(z_i, z_j, ...|c) over the 2^k joint states, summed over classes, averaged over the tuples
      (at most k times the number of classes), then over layers;
    - ``agreement``: -(1 - f) log2 (1 - f), summed over classes, averaged over layers, where f is the share of
      a layer's tuples and a class's images on which all k states are the same. The paper's authors computed
      this single term of pairs in their first public code, there with each neuron paired with itself too.

    All are exact but ``joint`` of k > 1 where a layer's tuples have more than `MAX_STATES` joint states, counted
    over the neurons that vary within a class (with 10 classes more than about 70,000 of them at k = 2, 1,950 at k = 3,
    350 at k = 4). There, and only where ``samples`` asks for it, the mean is estimated without bias and with a standard
    error from tuples that are drawn uniformly. Neurons that are constant within a class take no part in either:
    the joint entropy of a tuple is that of its neurons that vary.

    ``mean_live`` takes the neurons whose state is not the same on all the images, or the tuples of them, and
    leaves out layers without such a tuple. With none at all it is 0, as ``mean`` then is: constant states
    carry no information. A layer of fewer than k neurons has no tuples and is left out.

    Args:
        model, images, labels, batch_size, activations, classes: as for `psp_statistics`, which gives all orders from
            one pass.
        order: k, from 1 on.
        definition: "joint" or "agreement"; both are the same at order 1.
        samples: tuples to draw in each class of a layer that has too many, once for every number of neurons
            above one that vary; None: an error there.
        seed: of the drawn tuples; equal seeds give equal results.
        by_class: take one class's images after another and keep the counts of one class only; then ``per_neuron`` is
            None, and of `MAX_STATES` each class has its share. For nets of many neurons and classes: the ResNet-50 of
            1,000 classes has 9.6 million hidden neurons at 224 x 224, and its counts take 0.3 GB instead of 150.
        progress: called with (batches done, batches in all), then, of ``joint`` with k > 1, with (classes of layers
            done, those in all); with ``by_class`` with (classes done, classes in all).
        resume: of ``by_class``, a file for the finished classes, written every minute and on SIGTERM, and removed at
            the end. A call with the same arguments goes on from it, to the same bits; a file of others is ignored, and
            written over, one that is no resume file is refused.

    Memory: as for `psp_statistics`, and at order 1 16 bytes a class and hidden neuron in all; ``by_class`` 32 bytes a
    hidden neuron, 16 an image and layer, and what the images of one class take; with ``joint`` of k > 1 also eight bits
    an image of a class and hidden neuron, and 8 bytes a tuple and neuron of a sample.

    Raises:
        AnalysisError: as for `psp_statistics` and `PspStatistics.entropy`; ``resume`` without ``by_class``.
        CheckpointError: ``resume`` is a file of others, a folder, ...
        Stopped: SIGTERM came during ``by_class`` (where `sharpminima.base.stop` catches it).

    >>> import torch
    >>> net = nn.Sequential(nn.Flatten(), nn.Linear(1, 2, bias=False), nn.ReLU(), nn.Linear(2, 2))
    >>> net[1].weight.data = torch.tensor([[1.0], [-1.0]])
    >>> images, labels = torch.tensor([-1.0, 1.0, 1.0, 1.0]).view(4, 1, 1, 1), torch.tensor([0, 0, 1, 1])
    >>> psp_entropy(net, images, labels).mean  # both neurons: 1 bit on the first class, 0 on the second
    1.0
    """
    order = check_order(order, definition)
    pairs = order > 1 and definition == "joint"
    if by_class:
        return entropy_by_class(
            model,
            images,
            labels,
            order=order,
            definition=definition,
            samples=samples,
            seed=seed,
            batch_size=batch_size,
            activations=activations,
            classes=classes,
            progress=progress,
            resume=resume,
        )
    if resume is not None:
        raise AnalysisError("one pass over all classes has no state to go on from; give by_class=True with resume")
    statistics = psp_statistics(
        model,
        images,
        labels,
        pairs=pairs,
        batch_size=batch_size,
        activations=activations,
        classes=classes,
        progress=progress,
    )
    return statistics.entropy(order, definition, samples=samples, seed=seed, progress=progress)
