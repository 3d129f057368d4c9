"""The replicas of a cell as one model: every vector, gradient and buffer has a leading axis R.

One pass of `torch.vmap` runs all of them, which fills a GPU that one small net leaves idle. The loss is the sum of
the replicas' own losses, so the gradient of each is its own, and nothing passes from one to another.
"""

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from sharpminima.catalogue.recipes import PspEntropySettings
from sharpminima.nets.compaction import Compacted, compact
from sharpminima.nets.evaluation import Evaluation
from sharpminima.nets.masks import Masks
from sharpminima.nets.preactivations import watch_preactivations
from sharpminima.runtime.precision import passes
from sharpminima.training.flat import FlatModel

_BATCH = 1000  # images of all replicas together in a pass of an evaluation


class FlatReplicas(FlatModel):
    """R nets of one architecture as a `FlatModel` whose vectors are [R, P].

    With ``compaction``, a unit is left out where it is dead in every replica. The running statistics of a BatchNorm
    channel that is dead in some of them only go on there; nothing reads them.

    Args:
        models: the nets, of equal shapes and on one device; they are copied, not changed.
    """

    def __init__(self, models: Sequence[nn.Module], *, compaction: bool = False) -> None:
        self._lay_out(models[0], (len(models),), compaction)
        for name in self._slices:
            self.view(self.values, name).copy_(torch.stack([model.get_parameter(name).detach() for model in models]))
        persistent = models[0].state_dict().keys()
        self._stacked = {
            name: torch.stack([model.get_buffer(name) for model in models])
            for name, _ in models[0].named_buffers()
            if name in persistent  # others are part of the architecture, e.g. which inputs a layer reads
        }
        self._bind()

    def _bind(self) -> None:
        """Make views of the vectors the parameters of the passes."""
        self._parameters = {name: self.view(self.values, name).detach().requires_grad_() for name in self._slices}
        self._replicas = [Replica(self, place) for place in range(len(self.values))]

    @property
    def buffers(self) -> dict[str, Tensor]:
        """The buffers [R, ...] of the whole nets as they are now, to change in place."""
        if self._small is not None:
            self._small.pull_buffers()
        return self._stacked

    def adopt_buffer(self, name: str, buffer: Tensor) -> None:
        """Use ``buffer`` [R, ...] itself as the buffer ``name``."""
        self._stacked[name] = buffer

    def _compacted(self, model: nn.Module, mask: Tensor) -> Compacted:
        """As of one net; a unit is left out where it is dead in all."""
        return compact(model, *({name: self.view(row, name) > 0 for name in self._slices} for row in mask))

    def like(self, model: nn.Module) -> "FlatReplicas":
        """As many replicas of ``model``, whose parameters come by `push`: those of the template are not masked."""
        flat = FlatReplicas([model] * len(self.values))
        flat.values.zero_()
        return flat

    @property
    def replicas(self) -> Sequence[FlatModel]:
        """The nets one by one: each is a `Replica`, which has what policies of a fixed mask ask of a `FlatModel`."""
        return cast(Sequence[FlatModel], self._replicas)

    def joined(self, each: Sequence[Tensor]) -> Tensor:
        """R tensors as one [R, ...]."""
        return torch.stack(tuple(each))

    def joined_rates(self, each: Sequence[float]) -> Tensor:
        """R learning rates as one tensor [R, 1]."""
        return torch.tensor(each, dtype=self.values.dtype, device=self.values.device)[:, None]

    def loss(self, images: Tensor, labels: Tensor) -> Tensor:
        """Mean cross-entropy of each replica [R] on images [R, N, C, H, W] of its own, with labels [R, N]."""
        with passes(images.device):
            logits = self._logits(images, shared=False).to(self.values.dtype)
        return _losses(logits, labels)

    def regularise(self, settings: PspEntropySettings, images: Tensor, classes: int) -> None:
        """As of one net; the nets run whole, so that the running estimates of one outlast the end of another."""
        self._compaction = False
        super().regularise(settings, images, classes)

    def objective(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """`loss` of each replica [R], and what a step minimises of each."""
        if self.entropy is None:
            loss = self.loss(images, labels)
            return loss, loss
        seen = self.entropy.over(labels)
        names: list[str] = []

        def one(parameters: dict[str, Tensor], buffers: dict[str, Tensor], images: Tensor) -> tuple[Tensor, ...]:
            layers: dict[str, Tensor] = {}
            with watch_preactivations(self._net, lambda name, z: layers.update({name: z.clone()})):
                logits = functional_call(self._net, (parameters, buffers), (images,))
            names.extend(layers)
            return logits, *layers.values()

        with passes(images.device):
            logits, *layers = torch.vmap(one, randomness="different")(self._parameters, self._stacked, images)
        for name, z in zip(names, layers, strict=True):
            seen.add(z, name)
        seen.end()
        loss = _losses(logits.to(self.values.dtype), labels)
        return loss, loss - self._beta * seen.mean()

    def backward(self, loss: Tensor) -> None:
        """Set `gradients` [R, P] to those of `loss` [R], each replica's of its own."""
        super().backward(loss)
        if self._small is not None and self.mask is not None:
            self.gradients.mul_(self.mask)  # what survives in one replica only has travelled for all

    def _differentiate(self, loss: Tensor) -> None:
        # Not into ``.grad``: autograd wants gradients without gaps between the replicas.
        gradients = torch.autograd.grad(loss.sum(), list(self._parameters.values()))
        for name, gradient in zip(self._parameters, gradients, strict=True):
            self.view(self.gradients, name).copy_(gradient)

    @torch.no_grad()
    def evaluate_each(self, images: Tensor, labels: Tensor) -> list[Evaluation]:
        """Each replica in eval mode on the same images [N, C, H, W]; the mode is restored."""
        self.push()
        was_training = self.network.training
        self.network.eval()
        count = len(self.values)
        loss = torch.zeros(count, dtype=torch.float64, device=images.device)
        wrong = torch.zeros(count, dtype=torch.int64, device=images.device)
        size = max(1, _BATCH // count)
        for batch, target in zip(images.split(size), labels.split(size), strict=True):
            logits = self._logits(batch, shared=True)
            targets = target.expand(count, -1)
            losses = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none").view(targets.shape)
            loss += losses.sum(1).double()
            wrong += (logits.argmax(dim=2) != targets).sum(1)
        self.network.train(was_training)
        samples = len(labels)
        return [Evaluation(each / samples, w, samples) for each, w in zip(loss.tolist(), wrong.tolist(), strict=True)]

    def _logits(self, images: Tensor, *, shared: bool) -> Tensor:
        """Logits [R, N, classes] of images [N, C, H, W], if ``shared``, or [R, N, C, H, W]."""
        if self._small is not None:
            assert isinstance(self._small.flat, FlatReplicas)  # of `like`
            return self._small.flat._logits(images, shared=shared)

        def one(parameters: dict[str, Tensor], buffers: dict[str, Tensor], images: Tensor) -> Tensor:
            return functional_call(self._net, (parameters, buffers), (images,))

        run = torch.vmap(one, in_dims=(0, 0, None if shared else 0), randomness="different")
        return run(self._parameters, self._stacked, images)

    def set_masks(self, masks: Sequence[Masks]) -> None:  # type: ignore[override] # one a replica
        """Remove what the masks, one a replica, do not keep: zero now, and zero gradients from here on."""
        vector = self.indicator(list(self._slices))
        for row, each in zip(vector, masks, strict=True):
            for name, keep in each.items():
                self.view(row, name).copy_(keep)
        self.set_mask_vector(vector)

    def keep(self, places: list[int]) -> None:
        """Go on with the replicas at ``places`` of the present ones; units that died with the others are left out."""
        self._stacked = {name: buffer[places] for name, buffer in self.buffers.items()}
        self._small = None
        self.values, self.gradients = self.values[places], self.gradients[places]
        self._bind()
        kept = None
        if self.entropy is not None:
            self.entropy.keep(places)
            kept = self.entropy.state()
        if self.mask is not None:
            self.set_mask_vector(self.mask[places])
        if self.entropy is not None and kept is not None:
            self.entropy.restore(kept)  # the masks of those that stay are what they were


def _losses(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy [R] of logits [R, N, classes] with labels [R, N]."""
    return F.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none").view(labels.shape).mean(1)


class Replica:
    """One net of a `FlatReplicas`, as far as a policy of a fixed mask looks at it."""

    def __init__(self, batch: FlatReplicas, place: int) -> None:
        self._batch, self._place = batch, place

    @property
    def sparsity(self) -> float:
        """Share of all parameters that the mask removes."""
        return self._batch.sparsity_of(None if self._batch.mask is None else self._batch.mask[self._place])

    def snapshot(self) -> dict[str, Tensor]:
        """A copy of the parameters [P] and of the buffers."""
        copy = {"values": self._batch.values[self._place].clone()}
        copy.update({f"buffer:{name}": b[self._place].clone() for name, b in self._batch.buffers.items()})
        return copy
