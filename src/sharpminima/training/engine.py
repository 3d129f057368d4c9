"""The one training loop: dense training, gradual pruning and retraining all go through `train_replicas`."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sharpminima.base.errors import TrainingError
from sharpminima.base.progress import Progress
from sharpminima.base.stop import STOP
from sharpminima.catalogue.recipes import PspEntropySettings
from sharpminima.data import Split
from sharpminima.nets.resume import ResumeFile, save_or_stop
from sharpminima.runtime.rng import global_draws, seed_global_draws
from sharpminima.training.augment import draw_crops, pad_crop_flip
from sharpminima.training.flat import FlatModel
from sharpminima.training.optimiser import Group, Optimiser
from sharpminima.training.policy import Policy

HISTORY_COLUMNS = ["epoch", "lr", "train_loss", "validation_loss", "validation_error_percent", "sparsity"]


Stream = Callable[[int], torch.Generator]


def train(
    flat: FlatModel,
    training: Split,
    validation: Split,
    policy: Policy,
    *,
    batch_size: int,
    momentum: float = 0.0,
    weight_decay: float = 0.0,
    stream: Stream,
    augment: bool = False,
    psp_entropy: PspEntropySettings | None = None,
    progress: Progress | None = None,
    resume: ResumeFile | None = None,
) -> list[dict[str, Any]]:
    """`train_replicas` of one net."""
    (history,) = train_replicas(
        flat,
        training,
        validation,
        [policy],
        batch_size=batch_size,
        momentum=momentum,
        weight_decay=weight_decay,
        streams=[stream],
        augment=augment,
        psp_entropy=psp_entropy,
        progress=progress,
        resume=resume,
    )
    return history


def train_replicas(
    flat: FlatModel,
    training: Split,
    validation: Split,
    policies: Sequence[Policy],
    *,
    batch_size: int,
    momentum: float = 0.0,
    weight_decay: float = 0.0,
    streams: Sequence[Stream],
    augment: bool = False,
    psp_entropy: PspEntropySettings | None = None,
    progress: Progress | None = None,
    resume: ResumeFile | None = None,
) -> list[list[dict[str, Any]]]:
    """Train each replica until its policy is done; the policies keep the states that matter.

    A replica that is done leaves ``flat``; the others go on. What each does depends on its own policy and stream
    only, up to the rounding of sums that one pass makes for all.

    Args:
        flat: the model, changed in place: a `FlatModel` for one net, `FlatReplicas` for R nets at once.
        training: normalised images and labels, resident on the model's device.
        validation: what the policies decide by, after each epoch.
        policies: one a replica. Those of `FlatReplicas` may not change the net.
        batch_size: images a step; the last batch of an epoch may be smaller.
        momentum, weight_decay: of plain SGD, where the first policy has no `Policy.update_groups` of its own.
        streams: one a replica: epoch number (from 0) -> the generator of that epoch's order and crops. It must
            depend on nothing else, so that a training resumes from the middle of an epoch without generator state.
        augment: pad by 4, crop and flip at random (CIFAR-10).
        psp_entropy: a part of what steps minimise (`FlatModel.objective`); all that policies see of a step's gradient
            has it, and no loss that is reported does. None, or a beta of 0: there is none, to the bit.
        resume: where to save the state now and then and on SIGTERM, and to go on from.

    Returns:
        For each replica, one row an epoch (`HISTORY_COLUMNS`): the mean loss over the epoch's steps, and the
        validation after it.

    Raises:
        TrainingError: the loss is NaN or infinite, after an epoch or in the very first step.
        Stopped: SIGTERM came; the resume file holds the state.
    """
    if psp_entropy is not None and psp_entropy.beta:
        flat.regularise(psp_entropy, training.images, int(training.labels.max()) + 1)
    groups = policies[0].update_groups or (Group(momentum=momentum, weight_decay=weight_decay),)
    under_way = _Training.from_start(flat, Optimiser(flat, groups), policies)
    if resume is not None and (saved := resume.load()) is not None:
        under_way.restore(saved)
        if progress is not None:
            progress.note(f"goes on from {resume.path.name} at epoch {under_way.epoch}")
    while under_way.drop_done():
        nets = under_way.nets()
        rates = [policy.lr for policy, _ in nets]
        generators = [streams[replica](under_way.epoch) for replica in under_way.live]
        if flat.entropy is not None and psp_entropy is not None:
            flat.entropy.tau = psp_entropy.tau_at(under_way.epoch)
        train_losses = _epoch(
            under_way, nets, rates, training, generators, batch_size=batch_size, augment=augment, resume=resume
        )
        _validate(under_way, nets, rates, train_losses, validation)
        if progress is not None:
            rows = [under_way.histories[replica][-1] for replica in under_way.live]
            _report(progress, under_way.epoch, nets[0][0].max_epochs, rows)
    return under_way.histories


Nets = Sequence[tuple[Policy, FlatModel]]
"""Policy and net of each replica that still trains, in the order of the rows of the model."""


@dataclass
class _Training:
    """A training under way: all that changes from step to step, and what a resume file holds of it."""

    flat: FlatModel
    optimiser: Optimiser
    policies: Sequence[Policy]  # of all replicas
    histories: list[list[dict[str, Any]]]  # of all replicas
    live: list[int]  # who still trains, in the order of the rows of `flat`
    loss_sum: Tensor  # over the images of the epoch so far, float64: one number, or one a row of `flat`
    epoch: int = 0  # epochs done
    step: int = 0  # steps of the next one that are done

    @classmethod
    def from_start(cls, flat: FlatModel, optimiser: Optimiser, policies: Sequence[Policy]) -> "_Training":
        """Before the first step."""
        loss_sum = torch.zeros(flat.values.shape[:-1], dtype=torch.float64, device=flat.values.device)
        return cls(flat, optimiser, policies, [[] for _ in policies], list(range(len(policies))), loss_sum)

    def state(self) -> dict[str, Any]:
        """What a resume file holds."""
        entropy = self.flat.entropy
        return {
            "epoch": self.epoch,
            "step": self.step,
            "loss_sum": self.loss_sum,
            "live": self.live,
            "histories": self.histories,
            "model": self.flat.snapshot(),
            "mask": self.flat.mask,
            "optimiser": self.optimiser.state(),
            "policies": [policy.state() for policy in self.policies],
            **({} if entropy is None else {"entropy": entropy.state()}),
        }

    def restore(self, saved: dict[str, Any]) -> None:
        """Go on from a `state`."""
        self.epoch, self.step, self.histories = saved["epoch"], saved["step"], saved["histories"]
        for policy, its_state in zip(self.policies, saved["policies"], strict=True):
            policy.restore(its_state)
        if len(saved["live"]) < len(self.live):
            self.live = saved["live"]
            self.flat.keep(self.live)
            self.optimiser.keep(self.live)
        self.loss_sum = saved["loss_sum"].to(self.loss_sum.device)
        if saved["mask"] is not None:
            self.flat.set_mask_vector(saved["mask"])
        self.flat.restore(saved["model"])
        self.optimiser.restore(saved["optimiser"])
        if self.flat.entropy is not None:
            self.flat.entropy.restore(saved["entropy"])

    def drop_done(self) -> bool:
        """Take the replicas whose policy is done out of the model; whether any is left."""
        staying = [place for place, replica in enumerate(self.live) if not self.policies[replica].done]
        if 0 < len(staying) < len(self.live):
            self.live = [self.live[place] for place in staying]
            self.flat.keep(staying)
            self.optimiser.keep(staying)
            self.loss_sum = self.loss_sum[staying]
        return bool(staying)

    def nets(self) -> Nets:
        """Who still trains."""
        return list(zip([self.policies[replica] for replica in self.live], self.flat.replicas, strict=True))


def _epoch(
    under_way: _Training,
    nets: Nets,
    rates: Sequence[float],
    training: Split,
    generators: Sequence[torch.Generator],
    *,
    batch_size: int,
    augment: bool,
    resume: ResumeFile | None,
) -> list[float]:
    """The steps of one epoch that are not done; the mean loss of each live replica over all of them.

    Args:
        generators: of the epoch, one a live replica: its order, its crops, then the seeds of its steps.
    """
    flat = under_way.flat
    images_count = len(training.labels)
    order = flat.joined([torch.randperm(images_count, generator=generator) for generator in generators])
    crops = flat.joined([draw_crops(images_count, generator) for generator in generators]) if augment else None
    batches = order.to(flat.values.device).split(batch_size, dim=-1)
    lr = flat.joined_rates(rates)
    # Of layers that draw from torch's own generators. Seeded step by step, a training goes on to the same bits.
    draws = torch.randint(2**63 - 1, (len(batches),), generator=generators[0]).tolist()
    device = flat.values.device
    flat.network.train()
    with global_draws(device):
        for number in range(under_way.step, len(batches)):
            seed_global_draws(draws[number], device)
            index = batches[number]
            images, labels = _taken(training.images, index), _taken(training.labels, index)
            if crops is not None:
                first = number * batch_size
                images = pad_crop_flip(images, crops[..., first : first + index.shape[-1], :].to(images.device))
            loss, objective = flat.objective(images, labels)
            if under_way.epoch == number == 0:
                _check_first(flat, loss)
            flat.backward(objective)
            for policy, net in nets:
                policy.before_step(net, images, labels)
            under_way.optimiser.step(lr)
            for policy, net in nets:
                policy.after_step(net)
            flat.push()
            under_way.loss_sum += loss.detach() * index.shape[-1]
            if STOP.raised or (resume is not None and resume.due()):
                under_way.step = number + 1
                save_or_stop(resume, under_way.state)
    train_losses: list[float] = (under_way.loss_sum / images_count).view(-1).tolist()
    under_way.epoch, under_way.step = under_way.epoch + 1, 0
    under_way.loss_sum.zero_()
    return train_losses


def _check_first(flat: FlatModel, loss: Tensor) -> None:
    """Refuse a training whose very first loss is none, which the learning rate has no part in.

    Raises:
        TrainingError: the loss of the first step is NaN or infinite.
    """
    if bool(loss.isfinite().all()):
        return
    if not bool(flat.values.isfinite().all()):
        raise TrainingError(
            "the weights that the training starts from are not finite: what made them diverged; lower its learning "
            "rate or its regularisation"
        )
    raise TrainingError(
        f"the loss is {loss.max():g} in the first step, before any weight was moved: the net's outputs are not finite, "
        "which no learning rate cures; look at its forward and its first weights, and at the dataset's mean and std"
    )


def _validate(
    under_way: _Training, nets: Nets, rates: Sequence[float], train_losses: Sequence[float], validation: Split
) -> None:
    """Evaluate after an epoch, let each policy decide, and add a row to each history.

    Raises:
        TrainingError: a loss is NaN or infinite.
    """
    evaluations = under_way.flat.evaluate_each(validation.images, validation.labels)
    for replica, (policy, net), rate, train_loss, evaluation in zip(
        under_way.live, nets, rates, train_losses, evaluations, strict=True
    ):
        if not (math.isfinite(train_loss) and math.isfinite(evaluation.loss)):
            which = f" of replica {replica + 1}" if len(under_way.policies) > 1 else ""
            raise TrainingError(
                f"the loss{which} is {train_loss} after epoch {under_way.epoch}: the training diverged; "
                f"lower the learning rate (it was {rate}) or its regularisation"
            )
        policy.after_epoch(net, under_way.epoch, evaluation)
        row = [under_way.epoch, rate, train_loss, evaluation.loss, evaluation.error_percent, net.sparsity]
        under_way.histories[replica].append(dict(zip(HISTORY_COLUMNS, row, strict=True)))


def _taken(tensor: Tensor, index: Tensor) -> Tensor:
    """``tensor[index]``, faster."""
    return tensor.index_select(0, index.flatten()).unflatten(0, index.shape)


def _report(progress: Progress, epoch: int, max_epochs: int, rows: Sequence[dict[str, Any]]) -> None:
    """One line for all replicas that train: the means of their rows."""
    shown = {name: sum(row[name] for row in rows) / len(rows) for name in HISTORY_COLUMNS if name != "epoch"}
    if len(rows) > 1:
        shown["replicas"] = len(rows)
    progress(epoch, max_epochs, **shown)
