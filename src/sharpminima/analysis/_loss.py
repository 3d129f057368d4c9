"""The mean loss of a net over data: any loss, any inputs, tensors or batches."""

import contextlib
import copy
import math
import operator
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from sharpminima.analysis._inputs import (
    FEW,
    agree,
    check_labelled,
    check_model,
    check_repeatable,
    check_unchanged,
    count_labels,
    logits_of,
    rounding_of,
    trying,
)
from sharpminima.analysis._structure import floating_of, mapped, shapes_of, tensors_of
from sharpminima.base.errors import AnalysisError, SharpminimaError
from sharpminima.base.numbers import check_whole, optional
from sharpminima.nets.batchnorm import recalibrate_by
from sharpminima.nets.evaluation import at_least_float32
from sharpminima.nets.kinds import check_kind
from sharpminima.nets.modes import copied, eval_mode, measuring, ordinary, reason_of
from sharpminima.runtime.rng import generator

Criterion = Callable[[Any, Any], Tensor]
"""(outputs, targets) of a batch -> the mean loss of its samples, one number."""
LossFunction = Callable[[nn.Module, Any], Tensor]
"""(model, batch) -> the mean loss of the batch's samples, one number."""

_SAME_PASS = {"cpu": 1e-5, "cuda": 1e-3}  # relative difference of two passes that is rounding
_END = object()
_CHECKED = 125  # samples a batch of the pass that checks a mean, where no size is given

_OF_ELEMENTS: tuple[Any, ...] = (
    *(nn.MSELoss, nn.L1Loss, nn.SmoothL1Loss, nn.HuberLoss, nn.BCELoss, nn.BCEWithLogitsLoss),
    *(F.mse_loss, F.l1_loss, F.smooth_l1_loss, F.huber_loss),
    *(F.binary_cross_entropy, F.binary_cross_entropy_with_logits),
)
_OF_CLASSES: tuple[Any, ...] = (nn.CrossEntropyLoss, nn.NLLLoss, F.cross_entropy, F.nll_loss)


@dataclass(frozen=True)
class Part:
    """A batch as a net takes it."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    targets: Any  # None where a loss function has the whole batch
    count: int  # samples


def _filled(part: Part) -> Part:
    """The batch, which must have samples: the mean of none is NaN."""
    if not part.count:
        raise AnalysisError("a batch has no samples; leave it out")
    return part


def _changed(part: Part, change: Callable[[Tensor], Tensor], count: int) -> Part:
    """A batch of other tensors."""
    args, kwargs, targets = mapped(_held(part), change)
    return Part(args, kwargs, targets, count)


def _sliced(part: Part, start: int, stop: int) -> Part:
    """Rows of a batch."""
    return _changed(part, lambda tensor: tensor[start:stop], stop - start)


def _held(part: Part, *others: Any) -> tuple[Any, ...]:
    """All that a batch holds, and others beside it."""
    return (part.args, part.kwargs, part.targets, *others)


@contextlib.contextmanager
def named_failure(part: Part) -> Iterator[None]:
    """Turn what a model or a loss raises of a batch into an error that names the batch.

    Raises:
        AnalysisError: in place of any other error but of memory.
    """
    try:
        yield
    except (torch.OutOfMemoryError, SharpminimaError):
        raise
    except Exception as error:  # whatever the model's own code, or the loss's, raises
        raise AnalysisError(
            f"the model, or its loss, fails on a batch of {part.count} samples ({reason_of(error)}); look among them "
            "for a label, a token or a value that it does not take"
        ) from error


class _Bound(nn.Module):
    """A net with its loss function, so that one call takes other parameters for both."""

    def __init__(self, net: nn.Module, loss_fn: LossFunction) -> None:
        super().__init__()
        self.net, self.loss_fn = net, loss_fn

    def forward(self, batch: Any) -> Tensor:
        return self.loss_fn(self.net, batch)


class MeanLoss:
    """The mean over all samples of a loss of what a net gives for them.

    Tensors are cut into batches; batches come as they are, each weighted by its samples, and one pass after another
    draws the same random numbers of torch, so that a loader that shuffles gives the same batches every time. The
    caller's random state is left alone.

    Of tensors, the loss of a batch must be the mean of its samples' losses: what else would depend on how they are cut.
    Cross-entropy without a criterion is, and so are torch's own criteria without weights of classes and without targets
    that are left out. With any other criterion one forward pass over the data compares the loss of each batch, drawn at
    random, with those of its rows by fours; a ``loss_fn`` is called once more for either half of each batch.

    Args:
        model: in eval mode whenever the loss is computed.
        data: with targets, a tensor [N, ...], a tuple of them (``model(*inputs)``) or a dictionary
            (``model(**inputs)``); without, what can be read again and again and gives (inputs, targets), or whatever
            ``loss_fn`` takes, or, with it, a tensor of samples.
        targets: tensors [N, ...] in any structure.
        criterion: None for cross-entropy of outputs [N, classes, ...] with class numbers [N, ...].

    Raises:
        AnalysisError: data, targets, model or loss of a kind that does not go; a loss that uses the model from outside;
            one that is not the mean of its samples' (of tensors), or differs from pass to pass or is not finite (of
            batches).
    """

    def __init__(
        self,
        model: nn.Module,
        data: Any,
        targets: Any = None,
        *,
        criterion: Criterion | None = None,
        loss_fn: LossFunction | None = None,
        batch_size: int | None = None,
    ) -> None:
        _check_choice(criterion, loss_fn)
        self._criterion, self._loss_fn = criterion, loss_fn
        self._batch_size = optional(check_whole, "batch_size", batch_size, least=1)
        self.streamed = targets is None and not isinstance(data, Tensor)
        self._state = torch.get_rng_state()
        self._tensors: tuple[Any, Any] | None = None
        self._default = criterion is None and loss_fn is None
        # Cross-entropy of one row of logits an input: the way that sums in one call, and has its own messages.
        self.usual = self._default and isinstance(data, Tensor) and isinstance(targets, Tensor) and targets.dim() <= 1
        check_kind(model)
        self._device = next((tensor.device for tensor in model.parameters()), torch.device("cpu"))
        if self.streamed:
            _check_batches(data)
            if batch_size is not None:
                raise AnalysisError("a batch size is for tensors; batches have sizes of their own: leave it out")
            self._batches = data
        elif self.usual or (self._default and targets is not None and not _are_tensors(data, targets)):
            self._tensors = check_labelled(data, targets)
        else:
            self._tensors = self._checked(data, targets)
        self._is_mean = self._default  # is the loss of a batch known to be the mean of its samples' losses?
        self.few = self._few()
        self.check(model)
        if self.streamed:
            self.samples = self._check_passes(model)
        else:
            self.samples = _count(self._tensors)
            self.check_mean(model)

    @property
    def device(self) -> torch.device:
        """Where the loss is computed."""
        return self._device

    @property
    def has_outputs(self) -> bool:
        """Whether outputs and criterion are known apart."""
        return self._loss_fn is None

    def _checked(self, data: Any, targets: Any) -> tuple[Any, Any]:
        """Tensors of one length and on one device."""
        if targets is None and self._loss_fn is None:
            raise AnalysisError("there are no targets; give them behind the inputs, or batches of both")
        parts = [("inputs", data)] if targets is None else [("inputs", data), ("targets", targets)]
        lengths = set()
        for what, given in parts:
            if what == "inputs" and not isinstance(given, Tensor) and not _is_structure(given):
                raise AnalysisError(
                    f"the inputs are a {type(given).__name__}; give a tensor, or a tuple or dictionary of tensors"
                )
            tensors = tensors_of(given)
            if not tensors:
                raise AnalysisError(f"the {what} are a {type(given).__name__} without tensors; give tensors [N, ...]")
            for tensor in tensors:
                if tensor.is_meta:
                    raise AnalysisError(f"the {what} are on the meta device, where they have no values")
                if tensor.dim() == 0:
                    raise AnalysisError(f"a tensor of the {what} has no dimension; give [N, ...], a row a sample")
                if tensor.device != self._device:
                    raise AnalysisError(
                        f"the {what} are on {tensor.device}, the model on {self._device}; move one of them"
                    )
                lengths.add(len(tensor))
        if len(lengths) > 1:
            raise AnalysisError(f"there are {' and '.join(map(str, sorted(lengths)))} rows; give one a sample in each")
        if lengths == {0}:
            raise AnalysisError("there are no samples; give at least one")
        return mapped(data, ordinary), mapped(targets, ordinary)

    def _few(self) -> Part:
        if self._tensors is not None:
            return self._part(*_rows(self._tensors, 0, FEW))
        first = next(iter(self._read()), None)
        if first is None:
            raise AnalysisError("there are no batches; give at least one")
        tensors = tensors_of(_held(first))
        if not all(tensor.dim() and len(tensor) == first.count for tensor in tensors):
            return first  # rows of a batch that cannot be told apart
        return _changed(first, lambda tensor: tensor[:FEW], min(first.count, FEW))

    def _part(self, inputs: Any, targets: Any) -> Part:
        if self._loss_fn is not None:
            batch = inputs if targets is None else (inputs, targets)
            return Part((batch,), {}, None, _count(batch))
        count = _count((targets, inputs))
        if isinstance(inputs, Mapping):
            return Part((), dict(inputs), targets, count)
        if type(inputs) in (tuple, list):
            return Part(tuple(inputs), {}, targets, count)
        return Part((inputs,), {}, targets, count)

    @property
    def unit(self) -> str:
        """Of the loss."""
        return "nats" if self._default else "units of the loss"

    def held(self) -> list[Tensor]:
        """Data that are in memory all the time: of tensors, inputs and targets."""
        return [] if self._tensors is None else tensors_of(self._tensors)

    def tensors(self) -> Iterator[Tensor]:
        """Every tensor of the data, batch after batch; of tensors, inputs and targets."""
        if self._tensors is not None:
            yield from self.held()
        else:
            for part in self._read():
                yield from tensors_of(_held(part))

    def parts(self, batch_size: int | None = None) -> Iterator[Part]:
        """All samples, batch after batch."""
        if self._tensors is None:
            yield from self._read()
        else:
            size = batch_size or _count(self._tensors)
            for start in range(0, _count(self._tensors), size):
                yield self._part(*_rows(self._tensors, start, start + size))

    def _read(self) -> Iterator[Part]:
        """The batches, on the model's device; each pass draws what the first one drew."""
        state = self._state
        iterator: Iterator[Any] | None = None
        while True:
            own = torch.get_rng_state()
            torch.set_rng_state(state)
            try:
                iterator = iter(self._batches) if iterator is None else iterator
                batch = next(iterator, _END)
                state = torch.get_rng_state()
            finally:
                torch.set_rng_state(own)
            if batch is _END:
                return
            yield self._of_batch(mapped(batch, lambda tensor: ordinary(tensor).to(self._device)))

    def _of_batch(self, batch: Any) -> Part:
        if not tensors_of(batch):
            raise AnalysisError(f"a batch is a {type(batch).__name__} without tensors; give batches of tensors")
        if self._loss_fn is not None:
            return _filled(self._part(batch, None))
        if type(batch) not in (tuple, list) or len(batch) != 2:
            given = f"{type(batch).__name__} of {len(batch)}" if hasattr(batch, "__len__") else type(batch).__name__
            raise AnalysisError(
                f"a batch is a {given}; give pairs (inputs, targets), several inputs as one tuple or dictionary, or a "
                "loss_fn, which takes batches as they are"
            )
        return _filled(self._part(*batch))

    def computing_in(self, dtype: torch.dtype | None) -> None:
        """Take the criterion's own numbers, such as weights of classes, in the dtype of `prepared` batches."""
        own = self._criterion
        if dtype is not None and isinstance(own, nn.Module):
            held = [*own.parameters(), *own.buffers()]
            if any(tensor.is_floating_point() and tensor.dtype != dtype for tensor in held):
                self._criterion = copy.deepcopy(own).to(dtype)

    def prepared(self, part: Part, dtype: torch.dtype | None, layout: torch.memory_format) -> Part:
        """The batch in the dtype and layout of a net's kernels; None leaves the dtype."""

        def change(tensor: Tensor) -> Tensor:
            if dtype is not None and tensor.is_floating_point():
                tensor = tensor.to(dtype)
            return tensor.contiguous(memory_format=layout) if tensor.dim() == 4 else tensor

        if self.usual:
            return Part(mapped(part.args, change), {}, part.targets, part.count)
        return _changed(part, change, part.count)

    def dtypes(self) -> list[torch.dtype]:
        """Of the floating point inputs."""
        return [tensor.dtype for tensor in floating_of((self.few.args, self.few.kwargs))]

    def outputs(self, net: nn.Module, parameters: Mapping[str, Tensor], part: Part) -> Any:
        """What a net gives with these parameters; with a loss function the loss."""
        if self._loss_fn is not None:
            bound = _Bound(net, self._loss_fn)
            return functional_call(bound, {f"net.{name}": value for name, value in parameters.items()}, part.args)
        return functional_call(net, dict(parameters), part.args, part.kwargs)

    def of_outputs(self, outputs: Any, part: Part, scale: Tensor | float = 1.0) -> Tensor:
        """The sum of the samples' losses.

        Args:
            scale: of logits, for the default loss of a row of them a sample; other losses have none.
        """
        if self.usual:
            logits = at_least_float32(outputs)
            if isinstance(scale, Tensor):
                logits = logits / scale
            return F.cross_entropy(logits, part.targets, reduction="sum")
        return self._mean_of(outputs, part) * part.count

    def _mean_of(self, outputs: Any, part: Part) -> Tensor:
        """What the criterion gives of outputs and targets in at least float32, or what a loss function has given."""
        if self._loss_fn is not None:
            return _at_least_float32(outputs)
        criterion = F.cross_entropy if self._criterion is None else self._criterion
        return _at_least_float32(criterion(_at_least_float32(outputs), _at_least_float32(part.targets)))

    def total(
        self, net: nn.Module, parameters: Mapping[str, Tensor], part: Part, scale: Tensor | float = 1.0
    ) -> Tensor:
        """The sum of the samples' losses with these parameters."""
        return self.of_outputs(self.outputs(net, parameters, part), part, scale)

    @measuring(gradients=False)
    def mean(self, net: nn.Module, batch_size: int | None = None) -> float:
        """The mean loss over all samples, summed in float64, in eval mode."""
        total, count = 0.0, 0
        with eval_mode(net):
            for part in self.parts(batch_size):
                with named_failure(part):
                    if self.usual:
                        total += float(self.total(net, {}, part))
                    else:  # in float64 from here: the sum may be more than the loss's own dtype holds
                        total += float(self._mean_of(self.outputs(net, {}, part), part)) * part.count
                count += part.count
        return total / count

    def recalibrate(self, net: nn.Module, batch_size: int) -> None:
        """Take BatchNorm's running statistics anew from the data (`sharpminima.nets.batchnorm`), in place.

        Args:
            batch_size: of tensors, whose batches are nearly equal; batches are those that are given.

        Raises:
            AnalysisError: a batch has one sample, which has no variance.
        """

        def passes() -> None:
            for part in self.parts() if self.streamed else self._even_parts(batch_size):
                if part.count < 2:
                    raise AnalysisError("a batch has one sample, which has no variance for BatchNorm; give more")
                self.outputs(net, {}, part)

        recalibrate_by(net, passes)

    def _even_parts(self, batch_size: int) -> Iterator[Part]:
        number = -(-self.samples // batch_size)
        for part in range(number):
            bounds = part * self.samples // number, (part + 1) * self.samples // number
            yield self._part(*_rows(self._tensors, *bounds))

    def check(self, model: nn.Module) -> None:
        """Check on few samples that the loss is one number, repeats, and is the mean of the samples' losses.

        Raises:
            AnalysisError: it is not, or the model or the loss fails.
        """
        if self.usual:
            assert self._tensors is not None
            inputs, targets = self._tensors
            count_labels(targets, check_model(model, inputs))
            return
        with trying(model):
            self._check_few(model)
        if not self._default:
            self._check_given(model)

    def _check_given(self, model: nn.Module) -> None:
        """Check that a loss of the user's takes the net that it is given, a copy, which is moved and differentiated.

        Raises:
            AnalysisError: it depends on the user's own net, which stands still.
        """
        own = {name: each for name, each in model.named_parameters() if each.is_floating_point()}
        flags = {name: each.requires_grad for name, each in own.items() if not each.is_inference()}
        with measuring(gradients=True), eval_mode(model):
            net = copied(model).eval().requires_grad_(False)
            try:
                for name in flags:
                    own[name].requires_grad_()
                loss = self._checked_loss(self._run(net, self.few), self.few)
            finally:
                for name, flag in flags.items():
                    own[name].requires_grad_(flag)
        reached = _leaves_of(loss)
        used = [name for name, parameter in own.items() if id(parameter) in reached]
        if used:
            raise AnalysisError(
                f"the loss uses the model from outside ({', '.join(used[:4])}), where nothing moves it; let a loss_fn, "
                "loss_fn(model, batch), take it from the model that it is given, or compute under torch.no_grad() "
                "what is to stand still"
            )

    def _check_few(self, model: nn.Module) -> None:
        few = self.few

        def compute() -> tuple[Tensor, ...]:
            part = _changed(few, torch.clone, few.count)
            outputs = self._run(model, part)
            loss = self._checked_loss(outputs, part)
            kept, used = (tensors_of(_held(each)) for each in (few, part))
            check_unchanged(kept, used, what)
            return (*floating_of(outputs), loss)

        what = "the model or its loss"
        *outputs, _ = check_repeatable(compute, self._device, what)
        if not outputs:
            raise AnalysisError(
                f"the model's output, a {type(self._run(model, few)).__name__}, has no real floating point tensor to "
                "differentiate; let the model give tensors, alone or in tuples, dictionaries or dataclasses, or give a "
                "loss_fn, which takes any output"
            )
        if self._loss_fn is not None:
            return
        if self._default and self._tensors is not None:
            every = self._tensors[1]
            self._check_targets(outputs[0][:1].expand(len(every), *[-1] * (outputs[0].dim() - 1)), every)
        if few.count < 2 or not _has_rows(_held(few), few.count):
            return
        first = _sliced(few, 0, few.count // 2)
        for whole, part in zip(outputs, floating_of(self._run(model, first)), strict=True):
            rows = whole.dim() and len(whole) == few.count and len(part) == first.count
            if rows and not agree(whole[: first.count], part):
                raise AnalysisError(
                    "a sample's output depends on the other samples of its batch, also in eval mode, so what is "
                    "measured would depend on the batch size; let BatchNorm keep running statistics "
                    "(track_running_stats=True), and attention take the batch first (batch_first=True)"
                )
        self._check_no_sum(model, self._run(model, few), few)
        if not self.streamed:
            self._check_mean_of(model, few)

    def _check_no_sum(self, model: nn.Module, outputs: Any, part: Part) -> None:
        """Check that a batch with each of its samples two times has no loss of twice the size."""
        doubled = _changed(part, lambda tensor: torch.cat([tensor, tensor]), 2 * part.count)
        if _has_rows(outputs, part.count):
            given = mapped(outputs, lambda tensor: torch.cat([tensor, tensor]))
        else:
            given = self._run(model, doubled)
        loss, twice = self._checked_loss(outputs, part), self._checked_loss(given, doubled) / 2
        if agree(twice, 2 * loss) and not agree(twice, loss):
            raise AnalysisError(
                "the criterion gives the sum of the samples' losses; give their mean, as reduction='mean' does"
            )

    def check_mean(self, model: nn.Module) -> None:
        """Check over all data that the loss of a batch is the mean of its samples' losses, unless it is known to be.

        Costs what `MeanLoss` says, once.

        Raises:
            AnalysisError: it is not, as with weights of classes and targets that are left out, or it is not finite.
        """
        if self._is_mean:
            return
        with measuring(gradients=False), eval_mode(model):
            if not self._is_torchs_mean(model):
                for part in self._mixed_parts():
                    self._check_mean_of(model, part, finite=True)
        self._is_mean = True

    def _is_torchs_mean(self, model: nn.Module) -> bool:
        """Whether the criterion is one of torch's that is a mean over samples with these targets."""
        if self._tensors is None or self._loss_fn is not None:
            return False
        criterion, targets = self._criterion, self._tensors[1]
        kind = type(criterion) if isinstance(criterion, nn.Module) else criterion
        weights = [getattr(criterion, name, None) for name in ("weight", "pos_weight")]
        if not isinstance(targets, Tensor) or any(weight is not None for weight in weights):
            return False
        if any(kind is each for each in _OF_ELEMENTS):
            outputs = self._run(model, self.few)  # of another shape they would be spread over the targets
            return isinstance(outputs, Tensor) and outputs.shape == self.few.targets.shape
        left_out = targets == getattr(criterion, "ignore_index", -100)
        return any(kind is each for each in _OF_CLASSES) and (targets.is_floating_point() or not left_out.any())

    def _mixed_parts(self) -> Iterator[Part]:
        """All samples once: of tensors, which may be in the order of their classes, in batches drawn at random."""
        if self._tensors is None:
            yield from self._read()
            return
        samples, size = _count(self._tensors), max(self._batch_size or _CHECKED, 2 * FEW)
        order = torch.randperm(samples, generator=generator(0, "batches that mix")).to(self._device)
        for rows in order.tensor_split(-(-samples // size)):
            yield self._part(*mapped(self._tensors, operator.itemgetter(rows)))

    def _check_mean_of(self, model: nn.Module, part: Part, *, finite: bool = False) -> None:
        """Check that the loss of a batch is the mean of those of its rows; ``finite``: and that it is finite."""
        outputs = self._run(model, part)
        loss = self._checked_loss(outputs, part)
        if finite:
            _check_finite(loss, part)
        if part.count < 2 or not loss.isfinite() or not _has_rows(_held(part), part.count):
            return
        apart = _has_rows(outputs, part.count)
        number = max(part.count // FEW, min(2, part.count // 2)) if apart else 2
        losses = []
        for piece in range(number):
            start, stop = piece * part.count // number, (piece + 1) * part.count // number
            rows = _sliced(part, start, stop)
            given = _rows(outputs, start, stop) if apart else self._run(model, rows)
            losses.append(float(self._checked_loss(given, rows)))
        size = math.fsum(map(abs, losses))  # of all terms: their sum may be near 0
        again = () if apart else floating_of((list(model.parameters()), part.args, part.kwargs, outputs))
        share, least = rounding_of(loss, *again), torch.finfo(loss.dtype).eps * part.count
        if not abs(float(loss) - math.fsum(losses)) <= share * size + least:
            raise AnalysisError(
                "the loss of a batch is not the mean of its samples' losses (weights of classes, or targets that "
                "are left out), so what is measured would depend on the batch size; give batches that settle it, "
                f"or a {self._name} that divides by the number of samples"
            )

    @property
    def _name(self) -> str:
        """Of the function that gives the loss."""
        return "loss_fn" if self._loss_fn is not None else "criterion"

    def checked_outputs(self, net: nn.Module, part: Part) -> Any:
        """What a net gives, with its own parameters.

        Raises:
            AnalysisError: the net fails, or gives what the default loss does not take.
        """
        return logits_of(net, part.args[0]) if self.usual else self._run(net, part)

    @measuring(gradients=False)
    def few_outputs(self, net: nn.Module) -> tuple[Tensor, ...]:
        """What a net gives for a few samples, or its loss, where there is a loss function: floating point tensors.

        Raises:
            AnalysisError: as `checked_outputs`.
        """
        with eval_mode(net):
            return floating_of(self.checked_outputs(net, self.few))

    def _run(self, model: nn.Module, part: Part) -> Any:
        try:
            return self.outputs(model, {}, part)
        except (torch.OutOfMemoryError, SharpminimaError):
            raise
        except Exception as error:  # whatever the model's own code raises
            what = "loss_fn fails on a batch of" if self._loss_fn is not None else "the model cannot take inputs of"
            raise AnalysisError(f"{what} {shapes_of((part.args, part.kwargs))} ({reason_of(error)})") from error

    def _checked_loss(self, outputs: Any, part: Part) -> Tensor:
        """The sum of the samples' losses, checked to be one number."""
        if self._default:
            self._check_targets(outputs, part.targets)
        try:
            loss = self._mean_of(outputs, part)
        except (torch.OutOfMemoryError, SharpminimaError):
            raise
        except Exception as error:  # whatever the criterion's own code raises
            what = "cross-entropy (give a criterion of yours)" if self._default else "the criterion"
            raise AnalysisError(
                f"{what} cannot take outputs of {shapes_of(outputs)} and targets of {shapes_of(part.targets)} "
                f"({reason_of(error)})"
            ) from error
        if not isinstance(loss, Tensor) or loss.dim() != 0 or not loss.is_floating_point():
            given = f"of shape {list(loss.shape)}" if isinstance(loss, Tensor) else f"a {type(loss).__name__}"
            raise AnalysisError(f"what the {self._name} gives is {given}; give the mean over the samples, one number")
        return loss * part.count

    def _check_targets(self, outputs: Any, targets: Any) -> None:
        """Check that cross-entropy has logits, and class numbers or probabilities of classes."""
        if not isinstance(outputs, Tensor) or outputs.dim() < 2:
            given = shapes_of(outputs) if isinstance(outputs, Tensor) else f"a {type(outputs).__name__}"
            raise AnalysisError(
                f"the model's output is {given}; cross-entropy takes one tensor [N, classes, ...]: give a criterion, "
                "criterion(outputs, targets)"
            )
        if isinstance(targets, Tensor) and targets.dtype == torch.int64:
            count_labels(targets.flatten(), outputs.shape[1])
            return
        shared = isinstance(targets, Tensor) and targets.is_floating_point() and targets.shape == outputs.shape
        if not shared or targets.min() < 0 or not agree(targets.sum(dim=1), torch.ones_like(targets[:, 0])):
            raise AnalysisError(
                f"the targets are {shapes_of(targets)}; cross-entropy takes int64 class numbers [N, ...], or "
                "probabilities of classes: give a criterion, criterion(outputs, targets), for others"
            )

    def _check_passes(self, model: nn.Module) -> int:
        """Check that two passes give the same loss; the number of samples."""
        losses = []
        with measuring(gradients=False), eval_mode(model):
            for again in (False, True):
                total, samples = 0.0, 0
                for part in self._read():
                    outputs = self._run(model, part)
                    loss = self._checked_loss(outputs, part)
                    _check_finite(loss, part)
                    if not (self._default or self._loss_fn or again) and _has_rows(_held(part, outputs), part.count):
                        self._check_no_sum(model, outputs, part)
                    total += float(loss)
                    samples += part.count
                losses.append((total, samples))
        (first, samples), (second, counted) = losses
        if counted == 0:
            raise AnalysisError("the batches can be read once only; give a list, or a DataLoader")
        share = _SAME_PASS.get(self._device.type, 1e-3)
        if samples != counted or abs(first - second) > share * max(abs(first), abs(second)):
            raise AnalysisError(
                f"two passes over the batches differ: {samples} and {counted} samples, mean losses "
                f"{first / samples:.6g} and {second / counted:.6g}; let the loader give the same samples every time, "
                "without random changes"
            )
        return samples


def of_images(data: Any, targets: Any, criterion: Criterion | None, loss_fn: LossFunction | None) -> bool:
    """Whether this is the cross-entropy of images [N, C, H, W] with labels [N], or meant to be."""
    if criterion is not None or loss_fn is not None or targets is None or _is_structure(data):
        return False
    if not isinstance(data, Tensor) or not isinstance(targets, Tensor):
        return True  # an error that names what is no tensor
    return data.dim() == 4 and data.is_floating_point() and targets.dim() == 1


def _check_choice(criterion: Any, loss_fn: Any) -> None:
    if criterion is not None and loss_fn is not None:
        raise AnalysisError("there are a criterion and a loss_fn; give one of them")
    for name, given in (("criterion", criterion), ("loss_fn", loss_fn)):
        if given is not None and not callable(given):
            raise AnalysisError(f"{name} is a {type(given).__name__}; give a function")
    reduction = getattr(criterion, "reduction", "mean")
    # One's own may make a mean of what torch's gives for each sample.
    torchs = type(criterion).__module__.startswith("torch.nn.modules.")
    if torchs and reduction not in ("mean", "batchmean"):
        raise AnalysisError(f"the criterion's reduction is {reduction!r}; give one whose reduction is 'mean'")


def _check_batches(data: Any) -> None:
    """Check that data can be read again and again."""
    kind = type(data).__name__
    if isinstance(data, torch.utils.data.Dataset):
        raise AnalysisError(f"the data are a {kind}, whose items are single samples; give a DataLoader of it")
    if isinstance(data, Mapping):
        raise AnalysisError("the data are a dictionary without targets; give batches, or inputs with their targets")
    if isinstance(data, Iterator):
        raise AnalysisError(
            f"the batches are a {kind}, which can be read once only, but each product reads them again; give a list, "
            "a DataLoader, or an object whose __iter__ begins anew"
        )
    if not isinstance(data, Iterable):
        raise AnalysisError(f"the data are a {kind}; give tensors with targets, or batches (a DataLoader, a list)")


def _are_tensors(data: Any, targets: Any) -> bool:
    """Whether inputs and targets are such that cross-entropy may take them; else they are no tensors by mistake."""
    return _is_structure(data) or (isinstance(data, Tensor) and isinstance(targets, Tensor))


def _is_structure(value: Any) -> bool:
    return isinstance(value, tuple | Mapping)


def _rows(value: Any, start: int, stop: int) -> Any:
    return mapped(value, lambda tensor: tensor[start:stop])


def _leaves_of(result: Tensor) -> set[int]:
    """The ids of the leaves that a result's graph reaches."""
    waiting, seen, leaves = [result.grad_fn], set(), set()
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        leaves.add(id(getattr(node, "variable", None)))
        waiting += [before for before, _ in node.next_functions]
    return leaves


def _at_least_float32(value: Any) -> Any:
    """The same structure, with tensors of float32 in place of coarser ones."""
    if all(torch.finfo(tensor.dtype).bits >= 32 for tensor in floating_of(value)):
        return value
    return mapped(value, lambda tensor: at_least_float32(tensor) if tensor.is_floating_point() else tensor)


def _has_rows(value: Any, count: int) -> bool:
    """Whether each tensor has a row for each of so many samples."""
    return all(tensor.dim() and len(tensor) == count for tensor in tensors_of(value))


def _check_finite(loss: Tensor, part: Part) -> None:
    """Check the loss of a batch.

    Raises:
        AnalysisError: it is NaN or infinite, as of targets that are all left out.
    """
    if not loss.isfinite():
        raise AnalysisError(
            f"the loss of a batch of {part.count} samples is {float(loss)}; leave out a batch whose targets are all "
            "left out, and look for NaN and infinity in weights, inputs and targets"
        )


def _count(value: Any) -> int:
    """Samples: rows of the first tensor that has any."""
    tensors = tensors_of(value)
    for tensor in tensors:
        if tensor.dim():
            return len(tensor)
    raise AnalysisError("a batch has no tensor with rows, so its samples cannot be counted; give [samples, ...]")
