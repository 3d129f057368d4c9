"""Matrices of curvature as operators: products with vectors, of the Hessian, the Gauss-Newton and the Fisher matrix."""

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

from sharpminima.analysis._inputs import check_finite_weights, check_tensor, surviving
from sharpminima.analysis._loss import Criterion, LossFunction, MeanLoss, Part, named_failure
from sharpminima.analysis.hessian._graphs import Graphs
from sharpminima.analysis.hessian._outer import FISHER, GAUSS_NEWTON, check_apart, check_samples
from sharpminima.analysis.hessian._products import (
    HESSIAN,
    Kind,
    Parameters,
    differentiable_kernels,
    load_forward_mode,
    split,
)
from sharpminima.analysis.hessian._rows import Columns, columns_of, of_gradient, of_loss, pieces_of, squares_of
from sharpminima.analysis.hessian._steps import Steps
from sharpminima.analysis.hessian._ways import Differentiated, find_way
from sharpminima.base.errors import AnalysisError
from sharpminima.base.numbers import check_number, check_whole, optional
from sharpminima.base.stop import STOP, Stopped
from sharpminima.nets.masks import checked_masks
from sharpminima.nets.modes import measuring, ordinary
from sharpminima.nets.resume import fingerprint_of
from sharpminima.nets.sparse import SparseConv2d
from sharpminima.runtime.memory import give_back_memory
from sharpminima.runtime.rng import generator

if TYPE_CHECKING:
    from scipy.sparse.linalg import LinearOperator

SCALINGS = (None, "parameter")
"""Coordinates of the Hessian: those of the weights, or relative changes of each weight (`HessianVectorProduct`)."""

TOGETHER = 4  # vectors that one forward and backward pass serves; more of them leave a CPU's cache
_ALL = slice(None)
_BATCH = {"cpu": 125, "cuda": 1000}  # images a pass
_SPARSE_BATCH = 250  # where layers of survivors make a pass short


class CurvatureProduct:
    """A symmetric matrix of curvature as an operator on vectors of the parameters: what its kinds share.

    It is called with tensors: one vector [dimension] or several [b, dimension]; ``operator @ v`` takes columns,
    [dimension] or [dimension, b]; `linear_operator` is the same for scipy. ``dimension`` counts the parameters that
    the matrix is over: all, those of ``parameters``, those that masks keep, or both. Not to be built itself.
    """

    matrix: ClassVar[str]
    _title: ClassVar[str]  # of the matrix, in messages
    _kind: ClassVar[Kind]

    @measuring(gradients=True)
    def __init__(
        self,
        model: nn.Module,
        images: Any,
        labels: Any = None,
        *,
        criterion: Criterion | None = None,
        loss_fn: LossFunction | None = None,
        masks: Mapping[str, Tensor] | None = None,
        parameters: str | Iterable[str] | None = None,
        scaling: str | None = None,
        dtype: torch.dtype | None = None,
        batch_size: int | None = None,
        graphs: float | None = None,
    ) -> None:
        """Check the arguments, which are those of `hessian_eigenvalues`.

        Raises:
            AnalysisError: as `hessian_eigenvalues` says.
        """
        loss = MeanLoss(model, images, labels, criterion=criterion, loss_fn=loss_fn, batch_size=batch_size)
        graphs = optional(check_number, "graphs", graphs, least=0)
        if graphs and self._kind.kept is None:
            raise AnalysisError(f"graphs of {self.matrix} are not kept: forward mode is as fast; leave graphs out")
        check_finite_weights(model)
        check_scaling(scaling)
        self._loss = loss
        self._dtype = _computed_in(model, loss, dtype)
        loss.computing_in(self._dtype)
        survivors = surviving(model, masks)
        if masks is not None:
            masks = checked_masks(masks, dict(model.named_parameters()))
        wanted = None
        if parameters is not None:
            wanted = _chosen(model, parameters).to(survivors.device)
            survivors = survivors & wanted
            if not survivors.any():
                raise AnalysisError("no parameter of those that are chosen survives the masks")
        self._check_loss(model)
        load_forward_mode()
        reduced, self._way = find_way(model, masks, survivors, loss, self._dtype, self._kind, wanted, bool(graphs))
        give_back_memory()  # of the trial, which held more than a product does
        over = Differentiated.of(reduced, wanted)
        self._net, self._parameters, self._fixed = over.net, over.parameters, over.fixed
        self._layout = reduced.layout
        # What products go through; its gradient, [its parameters], once it is known.
        self._through = self._way.folding or over
        self._gradient: Tensor | None = None
        self._graphs: Graphs | None = None
        if graphs and self._way.kept:
            through = self._through
            held = (*through.parameters.values(), *self._fixed.values(), *through.net.buffers(), *loss.held())
            self._graphs = Graphs(graphs, loss.samples, loss.device, held)
        sparse = any(isinstance(module, SparseConv2d) for module in self._net.modules())
        usual = _SPARSE_BATCH if sparse else _BATCH.get(loss.device.type, 1000)
        self.batch_size = usual if batch_size is None else check_whole("batch_size", batch_size, least=1)
        every = dict(model.named_parameters())
        self.shapes = {name: tuple(parameter.shape) for name, parameter in every.items()}  # of all P parameters
        self._total = sum(parameter.numel() for parameter in every.values())
        self.dimension = int(survivors.sum())
        self._kept = survivors
        # Where a vector's entries, and those of the net's own parameters, stand among the model's P.
        self._survivors = _ALL if self.dimension == self._total else survivors.nonzero().flatten()
        self._places = _ALL if _is_whole(over.places, self._total) else over.places.to(survivors.device)
        self._scale: Tensor | None = None
        if scaling == "parameter":
            weights = torch.cat([parameter.detach().double().flatten() for parameter in every.values()])
            self._scale = weights.abs()[self._survivors]
        self.scaling = scaling
        # Which parameters the matrix is taken over, and how many they are.
        self.space = "chosen" if wanted is not None else "all" if masks is None else "surviving"
        self.calls = 0  # products so far

    def _check_loss(self, model: nn.Module) -> None:
        """Check that the loss is one that the matrix is defined for."""

    @property
    def device(self) -> torch.device:
        """Where the products are computed."""
        return self._kept.device

    @property
    def rounding(self) -> float:
        """Relative rounding error of the dtype that products are computed in."""
        return max(torch.finfo(parameter.dtype).eps for parameter in self._parameters.values())

    @property
    def unit(self) -> str:
        """The unit of the loss."""
        return self._loss.unit

    @measuring(gradients=True)
    def fingerprint(self, model: nn.Module, masks: Mapping[str, Tensor] | None, facts: Mapping[str, Any]) -> str:
        """Identifies a computation with this operator, built of ``model`` and ``masks``, so that it can go on.

        Weights and data are identified by their values, batch after batch. The code of a net, or of a loss of one's
        own, has no name that identifies it: it is known by what it gives, a product with a random vector, and so is
        what else changes the matrix.
        """
        settings = {"matrix": self.matrix, "space": self.space, "scaling": self.scaling, "masks": sorted(masks or {})}

        def tensors() -> Iterator[Tensor]:
            yield from (*model.parameters(), *model.buffers(), *(mask for _, mask in sorted((masks or {}).items())))
            yield self._kept
            yield from self._loss.tensors()
            draws = generator(0, "fingerprint of a product")
            vector = torch.randn(1, self.dimension, generator=draws, dtype=torch.float64).to(self.device)
            yield self._unscaled(vector)

        return fingerprint_of({**settings, **facts}, tensors())

    def expand(self, vectors: Tensor) -> Tensor:
        """Vectors [..., dimension] as [..., P] over all parameters, with zeros where the matrix has no row."""
        full = vectors.new_zeros(*vectors.shape[:-1], self._total)
        full[..., self._survivors] = vectors
        return full

    def by_parameter(self, vectors: Tensor) -> dict[str, Tensor]:
        """Vectors [..., dimension] by parameter: name -> [...] and its shape, zero where the matrix has no row."""
        return by_parameter(self.expand(vectors), self.shapes)

    def flatten(self, directions: Mapping[str, Tensor]) -> Tensor:
        """What `by_parameter` gives, as vectors [..., dimension] again; a parameter that is left out is zero.

        Raises:
            AnalysisError: a name that the model lacks, what is no tensor, another shape, or parts of which some are of
                more vectors than others.
        """
        leading: tuple[int, ...] | None = None
        for name, part in directions.items():
            if name not in self.shapes:
                raise AnalysisError(f"the model has no parameter {name}")
            check_tensor(f"the direction of {name}", part)
            shape = self.shapes[name]
            its_leading = tuple(part.shape[: max(0, part.dim() - len(shape))])
            if tuple(part.shape) != (*its_leading, *shape):
                raise AnalysisError(
                    f"the direction of {name} has shape {list(part.shape)}, its parameter {list(shape)}"
                )
            if leading is None:
                leading = its_leading
            if its_leading != leading:
                raise AnalysisError(
                    f"the direction of {name} has the axes {list(its_leading)} before its parameter's, those of the "
                    f"others {list(leading)}; give all the same"
                )
        leading = leading or ()
        parts = [
            directions[name].to(self.device, torch.float64).reshape(*leading, -1)
            if name in directions
            else torch.zeros(*leading, _size(shape), dtype=torch.float64, device=self.device)
            for name, shape in self.shapes.items()
        ]
        return torch.cat(parts, dim=-1)[..., self._survivors]

    def linear_operator(self) -> "LinearOperator":
        """The matrix for scipy: float64, [dimension, dimension], on arrays of the host.

        Raises:
            AnalysisError: scipy is not installed.

        >>> net = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
        >>> operator = HessianVectorProduct(net, torch.ones(3, 4), torch.tensor([0, 1, 1])).linear_operator()
        >>> operator.shape, operator.matvec(torch.zeros(10).numpy()).any().item()
        ((10, 10), False)
        """
        try:
            from scipy.sparse.linalg import LinearOperator
        except ImportError:
            raise AnalysisError("a LinearOperator is scipy's, which is not installed: pip install scipy") from None

        def columns(block: Any) -> Any:
            return (self @ torch.as_tensor(block)).cpu().numpy()

        def column(vector: Any) -> Any:
            return columns(vector.reshape(-1))

        shape = (self.dimension, self.dimension)
        return LinearOperator(
            shape,
            matvec=column,
            rmatvec=column,
            matmat=columns,
            rmatmat=columns,
            dtype=torch.zeros(0).double().numpy().dtype,
        )

    def __matmul__(self, vectors: Tensor) -> Tensor:
        """The matrix times a column [dimension], or columns [dimension, b]; float64.

        Raises:
            AnalysisError, Stopped: as of a call.
        """
        check_tensor("what the matrix is multiplied with", vectors)
        return self(vectors) if vectors.dim() == 1 else self(vectors.T).T

    @measuring(gradients=True)
    def __call__(self, vectors: Tensor) -> Tensor:
        """The products, float64, of one vector [dimension] or of each of several [b, dimension].

        Raises:
            AnalysisError: vectors of another shape; a product is NaN or infinite.
            Stopped: SIGTERM came (where `sharpminima.base.stop` catches it).
        """
        if not isinstance(vectors, Tensor) or vectors.dim() not in (1, 2) or vectors.shape[-1] != self.dimension:
            shape = list(vectors.shape) if isinstance(vectors, Tensor) else f"a {type(vectors).__name__}"
            raise AnalysisError(f"vectors are {shape}; give a tensor [{self.dimension}] or [b, {self.dimension}]")
        block = ordinary(vectors).to(self.device).reshape(-1, self.dimension)
        if not block.is_floating_point():
            block = block.double()
        if not len(block):
            return block.double()
        first, *others = (self._products(part) for part in block.split(TOGETHER))
        products = torch.cat([first, *others]) if others else first
        self.calls += len(block)
        if not torch.linalg.vector_norm(products, ord=float("inf")).isfinite():
            raise AnalysisError("a Hessian-vector product holds NaN or infinity; check the weights and the images")
        return products.view(vectors.shape)

    @measuring(gradients=True)
    def diagonal(self, steps: Steps | None = None) -> Tensor:
        """The diagonal, exactly: float64 [dimension].

        Of the Hessian, by a product for each parameter. Of the others, by a backward pass for each sample and output
        (the empirical Fisher: for each sample). Memory: 16 million numbers of each sort, or those of one sample.

        Args:
            steps: what is called for parameters, or samples, that are done.

        Raises:
            AnalysisError: of the others, a loss that is not the mean of its samples', or a sample with more than 4,096
                outputs.
            Stopped: SIGTERM came (where `sharpminima.base.stop` catches it).

        >>> net = nn.Sequential(nn.Flatten(), nn.Linear(4, 1))
        >>> product = GaussNewtonVectorProduct(net, torch.ones(3, 4), torch.ones(3, 1), criterion=nn.MSELoss())
        >>> [round(entry, 6) for entry in product.diagonal().tolist()]  # twice the squares of inputs of 1
        [2.0, 2.0, 2.0, 2.0, 2.0]
        """
        entries = self._diagonal(steps or Steps())
        return entries if self._scale is None else entries * self._scale.square()

    def _diagonal(self, steps: Steps) -> Tensor:
        """The diagonal without the scaling."""
        entries, done = steps.begin(torch.zeros(self.dimension, dtype=torch.float64, device=self.device))
        self.calls += done
        for first in range(done, self.dimension, TOGETHER):
            count = min(TOGETHER, self.dimension - first)
            units = torch.zeros(count, self.dimension, dtype=torch.float64, device=self.device)
            units[:, first : first + count] = torch.eye(count, dtype=torch.float64, device=self.device)
            with steps.kept(entries, first):
                images = self._unscaled(units)
            entries[first : first + count] = images[:, first : first + count].diagonal()
            self.calls += count
            steps.after(entries, first + count, self.dimension)
        return entries

    def _sample_diagonal(self, make: Callable[..., Columns], steps: Steps) -> Tensor:
        """The diagonal from columns of each sample's outputs."""
        values = (self._loss, self._net, self._fixed, self._parameters)
        size = sum(parameter.numel() for parameter in self._parameters.values())
        total, done = steps.begin(torch.zeros(size, dtype=torch.float64, device=self.device))
        seen = 0
        with differentiable_kernels(self._way.plain):
            few = self._loss.prepared(self._loss.few, self._dtype, self._layout)
            squares, count = squares_of(*values, few, make)
            for part in self._loss.parts(self.batch_size):
                for piece in pieces_of(self._loss.prepared(part, self._dtype, self._layout), count):
                    seen += piece.count
                    if seen <= done:
                        continue
                    with named_failure(piece):
                        columns = columns_of(self._loss, self._net, self._fixed | self._parameters, piece, make)
                        total += squares(*values, piece, columns)
                    steps.after(total, seen, self._loss.samples)
        full = total.new_zeros(self._total)
        full[self._places] = total / self._loss.samples
        return full[self._survivors]

    def _products(self, vectors: Tensor) -> Tensor:
        """The products [b, dimension] of vectors that one pass serves [b, dimension]."""
        if self._scale is None:
            return self._unscaled(vectors)
        return self._unscaled(vectors * self._scale) * self._scale

    def _unscaled(self, vectors: Tensor) -> Tensor:
        """The products in the coordinates of the weights."""
        in_place = isinstance(self._survivors, slice) and isinstance(self._places, slice)
        flat = vectors if in_place else self.expand(vectors)[:, self._places]
        directions = split(flat, self._parameters)
        folding = self._way.folding
        if folding is None:
            total = self._over_batches(directions)
        else:
            inner = self._over_batches(folding.pushed(directions))
            total = folding.pulled(directions, inner, self._gradient)
        if in_place:
            return total
        full = total.new_zeros(len(flat), self._total)
        full[:, self._places] = total
        return full[:, self._survivors]

    def _over_batches(self, directions: Parameters) -> Tensor:
        """Products with directions of the net that they go through: float64 [b, its parameters]."""
        count = len(next(iter(directions.values())))
        total = torch.zeros(count, sum(part[0].numel() for part in directions.values()), dtype=torch.float64)
        total = total.to(self.device)
        slope = self._kind.gradient if self._way.folding is not None and self._gradient is None else None
        gradient = None if slope is None else torch.zeros_like(total[0])
        with differentiable_kernels(self._way.plain):
            for number, part in enumerate(self._loss.parts(self.batch_size)):
                if STOP.raised:
                    kept = "what was saved before is kept"
                    raise Stopped(f"stopped by {STOP.signal.name} in a Hessian-vector product; {kept}")
                with named_failure(part):
                    total += self._batch_products(number, part, directions)
                    if slope is not None and gradient is not None:
                        gradient += slope(self._function_of(part), self._through.parameters)
        if gradient is not None:
            # As it is used; in float64 it would take twice the memory.
            self._gradient = gradient.div_(self._loss.samples).to(next(iter(directions.values())).dtype)
        return total.div_(self._loss.samples)

    def _function_of(self, part: Part) -> Any:
        """The batch as its kind takes it."""
        prepared = self._loss.prepared(part, self._dtype, self._layout)
        return self._kind.function(self._loss, self._through.net, self._fixed, prepared, 1.0)

    def _batch_products(self, number: int, part: Part, directions: Parameters) -> Tensor:
        """Products of the matrix of a batch's summed loss, [b, parameters of the net]."""
        several = len(next(iter(directions.values()))) > 1
        build, parameters = self._kind.kept, self._through.parameters
        if self._graphs is not None and build is not None and not several:
            products = self._graphs.of(number, part.count, lambda: build(self._function_of(part), parameters))
            if products is not None:
                return products(directions)
        return (self._way.several if several else self._way.single)(self._function_of(part), parameters, directions)


class HessianVectorProduct(CurvatureProduct):
    """The Hessian H of the mean loss as an operator: v -> H v, exact: the derivative of the gradient along v.

    Eval mode, without penalties; the loss is cross-entropy unless ``criterion`` or ``loss_fn`` say otherwise
    (`hessian_eigenvalues`). With masks it is the Hessian over the surviving parameters only: the rows and columns of
    the removed ones are left out, and so are those of layers that ``parameters`` does not name. With
    ``scaling="parameter"`` it is D H D, D = diag(|w|): the Hessian in the coordinates u of w = |w| u, that is with
    respect to relative changes of the weights. Its eigenvalues do not change when a ReLU layer is multiplied by a
    positive number and the next one divided by it (elementwise adaptive sharpness: Kwon et al., "ASAM: adaptive
    sharpness-aware minimization", ICML 2021). The weights that the model holds when the operator is built are those
    that it keeps; the model is not modified.

    Forward over reverse mode, vectorised over the vectors (Pearlmutter, "Fast exact multiplication by the Hessian",
    1994; a vector costs 1.0 to 0.6 times one of double backward, for 1 to 4 vectors at once), on a net without the
    units that cannot have a derivative (`sharpminima.nets.compaction`), and with BatchNorms that stand right behind a
    convolution as part of it; where the net does not allow that, which a trial against double backward shows when the
    operator is built, by slower ways. Batches are summed in float64.

    Every parameter counts, frozen ones (``requires_grad=False``) too: leave them out by ``parameters``. A parameter
    that the loss does not depend on, or that the net detaches, has a derivative of zero. A weight of -0.0 is zero. A
    mask may remove a whole layer, but not every parameter.

    >>> net = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    >>> product = HessianVectorProduct(net, torch.ones(3, 1, 2, 2), torch.tensor([0, 1, 1]))
    >>> product(torch.ones(product.dimension)).abs().max() < 1e-6  # equal logits for all: softmax stays
    tensor(True)
    """

    matrix = "hessian"
    _title = "Hessian"
    _kind = HESSIAN


class GaussNewtonVectorProduct(CurvatureProduct):
    """The generalised Gauss-Newton matrix G as an operator: v -> G v; arguments as of `HessianVectorProduct`.

    G is the mean over samples of J.T H J, with the Jacobian J of the sample's outputs with respect to the parameters
    and the Hessian H of its loss with respect to the outputs: the Hessian without the curvature of the net itself
    (Schraudolph, "Fast curvature matrix-vector products for second-order gradient descent", 2002). It is positive
    semidefinite where the loss is convex in the outputs. With cross-entropy it is the Fisher matrix of the model's own
    distribution (Martens, "New insights and perspectives on the natural gradient method", 2020).

    Raises:
        AnalysisError: a loss_fn, which has no outputs apart; else as `hessian_eigenvalues`.

    >>> net = nn.Sequential(nn.Flatten(), nn.Linear(4, 1))
    >>> product = GaussNewtonVectorProduct(net, torch.ones(3, 4), torch.ones(3, 1), criterion=nn.MSELoss())
    >>> product(torch.ones(5))  # 2 x x.T of inputs of ones, the bias's among them
    tensor([10., 10., 10., 10., 10.], dtype=torch.float64)
    """

    matrix = "gauss_newton"
    _title = "Gauss-Newton"
    _kind = GAUSS_NEWTON
    _not_of_samples: str | None = None  # why there is no exact diagonal

    def _check_loss(self, model: nn.Module) -> None:
        check_apart(self._loss, self._title)
        try:
            # Here, with the model and its data as they were given: the net of the products may be of another dtype.
            what = f"the exact diagonal of the {self._title} matrix"
            check_samples(self._loss, model, what, ", or method='hutchinson'")
        except AnalysisError as error:
            self._not_of_samples = str(error)  # of the diagonal alone; products do without

    def _diagonal(self, steps: Steps) -> Tensor:
        if self._not_of_samples is not None:
            raise AnalysisError(self._not_of_samples)
        return self._sample_diagonal(of_loss, steps)


class FisherVectorProduct(CurvatureProduct):
    """The empirical Fisher matrix F as an operator: v -> F v; arguments as of `HessianVectorProduct`.

    F is the mean over samples of g g.T, with the gradient g of the sample's own loss: positive semidefinite, of a rank
    of the number of samples at most. It is not the Fisher matrix (Kunstner, Balles, Hennig, "Limitations of the
    empirical Fisher approximation for natural gradient descent", 2019).

    Raises:
        AnalysisError: a loss_fn, which has no outputs apart; outputs without a row for each sample; a loss that is not
            the mean of the samples'; else as `hessian_eigenvalues`.

    >>> net = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    >>> _ = [nn.init.zeros_(parameter) for parameter in net.parameters()]
    >>> product = FisherVectorProduct(net, torch.ones(2, 4), torch.tensor([0, 1]))
    >>> float(product(torch.eye(10)).trace())  # 2 (1 - p) squared, for each of five inputs
    2.5
    """

    matrix = "fisher"
    _title = "empirical Fisher"
    _kind = FISHER

    def _check_loss(self, model: nn.Module) -> None:
        check_apart(self._loss, self._title)
        check_samples(self._loss, model, f"the {self._title} matrix")

    def _diagonal(self, steps: Steps) -> Tensor:
        return self._sample_diagonal(of_gradient, steps)


MATRICES: dict[str, type[CurvatureProduct]] = {
    kind.matrix: kind for kind in (HessianVectorProduct, GaussNewtonVectorProduct, FisherVectorProduct)
}
"""Name of a matrix of curvature -> its operator."""


def check_scaling(scaling: str | None) -> None:
    """Check that such coordinates are offered.

    Raises:
        AnalysisError: they are not.
    """
    if scaling not in SCALINGS:
        raise AnalysisError(f"there is no scaling {scaling!r}; give None or 'parameter'")


def operator_of(matrix: str) -> type[CurvatureProduct]:
    """The operator of that name.

    Raises:
        AnalysisError: there is none.
    """
    if not isinstance(matrix, str) or matrix not in MATRICES:
        raise AnalysisError(f"there is no matrix {matrix!r}; there are {', '.join(MATRICES)}")
    return MATRICES[matrix]


def signs_for(count: int, product: CurvatureProduct, draws: torch.Generator) -> Tensor:
    """Random signs, float64 [count, dimension]."""
    signs = torch.randint(0, 2, (count, product.dimension), generator=draws, dtype=torch.float64)
    return (2 * signs - 1).to(product.device)


def by_parameter(vectors: Tensor, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """Vectors [..., P] by parameter: name -> [...] and its shape."""
    parts = vectors.split([_size(shape) for shape in shapes.values()], dim=-1)
    return {
        name: part.reshape((*vectors.shape[:-1], *shape))  # one argument: a scalar parameter's shape may be empty
        for (name, shape), part in zip(shapes.items(), parts, strict=True)
    }


def _is_whole(places: Tensor, total: int) -> bool:
    """Whether places are all of the P in their order."""
    return len(places) == total and bool((places[1:] > places[:-1]).all())


def _size(shape: tuple[int, ...]) -> int:
    return torch.Size(shape).numel()


def _chosen(model: nn.Module, parameters: str | Iterable[str]) -> Tensor:
    """Which of the model's P parameters names of parameters or modules stand for, bool [P].

    Raises:
        AnalysisError: a name is none of the model's, or there is none.
    """
    if not isinstance(parameters, Iterable):
        raise AnalysisError(f"parameters are {parameters!r}; give a name, or names, of parameters or layers")
    names = [parameters] if isinstance(parameters, str) else list(parameters)
    every = dict(model.named_parameters())
    if any(not isinstance(name, str) for name in names):
        kinds = ", ".join(sorted({type(name).__name__ for name in names}))
        raise AnalysisError(
            f"parameters are given as {kinds}; give names of parameters or layers: {', '.join(every)}, or what those "
            "of a layer begin with"
        )
    # A tied weight is one of the P, under the first of its names, and is chosen by any of them.
    called: dict[int, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        called.setdefault(id(parameter), []).append(name)
    unknown = [name for name in names if not any(_within(each, name) for each in itertools.chain(*called.values()))]
    if unknown or not names:
        raise AnalysisError(
            f"the model has no parameter or layer {', '.join(map(repr, unknown)) or 'given'}; "
            f"there are {', '.join(every)}"
        )
    chosen = [
        torch.full((p.numel(),), any(_within(each, name) for each in called[id(p)] for name in names))
        for p in every.values()
    ]
    return torch.cat(chosen)


def _within(parameter: str, name: str) -> bool:
    return parameter == name or parameter.startswith(f"{name}.")


def _computed_in(model: nn.Module, loss: MeanLoss, dtype: torch.dtype | None) -> torch.dtype | None:
    """What to compute in: at least float32, as coarser products converge to other numbers; None: the model's own.

    Raises:
        AnalysisError: a coarser one is asked for, or one that is not floating point.
    """
    if dtype is not None:
        if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
            raise AnalysisError(f"products cannot be computed in {dtype!r}; give torch.float32 or torch.float64")
        if torch.finfo(dtype).bits < 32:
            raise AnalysisError(f"{dtype} is too coarse for products; give torch.float32 or torch.float64")
        return dtype
    held = [*loss.dtypes(), *(parameter.dtype for parameter in model.parameters())]
    return torch.float32 if any(torch.finfo(each).bits < 32 for each in held) else None
