"""Scores of weights, the highest of which stay (`sharpminima.catalogue.methods.choices.CRITERIA` names them).

w: weights, m: mask, g: gradient of the mean cross-entropy on a sample.
"""

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from sharpminima.catalogue.methods.choices import Criterion
from sharpminima.data import Split
from sharpminima.nets.masks import Masks
from sharpminima.pruning.engine.distribution import keep_best
from sharpminima.pruning.engine.total import total

Scores = dict[str, Tensor]
_GRASP_TEMPERATURE = 200.0  # of the logits, as in the authors' code: gradients that do not vanish at initialisation


@dataclass(frozen=True)
class Candidate:
    """The net whose weights are scored; nothing of it is changed."""

    model: nn.Module
    masks: Masks  # what survives so far; the weights that may be scored
    sample: Split
    generator: torch.Generator  # CPU
    probes: int  # random vectors, where a criterion estimates

    def weights(self) -> dict[str, Tensor]:
        """w m by name, of the parameter's shape, on the model's device; without a graph."""
        parameters = dict(self.model.named_parameters())
        return {name: parameters[name].detach() * mask.to(parameters[name].device) for name, mask in self.masks.items()}

    def loss(self, weights: dict[str, Tensor], temperature: float = 1.0) -> Tensor:
        """Mean cross-entropy of the sample with ``weights``, in training mode; buffers stay as they are."""
        buffers = {name: buffer.clone() for name, buffer in self.model.named_buffers()}
        training = self.model.training
        self.model.train()
        logits = functional_call(self.model, (weights, buffers), (self.sample.images,))
        self.model.train(training)
        return F.cross_entropy(logits / temperature, self.sample.labels)

    def gradients(self) -> dict[str, Tensor]:
        """g at w m, also for what is removed."""
        weights = {name: weight.requires_grad_() for name, weight in self.weights().items()}
        return dict(zip(weights, torch.autograd.grad(self.loss(weights), list(weights.values())), strict=True))


def magnitude(candidate: Candidate) -> Scores:
    """|w|, the control of nearly all papers (Han, Pool, Tran, Dally, NeurIPS 2015)."""
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
    """|g w|: Lee, Ajanthan, Torr, "SNIP: single-shot network pruning based on connection sensitivity", ICLR 2019."""
    weights, gradients = candidate.weights(), candidate.gradients()
    return {name: (gradients[name] * weights[name]).abs() for name in weights}


def force(candidate: Candidate) -> Scores:
    """|g w| with g at w m, for removed weights too, which so may come back.

    de Jorge et al., "Progressive skeletonization: trimming more fat from a network at initialization", ICLR 2021.
    """
    parameters, gradients = dict(candidate.model.named_parameters()), candidate.gradients()
    return {name: (g * parameters[name].detach()).abs() for name, g in gradients.items()}


def taylor(candidate: Candidate) -> Scores:
    """(g w)^2: the loss's first-order change without the weight, squared (Molchanov et al., CVPR 2019)."""
    return {name: score.square() for name, score in snip(candidate).items()}


def grasp(candidate: Candidate) -> Scores:
    """w (H g): the highest of -w (H g) are removed, which lowers the gradient's norm least.

    Wang, Zhang, Grosse, "Picking winning tickets before training by preserving gradient flow", ICLR 2020; H is the
    Hessian, and logits are divided by 200, as in the authors' code.
    """
    weights = {name: weight.requires_grad_() for name, weight in candidate.weights().items()}
    loss = candidate.loss(weights, _GRASP_TEMPERATURE)
    gradients = torch.autograd.grad(loss, list(weights.values()), create_graph=True)
    squared = total((g * g.detach()).sum() for g in gradients)
    products = torch.autograd.grad(squared, list(weights.values()))
    return {name: weights[name].detach() * product for name, product in zip(weights, products, strict=True)}


def obd(candidate: Candidate) -> Scores:
    """h w^2 / 2, h the Hessian's diagonal: LeCun, Denker, Solla, "Optimal brain damage", NeurIPS 1989.

    The diagonal is the mean of v (H v) over ``probes`` random vectors v of signs (Hutchinson), which is unbiased; the
    paper's own recursion leaves out terms.
    """
    weights = {name: weight.requires_grad_() for name, weight in candidate.weights().items()}
    gradients = torch.autograd.grad(candidate.loss(weights), list(weights.values()), create_graph=True)
    diagonal = {name: torch.zeros_like(weight) for name, weight in weights.items()}
    for _ in range(candidate.probes):
        signs = [
            (2.0 * torch.randint(0, 2, g.shape, generator=candidate.generator) - 1.0).to(g.device) for g in gradients
        ]
        slope = total((g * sign).sum() for g, sign in zip(gradients, signs, strict=True))
        products = torch.autograd.grad(slope, list(weights.values()), retain_graph=True)
        for name, sign, product in zip(weights, signs, products, strict=True):
            diagonal[name] += sign * product / candidate.probes
    return {name: diagonal[name] * weight.detach().square() / 2 for name, weight in weights.items()}


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


def keep_scored(criterion: Criterion, candidate: Candidate, survivors: int, distribution: str) -> Masks:
    """Masks that keep the ``survivors`` highest scores of what the candidate has left."""
    scores = criterion(candidate)
    if not criterion.revives:
        masks = candidate.masks
        scores = {name: score.masked_fill(~masks[name].to(score.device), -torch.inf) for name, score in scores.items()}
    return keep_best(scores, survivors, distribution)


def draw_sample(training: Split, per_class: int, draws: torch.Generator) -> Split:
    """So many images of each class, or all of a class that has fewer."""
    order = torch.randperm(len(training.labels), generator=draws)
    labels = training.labels.cpu()[order]
    places = torch.cat([(labels == label).nonzero().flatten()[:per_class] for label in labels.unique()])
    chosen = order[places].to(training.labels.device)
    return Split(training.images[chosen], training.labels[chosen])
