"""The one training loop: dense training, gradual pruning and retraining all go through `train_replicas`."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from sharpminima.base.errors import TrainingError
from sharpminima.base.progress import Progress
from sharpminima.base.stop import STOP
from sharpminima.data import Split
from sharpminima.nets.resume import ResumeFile, save_or_stop
from sharpminima.training.augment import draw_crops, pad_crop_flip
from sharpminima.training.flat import FlatModel, Sgd
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
        streams: one a replica: epoch number (from 0) -> the generator of that epoch's order and crops. It must
            depend on nothing else, so that a training resumes from the middle of an epoch without generator state.
        augment: pad by 4, crop and flip at random (CIFAR-10).
        resume: where to save the state now and then and on SIGTERM, and to go on from.

    Returns:
        For each replica, one row an epoch (`HISTORY_COLUMNS`): the mean loss over the epoch's steps, and the
        validation after it.

    Raises:
        TrainingError: the loss is NaN or infinite.
        Stopped: SIGTERM came; the resume file holds the state.
    """
    sgd = Sgd(flat, momentum=momentum, weight_decay=weight_decay)
    histories: list[list[dict[str, Any]]] = [[] for _ in policies]
    live = list(range(len(policies)))  # who still trains, in the order of the rows of `flat`
    epoch, first_step = 0, 0
    loss_sum = torch.zeros(flat.values.shape[:-1], dtype=torch.float64, device=flat.values.device)

    def state() -> dict[str, Any]:
        return {
            "epoch": epoch,
            "step": first_step,
            "loss_sum": loss_sum,
            "live": live,
            "histories": histories,
            "model": flat.snapshot(),
            "mask": flat.mask,
            "momentum": sgd.buffer,
            "policies": [policy.state() for policy in policies],
        }

    if resume is not None and (saved := resume.load()) is not None:
        epoch, first_step, histories = saved["epoch"], saved["step"], saved["histories"]
        for policy, its_state in zip(policies, saved["policies"], strict=True):
            policy.restore(its_state)
        if len(saved["live"]) < len(live):
            live = saved["live"]
            flat.keep(live)
            sgd.keep(live)
        loss_sum = saved["loss_sum"].to(loss_sum.device)
        if saved["mask"] is not None:
            flat.set_mask_vector(saved["mask"])
        flat.restore(saved["model"])
        if sgd.buffer is not None:
            sgd.buffer.copy_(saved["momentum"])
        if progress is not None:
            progress.note(f"goes on from {resume.path.name} at epoch {epoch}")

    while staying := [place for place, replica in enumerate(live) if not policies[replica].done]:
        if len(staying) < len(live):
            live = [live[place] for place in staying]
            flat.keep(staying)
            sgd.keep(staying)
            loss_sum = loss_sum[staying]
        nets = list(zip([policies[replica] for replica in live], flat.replicas, strict=True))
        generators = [streams[replica](epoch) for replica in live]
        images_count = len(training.labels)
        order = flat.joined([torch.randperm(images_count, generator=generator) for generator in generators])
        crops = flat.joined([draw_crops(images_count, generator) for generator in generators]) if augment else None
        batches = order.to(flat.values.device).split(batch_size, dim=-1)
        rates = [policy.lr for policy, _ in nets]
        lr = flat.joined_rates(rates)
        flat.network.train()
        for number in range(first_step, len(batches)):
            index = batches[number]
            images, labels = _taken(training.images, index), _taken(training.labels, index)
            if crops is not None:
                start = number * batch_size
                images = pad_crop_flip(images, crops[..., start : start + index.shape[-1], :].to(images.device))
            loss = flat.loss(images, labels)
            flat.backward(loss)
            for policy, net in nets:
                policy.before_step(net, images, labels)
            sgd.step(lr)
            for policy, net in nets:
                policy.after_step(net)
            flat.push()
            loss_sum += loss.detach() * index.shape[-1]
            if STOP.raised or (resume is not None and resume.due()):
                first_step = number + 1
                save_or_stop(resume, state)
        first_step = 0
        epoch += 1
        train_losses = (loss_sum / images_count).view(-1).tolist()
        loss_sum.zero_()
        measured = flat.evaluate_each(validation.images, validation.labels)
        for replica, (policy, net), rate, train_loss, found in zip(
            live, nets, rates, train_losses, measured, strict=True
        ):
            if not (math.isfinite(train_loss) and math.isfinite(found.loss)):
                which = f" of replica {replica + 1}" if len(policies) > 1 else ""
                raise TrainingError(
                    f"the loss{which} is {train_loss} after epoch {epoch}: the training diverged; "
                    f"lower the learning rate (it was {rate}) or its regularisation"
                )
            policy.after_epoch(net, epoch, found)
            row = [epoch, rate, train_loss, found.loss, found.error_percent, net.sparsity]
            histories[replica].append(dict(zip(HISTORY_COLUMNS, row, strict=True)))
        if progress is not None:
            _report(progress, epoch, nets[0][0].max_epochs, [histories[replica][-1] for replica in live])
    return histories


def _taken(tensor: Tensor, index: Tensor) -> Tensor:
    """``tensor[index]``, faster."""
    return tensor.index_select(0, index.flatten()).unflatten(0, index.shape)


def _report(progress: Progress, epoch: int, max_epochs: int, rows: Sequence[dict[str, Any]]) -> None:
    """One line for all replicas that train: the means of their rows."""
    shown = {name: sum(row[name] for row in rows) / len(rows) for name in HISTORY_COLUMNS if name != "epoch"}
    if len(rows) > 1:
        shown["replicas"] = len(rows)
    progress(epoch, max_epochs, **shown)
