"""The one training loop: dense training, gradual pruning and retraining all go through `train`."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional as F

from sharpminima.data import Split
from sharpminima.errors import TrainingError
from sharpminima.progress import Progress
from sharpminima.stop import STOP, Stopped
from sharpminima.training.augment import draw_crops, pad_crop_flip
from sharpminima.training.flat import FlatModel, Sgd
from sharpminima.training.policy import Policy
from sharpminima.training.resume import ResumeFile

HISTORY_COLUMNS = ["epoch", "lr", "train_loss", "validation_loss", "validation_error_percent", "sparsity"]


def train(
    flat: FlatModel,
    training: Split,
    validation: Split,
    policy: Policy,
    *,
    batch_size: int,
    momentum: float = 0.0,
    weight_decay: float = 0.0,
    stream: Callable[[int], torch.Generator],
    augment: bool = False,
    progress: Progress | None = None,
    resume: ResumeFile | None = None,
) -> list[dict[str, Any]]:
    """Train until ``policy.done``; the policy keeps the states that matter.

    Args:
        flat: the model, changed in place.
        training: normalised images and labels, resident on the model's device.
        validation: what the policy decides by, after each epoch.
        batch_size: images a step; the last batch of an epoch may be smaller.
        stream: epoch number (from 0) -> the generator of that epoch's order and crops. It must depend on nothing
            else, so that a training resumes from the middle of an epoch without any generator state.
        augment: pad by 4, crop and flip at random (CIFAR-10).
        resume: where to save the state now and then and on SIGTERM, and to go on from.

    Returns:
        One row an epoch (`HISTORY_COLUMNS`): the mean loss over the epoch's steps, and the validation after it.

    Raises:
        TrainingError: the loss is NaN or infinite.
        Stopped: SIGTERM came; the resume file holds the state.
    """
    sgd = Sgd(flat, momentum=momentum, weight_decay=weight_decay)
    history: list[dict[str, Any]] = []
    epoch, first_step = 0, 0
    loss_sum = torch.zeros((), dtype=torch.float64, device=flat.values.device)

    def state() -> dict[str, Any]:
        return {
            "epoch": epoch,
            "step": first_step,
            "loss_sum": loss_sum,
            "history": history,
            "model": flat.snapshot(),
            "mask": flat.mask,
            "momentum": sgd.buffer,
            "policy": policy.state(),
        }

    if resume is not None and (saved := resume.load()) is not None:
        epoch, first_step, history = saved["epoch"], saved["step"], saved["history"]
        loss_sum.copy_(saved["loss_sum"])
        policy.restore(saved["policy"])
        if saved["mask"] is not None:
            flat.set_mask_vector(saved["mask"])
        flat.restore(saved["model"])
        if sgd.buffer is not None:
            sgd.buffer.copy_(saved["momentum"])
        if progress is not None:
            progress.note(f"goes on from {resume.path.name} at epoch {epoch}")

    while not policy.done:
        generator = stream(epoch)
        order = torch.randperm(len(training.labels), generator=generator)
        crops = draw_crops(len(order), generator) if augment else None
        batches = order.to(flat.values.device).split(batch_size)
        lr = policy.lr
        flat.network.train()
        for number in range(first_step, len(batches)):
            index = batches[number]
            images, labels = training.images[index], training.labels[index]
            if crops is not None:
                start = number * batch_size
                images = pad_crop_flip(images, crops[start : start + len(index)].to(images.device))
            loss = F.cross_entropy(flat.network(images), labels)
            flat.backward(loss)
            sgd.step(lr)
            policy.after_step(flat)
            flat.push()
            loss_sum += loss.detach() * len(index)
            if STOP.raised or (resume is not None and resume.due()):
                first_step = number + 1
                _save_or_stop(resume, state)
        first_step = 0
        epoch += 1
        train_loss = loss_sum.item() / len(order)
        loss_sum.zero_()
        measured = flat.evaluate(validation.images, validation.labels)
        if not (math.isfinite(train_loss) and math.isfinite(measured.loss)):
            raise TrainingError(
                f"the loss is {train_loss} after epoch {epoch}: the training diverged; "
                f"lower the learning rate (it was {lr}) or its regularisation"
            )
        policy.after_epoch(flat, epoch, measured)
        row = [epoch, lr, train_loss, measured.loss, measured.error_percent, flat.sparsity]
        history.append(dict(zip(HISTORY_COLUMNS, row, strict=True)))
        if progress is not None:
            progress(epoch, policy.max_epochs, **{k: v for k, v in history[-1].items() if k != "epoch"})
    return history


def _save_or_stop(resume: ResumeFile | None, state: Callable[[], dict[str, Any]]) -> None:
    if resume is not None:
        resume.save(state())
    if STOP.raised:
        kept = f"its state is in {resume.path}" if resume is not None else "nothing was kept"
        raise Stopped(f"stopped by SIGTERM; {kept}")
