"""The plane through two minima or around one, in weight space."""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from sharpminima.analysis._inputs import agree_closely, check_finite_weights, check_tensor, surviving
from sharpminima.base.errors import AnalysisError
from sharpminima.base.numbers import check_whole
from sharpminima.nets.kinds import check_kind
from sharpminima.nets.modes import copied, measuring
from sharpminima.runtime.rng import generator

ENDS = (0.0, 0.0), (1.0, 0.0)
"""Where a plane holds its two minima."""
BATCH_NORMS = ("nearer", "interpolated", "recalibrated")
"""Where BatchNorm's running statistics come from at a point of a plane: from the end that is nearer along x; from both
in proportion to x (beyond the ends, the nearer's); or from a pass over the images at the point's weights."""
Direction = Tensor | Mapping[str, Tensor]
"""A direction in weight space: [P], ordered as ``named_parameters``, or parameter name -> its part (0 where absent)."""


class Plane:
    """The plane through two minima of one net and a random direction.

    Coordinates (x, y) stand for the weights ``center + x (target - center) + y r``. The random direction r is
    drawn with normal entries from ``seed``, set to zero where ``masks`` removes (so that every point of the
    plane keeps removed weights at zero), made orthogonal to the first axis, and scaled to its length. At
    (0, 0) and (1, 0) the weights are the ends' own, to the bit; elsewhere they are computed in float64.

    Buffers (BatchNorm's running statistics) are by default those of the end that is nearer along x: the center's up to
    x = 0.5, the target's beyond, as in the study of the paper. ``batch_norm="interpolated"`` takes (1 - x) of the
    center's and x of the target's between the ends. They decide how high a barrier is. (Those that are "recalibrated"
    take images: `loss_surface`, `loss_barrier` and `hessian_along_line` make them.)

    The points are nets of the center's code; that the target's is the same, `check_same_code` finds on samples.

    Raises:
        AnalysisError: the models have different parameters, buffers or devices, the same weights, or NaN or infinity;
            a mask does not fit, or an end has a weight that is not zero where it removes; no direction is
            orthogonal to the first axis.
    """

    @measuring(gradients=False)
    def __init__(
        self,
        center: nn.Module,
        target: nn.Module,
        *,
        masks: Mapping[str, Tensor] | None = None,
        seed: int = 0,
        batch_norm: str = "nearer",
    ) -> None:
        seed = check_whole("seed", seed)
        check_batch_norm(batch_norm)
        check_kind(center)
        check_kind(target)
        if _shapes(center) != _shapes(target):
            raise AnalysisError(
                "center and target have different parameters or buffers (names, shapes, dtypes, devices); "
                "give two of the same net"
            )
        for role, model in (("the center", center), ("the target", target)):
            check_finite_weights(model, role)
        self._ends = {
            end: {name: value.detach().clone() for name, value in _state(model).items()}
            for end, model in ((0.0, center), (1.0, target))
        }
        self.ends: tuple[tuple[float, float], ...] = ENDS
        self.batch_norm = batch_norm
        self._template = center
        self._names = [name for name, _ in center.named_parameters()]
        self._origin = self._flat(0.0)
        self._first = self._flat(1.0) - self._origin
        self.distance = float(self._first.norm())  # Euclidean, over all parameters
        if self.distance == 0.0:
            raise AnalysisError("center and target have the same weights; there is no axis between them")
        survivors = surviving(center, masks)
        for role, end in (("center", 0.0), ("target", 1.0)):
            if self._flat(end)[~survivors].any():
                raise AnalysisError(f"the {role} has weights other than zero where the masks remove them")
        self._second = self._random_direction(survivors, seed)

    @classmethod
    @measuring(gradients=False)
    def around(
        cls, center: nn.Module, first: Direction, second: Direction | None = None, *, batch_norm: str = "nearer"
    ) -> "Plane":
        """The plane ``center + x first + y second`` through one net (without a second direction, the line).

        Raises:
            AnalysisError: a direction does not fit the net, is zero or holds NaN or infinity; BatchNorm's statistics
                are to be interpolated, of one net.

        >>> net = nn.Linear(2, 1, bias=False)
        >>> plane = Plane.around(net, torch.tensor([1.0, 0.0]), {"weight": torch.tensor([[0.0, 2.0]])})
        >>> moved = plane.model_at(3.0, 1.0).weight - net.weight
        >>> moved.detach().round(decimals=4).tolist()
        [[3.0, 2.0]]
        """
        check_batch_norm(batch_norm)
        if batch_norm == "interpolated":
            raise AnalysisError("around one net there is nothing to interpolate; take 'nearer' or 'recalibrated'")
        check_kind(center)
        check_finite_weights(center, "the center")
        plane = cls.__new__(cls)
        plane._ends = {0.0: {name: value.detach().clone() for name, value in _state(center).items()}}
        plane.ends, plane.batch_norm, plane._template = ENDS[:1], batch_norm, center
        plane._names = [name for name, _ in center.named_parameters()]
        plane._origin = plane._flat(0.0)
        plane._first = _direction(center, first, "first")
        plane._second = torch.zeros_like(plane._origin) if second is None else _direction(center, second, "second")
        plane.distance = float(plane._first.norm())
        return plane

    @property
    def second_distance(self) -> float:
        """The length of the second direction."""
        return float(self._second.norm())

    def _flat(self, end: float) -> Tensor:
        if not self._names:
            raise AnalysisError("the model has no parameters; there is no plane to look at")
        return torch.cat([self._ends[end][name].double().flatten() for name in self._names])

    def _random_direction(self, survivors: Tensor, seed: int) -> Tensor:
        axis = self._first / self.distance
        draw = torch.randn(len(axis), generator=generator(seed, "surface"), dtype=torch.float64)
        draw = draw.to(axis.device) * survivors
        drawn = draw.norm()
        for _ in range(2):  # once is not enough where most of the draw cancels
            draw = draw - (axis @ draw) * axis
        if draw.norm() <= 1e-12 * drawn:
            raise AnalysisError("no direction is orthogonal to the first axis; two surviving parameters are needed")
        return draw * (self.distance / draw.norm())

    @measuring(gradients=False)
    def move(self, model: nn.Module, x: float, y: float) -> None:
        """Give ``model``, a net of the same parameters, the weights and buffers of the point (x, y)."""
        state = dict(self._ends[0.0 if x <= 0.5 or len(self._ends) == 1 else 1.0])
        if self.batch_norm == "interpolated" and 0 < x < 1:
            for name, buffer in _state(model).items():
                if name not in self._names and buffer.is_floating_point():
                    state[name] = (1 - x) * self._ends[0.0][name].double() + x * self._ends[1.0][name].double()
        if (x, y) not in self.ends:
            flat = self._origin + x * self._first + y * self._second
            parts = flat.split([state[name].numel() for name in self._names])
            state |= dict(zip(self._names, parts, strict=True))
        for name, tensor in _state(model).items():
            if 0 in tensor.stride():  # one value for several places, which takes no other values
                tensor.data = tensor.detach().clone(memory_format=torch.contiguous_format)
            tensor.copy_(state[name].view_as(tensor))

    def tensors(self) -> list[Tensor]:
        """All that defines the plane: the ends' weights and buffers, and the axes that do not follow from them."""
        one_net = [self._first] if len(self._ends) == 1 else []
        return [*(value for end in self._ends.values() for value in end.values()), *one_net, self._second]

    def axes(self) -> tuple[Tensor, Tensor]:
        """Both directions: float64 [P]."""
        return self._first, self._second

    def model_at(self, x: float, y: float = 0.0) -> nn.Module:
        """A new model at the point (x, y), for instance for the Hessian along the line between the ends."""
        with measuring(gradients=False):
            model = copied(self._template)
        self.move(model, x, y)
        return model


def check_same_code(plane: Plane, target: nn.Module, outputs: Callable[[nn.Module], Sequence[Tensor]]) -> None:
    """Check that the target's weights mean in the center's code, which all points have, what they mean in its own.

    Args:
        outputs: of a net, on a few samples.

    Raises:
        AnalysisError: they do not: other activations, another eps of BatchNorm, ...
    """
    own, moved = outputs(target), outputs(plane.model_at(1.0))
    if len(own) != len(moved) or not all(map(agree_closely, own, moved)):
        raise AnalysisError(
            "the target's weights give other outputs in the center than in the target (other activations, or settings "
            "of layers), so there is no plane of one net through both; build both by the same code"
        )


def check_batch_norm(batch_norm: str) -> None:
    """Check where BatchNorm's statistics are to come from.

    Raises:
        AnalysisError: it is not of `BATCH_NORMS`.
    """
    if batch_norm not in BATCH_NORMS:
        raise AnalysisError(f"batch_norm is {batch_norm!r}; there are {', '.join(map(repr, BATCH_NORMS))}")


def _direction(model: nn.Module, direction: Direction, which: str) -> Tensor:
    """A direction as one vector, float64 [P].

    Raises:
        AnalysisError: it does not fit the model, is zero, or is not finite.
    """
    parameters = dict(model.named_parameters())
    total = sum(parameter.numel() for parameter in parameters.values())
    device = next(iter(parameters.values())).device
    if isinstance(direction, Mapping):
        if unknown := [name for name in direction if name not in parameters]:
            raise AnalysisError(f"the {which} direction has {', '.join(unknown)}, which the model does not have")
        parts = {name: direction.get(name, torch.zeros_like(value)) for name, value in parameters.items()}
        for name, part in parts.items():
            check_tensor(f"{name} of the {which} direction", part)
            if part.shape != parameters[name].shape:
                raise AnalysisError(
                    f"{name} of the {which} direction has shape {list(part.shape)}, the parameter "
                    f"{list(parameters[name].shape)}"
                )
        flat = torch.cat([part.detach().to(device, torch.float64).flatten() for part in parts.values()])
    elif isinstance(direction, Tensor) and direction.shape == (total,):
        flat = direction.detach().to(device, torch.float64)
    else:
        given = list(direction.shape) if isinstance(direction, Tensor) else f"a {type(direction).__name__}"
        raise AnalysisError(
            f"the {which} direction is {given}; give a tensor [{total}] or parts of it by parameter name"
        )
    if not flat.isfinite().all() or not flat.any():
        raise AnalysisError(f"the {which} direction is zero, or holds NaN or infinity")
    return flat


def _state(model: nn.Module) -> dict[str, Tensor]:
    return dict(model.named_parameters()) | dict(model.named_buffers())


def _shapes(model: nn.Module) -> dict[str, tuple[torch.Size, torch.dtype, torch.device]]:
    return {name: (value.shape, value.dtype, value.device) for name, value in _state(model).items()}
