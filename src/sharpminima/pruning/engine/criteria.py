"""Scores of weights, the highest of which stay (`sharpminima.catalogue.methods.choices.CRITERIA` names them).

w: weights, m: mask, g: gradient of the mean cross-entropy on a sample.
"""

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from sharpminima.base.errors import blamed_on
from sharpminima.catalogue.methods.choices import Criterion
from sharpminima.data import Split
from sharpminima.nets.masks import Masks
from sharpminima.pruning.engine.curvature import gauss_newton_diagonal
from sharpminima.pruning.engine.distribution import keep_best
from sharpminima.pruning.engine.total import total
from sharpminima.runtime.rng import global_draws, seed_global_draws

Scores = dict[str, Tensor]
_GRASP_TEMPERATURE = 200.0  # of the logits, as in the authors' code: gradients that do not vanish at initialisation


@dataclass(frozen=True)
class Candidate:
    """The net whose weights are scored; nothing of it is changed."""

    model: nn.Module
    masks: Masks  # what survives so far; the weights that may be scored
    sample: Split
    generator: torch.Generator  # CPU
    batches: int  # mini-batches that the sample makes, where a criterion averages over those

    def weights(self) -> dict[str, Tensor]:
        """w m by name, of the parameter's shape, on the model's device; without a graph."""
        parameters = dict(self.model.named_parameters())
        return {name: parameters[name].detach() * mask.to(parameters[name].device) for name, mask in self.masks.items()}

    def mini_batches(self) -> list[Split]:
        """The sample in `batches` parts, or as many as have two images each, and one of each class of the sample."""
        rarest = int(self.sample.labels.unique(return_counts=True)[1].min())
        parts = max(1, min(self.batches, rarest, len(self.sample.labels) // 2))
        by_class = self.sample.labels.argsort(stable=True)  # a part has every so-manieth, and so some of each class
        places = [by_class[part::parts] for part in range(parts)]
        return [Split(self.sample.images[place], self.sample.labels[place]) for place in places]

    def loss(self, weights: dict[str, Tensor], temperature: float = 1.0, part: Split | None = None) -> Tensor:
        """Mean cross-entropy of the sample, or ``part`` of it, with ``weights``, in training mode; buffers stay."""
        data = self.sample if part is None else part
        buffers = {name: buffer.clone() for name, buffer in self.model.named_buffers()}
        training, device = self.model.training, data.images.device
        self.model.train()
        with global_draws(device):
            seed_global_draws(self.generator.initial_seed(), device)  # what dropout draws is the same every time
            logits = functional_call(self.model, (weights, buffers), (data.images,))
        self.model.train(training)
        return F.cross_entropy(logits / temperature, data.labels)

    def gradients(self, part: Split | None = None) -> dict[str, Tensor]:
        """g at w m, of the sample or ``part`` of it, also for what is removed."""
        weights = {name: weight.requires_grad_() for name, weight in self.weights().items()}
        gradients = torch.autograd.grad(self.loss(weights, part=part), list(weights.values()))
        return dict(zip(weights, gradients, strict=True))


def magnitude(candidate: Candidate) -> Scores:
    """|w|, the control of nearly all papers (Han, Pool, Tran, Dally, NeurIPS 2015).

    LeNet-300 on MNIST by the published recipe: 2.07 ± 0.07 % error at 8.33 % left; published: 1.59 at 8.33, higher. The
    figure is that of pruning in rounds.
    """
    return {name: weight.abs() for name, weight in candidate.weights().items()}


def random(candidate: Candidate) -> Scores:
    """Uniform draws: the control of all others."""
    return {
        name: torch.rand(weight.shape, generator=candidate.generator, dtype=torch.float64).to(weight.device)
        for name, weight in candidate.weights().items()
    }


def gradient(candidate: Candidate) -> Scores:
    """|g|: how much the loss feels the weight, whatever its size; a control."""
    return {name: g.abs() for name, g in candidate.gradients().items()}


def snip(candidate: Candidate) -> Scores:
    """|g w|: Lee, Ajanthan, Torr, "SNIP: single-shot network pruning based on connection sensitivity", ICLR 2019.

    The authors' LeNets start by variance scaling, and their masks hold biases too. Ours start as all our nets do, and
    keep biases, unless ``biases`` is set; our densities are therefore of weights alone.

    LeNet-300 on MNIST by the published recipe: 2.12 % error at 5 % left; published: 1.60 at 5, higher. 2.99 % error at
    2 % left; published: 2.40 at 2, higher.
    """
    weights, gradients = candidate.weights(), candidate.gradients()
    return {name: (gradients[name] * weights[name]).abs() for name in weights}


def force(candidate: Candidate) -> Scores:
    """|g w| with g at w m, for removed weights too, which so may come back.

    de Jorge et al., "Progressive skeletonization: trimming more fat from a network at initialization", ICLR 2021; as
    in the authors' code each round sees images of its own. In rounds of training (`gimp`, `agp`), where removed weights
    are zero by then, none comes back.
    """
    parameters, gradients = dict(candidate.model.named_parameters()), candidate.gradients()
    return {name: (g * parameters[name].detach()).abs() for name, g in gradients.items()}


def taylor(candidate: Candidate) -> Scores:
    """Mean over mini-batches of (g w)^2, the squared first-order change of the loss without the weight.

    Molchanov, Mallya, Tyree, Frosio, Kautz, "Importance estimation for neural network pruning", CVPR 2019; the square
    is inside the mean as in the authors' code, so that mini-batches that pull a weight to and fro do not cancel. Of one
    mini-batch it would rank as `snip` does. That single weights are scored, and the number of mini-batches, are ours;
    the authors remove filters (`taylor_channels`).
    """
    weights = candidate.weights()
    scores = {name: torch.zeros_like(weight) for name, weight in weights.items()}
    parts = candidate.mini_batches()
    for part in parts:
        for name, g in candidate.gradients(part).items():
            scores[name] += (g * weights[name]).square() / len(parts)
    return scores


def grasp(candidate: Candidate) -> Scores:
    """w (H g): the highest of -w (H g) are removed, which lowers the gradient's norm least.

    Wang, Zhang, Grosse, "Picking winning tickets before training by preserving gradient flow", ICLR 2020; H is the
    Hessian, and logits are divided by 200, as in the authors' code. The authors draw linear layers anew by Xavier
    before they score; ours are scored as they start, so that masks differ from theirs by more than the draw.
    """
    weights = {name: weight.requires_grad_() for name, weight in candidate.weights().items()}
    loss = candidate.loss(weights, _GRASP_TEMPERATURE)
    gradients = torch.autograd.grad(loss, list(weights.values()), create_graph=True)
    squared = total((g * g.detach()).sum() for g in gradients)
    products = torch.autograd.grad(squared, list(weights.values()))
    return {name: weights[name].detach() * product for name, product in zip(weights, products, strict=True)}


def obd(candidate: Candidate) -> Scores:
    """h w^2 / 2, h the diagonal of the Hessian: LeCun, Denker, Solla, "Optimal brain damage", NeurIPS 1989.

    As in the paper (its Levenberg-Marquardt approximation) h leaves out the second derivatives of the net, so that it
    is that of the Gauss-Newton matrix and not negative. The paper's recursion drops the terms between units of a layer
    as well; ours is exact (`sharpminima.pruning.engine.curvature`), of the sample and in eval mode. The paper trains on
    between removals, which is `finetune` with this criterion; in rounds as here h alone is measured anew.
    """
    weights = candidate.weights()
    diagonal = gauss_newton_diagonal(candidate.model, weights, candidate.sample)
    return {name: diagonal[name] * weight.square() / 2 for name, weight in weights.items()}


def synflow(candidate: Candidate) -> Scores:
    """|w| dR/d|w|, R the sum of the outputs of the net of absolute weights for an image of ones; no data.

    Tanaka, Kunin, Yamins, Ganguli, "Pruning neural networks without any data by iteratively conserving synaptic
    flow", NeurIPS 2020. Eval mode, in float64: products over deep nets leave float32.
    """
    model = copy.deepcopy(candidate.model).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.abs_()
    weights = {name: weight.abs().double().requires_grad_() for name, weight in candidate.weights().items()}
    ones = torch.ones_like(candidate.sample.images[:1], dtype=torch.float64)
    flow = functional_call(model, weights, (ones,)).sum()
    gradients = torch.autograd.grad(flow, list(weights.values()))
    return {name: weights[name].detach() * g for name, g in zip(weights, gradients, strict=True)}


def keep_scored(
    criterion: Criterion, candidate: Candidate, survivors: int, distribution: str, *, reviving: bool = False
) -> Masks:
    """Masks that keep the ``survivors`` highest scores of what the candidate has left.

    Args:
        reviving: whether what has left may come back; the candidate's model then has its weights still.

    Raises:
        MethodError: scores that cannot be ranked, or not those of what the candidate's masks name; both are named.
    """
    scores, masks = criterion(candidate), candidate.masks
    alive = {name: torch.ones_like(mask) for name, mask in masks.items()} if reviving else masks
    with blamed_on(f"criterion {criterion.name}"):
        return keep_best(scores, survivors, distribution, alive)


def draw_sample(training: Split, per_class: int, draws: torch.Generator) -> Split:
    """So many images of each class, or all of a class that has fewer."""
    order = torch.randperm(len(training.labels), generator=draws)
    labels = training.labels.cpu()[order]
    places = torch.cat([(labels == label).nonzero().flatten()[:per_class] for label in labels.unique()])
    chosen = order[places].to(training.labels.device)
    return Split(training.images[chosen], training.labels[chosen])
