"""LOBSTER: loss-based sensitivity regularisation with gradual magnitude thresholding.

Tartaglione, Bragagnolo, Fiandrotti, Grangetto, "LOSS-based sensitivity regularization: towards deep sparse neural
networks", 2020. Details on which the text is silent follow the authors' public code.

Each step is plain SGD, then for every prunable parameter, with the gradient g of the same mini-batch,
``w <- w - lambda w relu(1 - |g|)``: what the loss does not feel decays. When the validation loss has stood on a
plateau for PWE epochs, the best state is reloaded and all ``|w| < T`` are removed, T being the largest
threshold that keeps the validation loss within ``1 + TWT`` of its value. The authors' rate is constant; that it may
fall is ours, for nets that a constant one trains badly within few epochs. Ours too is that a removal may end at the
next level asked for (`stop_at_levels`): by a wide tolerance one removal takes much more, and not the same from each
net. Momentum, too, is an option of ours beside the authors' setting, which has none: the best state that is reloaded is
of weights and buffers, and momentum goes on from where the plateau ended.
"""

from typing import Any, TypedDict

import torch
from torch import Tensor

from sharpminima.catalogue.methods.gradual import LobsterSettings
from sharpminima.data import Split
from sharpminima.nets.evaluation import Evaluation, gradient_norm
from sharpminima.nets.masks import Masks, prunable_parameters
from sharpminima.pruning.engine.distribution import keep_best, survivors_at
from sharpminima.pruning.engine.method import Event, LevelFacts, LevelState, Pruned, Run
from sharpminima.runtime.rng import generator
from sharpminima.training import Best, FlatModel, Policy, train

_GOOD = 1.01  # an epoch is good while its loss is under this many times the best
_BRACKET = 0.05  # the bisection ends when the losses of its ends differ by less than this share of the bound, or TWT
_MOVE = 1e-10  # ... or when its centre moves by no more than this


def largest_threshold(flat: FlatModel, prunable: Tensor, validation: Split, *, twt: float) -> tuple[float, Evaluation]:
    """The largest T found by bisection for which removing all ``|w| < T`` keeps the validation loss in bounds.

    Starts at the mean magnitude of the survivors, between 0 and the largest. The authors return the centre of the
    last bracket, which may lie out of bounds; we return its lower end, which never does. They end the bisection when
    the losses of its ends differ by less than 5 % of the bound, whatever TWT. By a narrow TWT a guess that is hardly
    out of bounds would then end it at T = 0: we go on until something may go, and until the losses differ by less than
    TWT where that is less than 5 %. By a TWT from 0.06 on both make no difference.

    Args:
        flat: the net, unchanged on return.
        prunable: 1.0 at the coordinates that may be removed, else 0.0 [P].
        twt: tolerated relative worsening of the validation loss.

    Returns:
        T, and the validation of the net without ``|w| < T``. T = 0 removes nothing.
    """
    before = flat.snapshot()
    magnitudes = flat.values.abs()

    def validate(threshold: float) -> Evaluation:
        flat.values.mul_(~((magnitudes < threshold) & (prunable > 0)))
        measured = flat.evaluate(validation.images, validation.labels)
        flat.restore(before)
        return measured

    low, at_low, loss_high = 0.0, validate(0.0), float("inf")
    bound = at_low.loss * (1.0 + twt)
    live = magnitudes[(prunable > 0) & (magnitudes > 0)]
    if len(live) == 0:
        return low, at_low
    high = float(live.max())
    center, last = float(live.mean()), float("inf")
    closed = bound * min(_BRACKET, twt)
    while (low == 0.0 or abs(at_low.loss - loss_high) >= closed) and abs(center - last) > _MOVE:
        measured = validate(center)
        if measured.loss <= bound:
            low, at_low = center, measured
        else:
            high, loss_high = center, measured.loss
        last, center = center, (low + high) / 2
    return low, at_low


class LobsterEvent(Event):
    """A removal on a plateau of the validation loss; losses in nats."""

    epoch: int
    threshold: float
    validation_loss_before: float
    validation_loss_after: float
    test_wrong_after: int  # images
    gradient_norm_after: float  # of the mean training loss, over survivors


class _Stage(TypedDict):
    """A stage's best state."""

    state: dict[str, Tensor]  # state dict, CPU
    masks: Masks
    epoch: int
    stage_complete: bool
    event: int
    gradient_norm: float


class _Kept(_Stage):
    """What stands for a level."""

    reached: bool


class _Lobster(Policy):
    """The policy: decay after each step, prune on plateaus, keep a trained minimum for each level."""

    def __init__(self, run: Run, settings: LobsterSettings, flat: FlatModel) -> None:
        self._run, self._settings = run, settings
        self.lr, self.max_epochs, self.done = settings.lr, settings.max_epochs, False
        names = prunable_parameters(run.model, include_batchnorm=settings.include_batchnorm)
        self._prunable = flat.indicator(names)
        self._size = int(self._prunable.sum())
        self._masks: Masks = {
            name: torch.ones(p.shape, dtype=torch.bool) for name, p in run.model.named_parameters() if name in names
        }
        self._best, self._bad = Best(), 0
        self._pending: list[float] = []  # levels first reached by the last event; its stage is still training
        self._reached: set[float] = set()
        self.levels: dict[float, _Kept] = {}
        self.events: list[LobsterEvent] = []

    def after_step(self, flat: FlatModel) -> None:
        """The regularisation: lambda is not multiplied by the learning rate."""
        insensitivity = flat.gradients.abs().neg_().add_(1.0).relu_()
        flat.values.sub_(insensitivity.mul_(self._prunable).mul_(flat.values), alpha=self._settings.lambda_)

    def after_epoch(self, flat: FlatModel, epoch: int, validation: Evaluation) -> None:
        """Count good and bad epochs; on a plateau close the stage and prune."""
        good = validation.loss < self._best.loss * _GOOD
        self._best.offer(flat, epoch, validation.loss)
        if epoch in self._settings.milestones:
            self.lr /= 10
        self._bad = 0 if good else self._bad + 1
        if epoch >= self.max_epochs:
            self._end_of_budget(flat, epoch)
        elif self._bad >= self._settings.pwe:
            self._close_stage(flat, self._pending, complete=True)
            self._pending = []
            self.done = len(self.levels) == len(self._run.levels)
            if not self.done:
                self._prune(flat, epoch)

    def _close_stage(self, flat: FlatModel, levels: list[float], *, complete: bool) -> None:
        """Reload the stage's best state, and keep it for ``levels``."""
        assert self._best.snapshot is not None  # the first epoch of a stage has always been offered
        flat.restore(self._best.snapshot)
        if not levels:
            return
        event = self.events[-1] if self.events else None
        kept: _Stage = {
            "state": flat.state_dict(self._best.snapshot),
            "masks": {name: mask.clone() for name, mask in self._masks.items()},
            "epoch": self._best.epoch,
            "stage_complete": complete,
            "event": event["event"] if event else 0,
            "gradient_norm": gradient_norm(flat.model, self._run.training.images, self._run.training.labels),
        }
        for level in levels:
            self.levels[level] = {**kept, "reached": level in self._reached}

    def _end_of_budget(self, flat: FlatModel, epoch: int) -> None:
        rest = [level for level in self._run.levels if level not in self.levels]
        self._close_stage(flat, rest, complete=False)
        self.done = True

    def _prune(self, flat: FlatModel, epoch: int) -> None:
        run, settings = self._run, self._settings
        before = self._best.loss
        threshold, after = largest_threshold(flat, self._prunable, run.validation, twt=settings.twt)
        keep = ~(flat.values.abs() < threshold)
        narrowed = self._down_to_next_level(flat, keep) if settings.stop_at_levels else None
        if narrowed is not None:
            keep, threshold = narrowed
        for name, mask in self._masks.items():
            mask &= flat.view(keep, name).cpu()
        flat.set_masks(self._masks)
        if narrowed is not None:
            after = flat.evaluate(run.validation.images, run.validation.labels)
        survivors = sum(int(m.sum()) for m in self._masks.values())
        reached = 1.0 - survivors / self._size
        self._pending = [v for v in run.levels if v not in self._reached and reached >= v]
        self._reached.update(self._pending)
        self.events.append(
            {
                "event": len(self.events) + 1,
                "epoch": epoch,
                "threshold": threshold,
                "survivors": survivors,
                "sparsity": reached,
                "validation_loss_before": before,
                "validation_loss_after": after.loss,
                "test_wrong_after": flat.evaluate(run.test.images, run.test.labels).wrong,
                "gradient_norm_after": gradient_norm(flat.model, run.training.images, run.training.labels),
            }
        )
        self._best, self._bad = Best(), 0
        if run.progress is not None:
            run.progress.note(f"epoch {epoch}: |w| < {threshold:.3g} removed, {100 * reached:.2f} % in all")

    def _down_to_next_level(self, flat: FlatModel, keep: Tensor) -> tuple[Tensor, float] | None:
        """The largest weights that stay at the next level [P], and the least of them; None where ``keep`` has more."""
        level = min(level for level in self._run.levels if level not in self._reached)
        live = torch.zeros_like(keep)
        for name, mask in self._masks.items():
            flat.view(live, name).copy_(mask)
        survivors = survivors_at(level, self._size)
        while survivors > 1 and 1.0 - survivors / self._size < level:  # it is rounded to the nearest
            survivors -= 1
        if int((keep & live).sum()) >= survivors:
            return None
        magnitudes = torch.where(live, flat.values.abs(), -1.0)  # what has been removed stays so
        staying = keep_best({name: flat.view(magnitudes, name) for name in self._masks}, survivors, "global")
        keep = self._prunable == 0
        for name, mask in staying.items():
            flat.view(keep, name).copy_(mask)
        return keep, float(magnitudes[keep & live].min())

    def state(self) -> dict[str, Any]:
        """Everything that `restore` needs, as tensors and JSON values; a resume file holds it."""
        return {
            "done": self.done,
            "lr": self.lr,
            "masks": self._masks,
            "best": self._best.state(),
            "bad": self._bad,
            "pending": self._pending,
            "reached": sorted(self._reached),
            "levels": {repr(level): kept for level, kept in self.levels.items()},
            "events": self.events,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a `state`, to the same bits."""
        self.done, self._bad, self._pending = state["done"], state["bad"], state["pending"]
        self.lr = state.get("lr", self.lr)  # older files are of trainings at constant rate
        self._masks, self.events = state["masks"], state["events"]
        self._best.restore(state["best"])
        self._reached = set(state["reached"])
        self.levels = {float(level): kept for level, kept in state["levels"].items()}

    @property
    def masks(self) -> Masks:
        """What survives now, by name (CPU)."""
        return self._masks


def prune(run: Run, settings: LobsterSettings) -> Pruned:
    """Train and prune ``run.model`` from its initialisation until every level is reached or the budget ends.

    A level's state is the best-validation state of the training stage that follows the pruning event which first
    reached it; its facts have the event, ``after_threshold``, too.
    """
    flat = FlatModel(run.model, compaction=run.compaction)
    policy = _Lobster(run, settings, flat)
    history = train(
        flat,
        run.training,
        run.validation,
        policy,
        batch_size=settings.batch_size,
        momentum=settings.momentum,
        weight_decay=settings.weight_decay,
        stream=lambda epoch: generator(run.seed, "lobster", "order", epoch),
        augment=run.augment,
        psp_entropy=run.psp_entropy,
        progress=run.progress,
        resume=run.resume,
    )
    levels = {}
    for level in run.levels:
        kept = policy.levels[level]
        facts: LevelFacts = {
            "epoch": kept["epoch"],
            "stage_complete": kept["stage_complete"],
            "event": kept["event"],
            "gradient_norm": kept["gradient_norm"],
            "after_threshold": next((e for e in policy.events if e["event"] == kept["event"]), None),
        }
        levels[level] = LevelState(kept["state"], kept["masks"], kept["reached"], facts)
    return Pruned(levels=levels, history=history, events=policy.events, epochs=len(history))
