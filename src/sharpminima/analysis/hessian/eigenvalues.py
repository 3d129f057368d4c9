"""The Hessian of a net's mean cross-entropy: products with vectors and largest eigenvalues.

The paper (Tartaglione et al., ICANN 2020) reports the top-5 eigenvalues, from 20 steps of power iteration
with deflation, which are too few to converge; here Lanczos runs until measured residuals are small.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from sharpminima.analysis._inputs import (
    FEW,
    check_finite_weights,
    check_images,
    check_model,
    check_number,
    check_whole,
    count_labels,
    given,
    surviving,
)
from sharpminima.analysis.hessian._lanczos import largest_eigenpairs
from sharpminima.analysis.hessian._products import (
    Parameters,
    differentiable_kernels,
    find_way,
    load_forward_mode,
    split,
    values_of,
)
from sharpminima.base.errors import AnalysisError
from sharpminima.base.stop import STOP, Stopped
from sharpminima.nets.masks import checked_masks
from sharpminima.nets.modes import measuring, ordinary
from sharpminima.nets.sparse import SparseConv2d
from sharpminima.runtime.rng import generator

SCALINGS = (None, "parameter")
"""Coordinates of the Hessian: those of the weights, or relative changes of each weight (`HessianVectorProduct`)."""

TOGETHER = 4  # vectors that one forward and backward pass serves; more of them leave a CPU's cache
_BATCH = {"cpu": 125, "cuda": 1000}  # images a pass
_SPARSE_BATCH = 250  # where layers of survivors make a pass short
_BLOCK = {"cpu": 1, "cuda": 4}  # vectors of a Lanczos block; on a CPU fewer products count for more


@dataclass(frozen=True, eq=False)
class HessianEigenvalues:
    """The k largest (algebraic) eigenvalues of a Hessian; P parameters, ordered as ``named_parameters``."""

    eigenvalues: Tensor  # float64 [k], largest first; Rayleigh quotients of the eigenvectors; nats
    eigenvectors: Tensor  # float64 [k, P], unit norm, largest entry positive; 0 where a mask removes
    residuals: Tensor  # float64 [k]; ||H v - lambda v||, from a product of its own for each vector
    converged: Tensor  # bool [k]; residual <= tol * largest |eigenvalue| of the k (or at rounding level)
    iterations: int  # Lanczos steps, each of a block of vectors
    hvps: int  # Hessian-vector products, those of the residuals included
    space: str  # "all" parameters or the "surviving" ones
    dimension: int  # parameters in that space
    scaling: str | None  # the coordinates, of `SCALINGS`
    block_size: int  # vectors of a Lanczos block


class HessianVectorProduct:
    """The Hessian H of the mean cross-entropy as an operator: v -> H v, exact: the derivative of the gradient along v.

    Eval mode, without penalties. With masks it is the Hessian over the surviving parameters only: the rows and
    columns of the removed ones are left out. With ``scaling="parameter"`` it is D H D, D = diag(|w|): the Hessian in
    the coordinates u of w = |w| u, that is with respect to relative changes of the weights. Its eigenvalues do not
    change when a ReLU layer is multiplied by a positive number and the next one divided by it (elementwise
    adaptive sharpness: Kwon et al., "ASAM: adaptive sharpness-aware minimization", ICML 2021). The weights that the
    model holds when the operator is built are those that it keeps; the model is not modified.

    Forward over reverse mode, vectorised over the vectors (Pearlmutter, "Fast exact multiplication by the Hessian",
    1994; a vector costs 1.0 to 0.6 times one of double backward, for 1 to 4 vectors at once), on a net without the
    units that cannot have a derivative (`sharpminima.nets.compaction`); where the net does not allow that, which a
    trial against double backward shows when the operator is built, by slower ways. Batches are summed in float64.

    Every parameter counts, frozen ones (``requires_grad=False``) too. A parameter that the loss does not depend on, or
    that the net detaches, has a derivative of zero. A weight of -0.0 is zero.

    >>> net = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    >>> product = HessianVectorProduct(net, torch.ones(3, 1, 2, 2), torch.tensor([0, 1, 1]))
    >>> product(torch.ones(product.dimension)).abs().max() < 1e-6  # equal logits for all: softmax stays
    tensor(True)
    """

    @measuring(gradients=True)
    def __init__(
        self,
        model: nn.Module,
        images: Tensor,
        labels: Tensor,
        *,
        masks: Mapping[str, Tensor] | None = None,
        scaling: str | None = None,
        dtype: torch.dtype | None = None,
        batch_size: int | None = None,
    ) -> None:
        """Check the arguments, which are those of `hessian_eigenvalues`.

        Raises:
            AnalysisError: as `hessian_eigenvalues` says.
        """
        images, labels = check_images(images, labels, 1 if batch_size is None else batch_size)
        classes = check_model(model, images)
        check_finite_weights(model)
        count_labels(labels, classes)
        if scaling not in SCALINGS:
            raise AnalysisError(f"there is no scaling {scaling!r}; give None or 'parameter'")
        dtype = _computed_in(model, images, dtype)
        self._dtype = dtype or images.dtype
        survivors = surviving(model, masks)
        if masks is not None:
            masks = checked_masks(masks, dict(model.named_parameters()))
        load_forward_mode()
        self._way = find_way(model, masks, survivors, images[:FEW].to(self._dtype), labels[:FEW], dtype)
        self._net = self._way.reduced.net
        self._parameters = values_of(self._net)
        self._places = self._way.reduced.places.to(survivors.device)
        sparse = any(isinstance(module, SparseConv2d) for module in self._net.modules())
        usual = _SPARSE_BATCH if sparse else _BATCH.get(images.device.type, 1000)
        self.batch_size = batch_size if batch_size is not None else usual
        self.images, self.labels = images, labels
        parameters = list(model.parameters())
        self._total = sum(parameter.numel() for parameter in parameters)
        self._survivors = survivors.nonzero().flatten()
        self._scale: Tensor | None = None
        if scaling == "parameter":
            weights = torch.cat([parameter.detach().double().flatten() for parameter in parameters])
            self._scale = weights.abs()[self._survivors]
        self.scaling = scaling
        self.space = "all" if masks is None else "surviving"  # which parameters H is taken over
        self.dimension = len(self._survivors)  # how many they are
        self.calls = 0  # products so far

    @property
    def device(self) -> torch.device:
        """Where the products are computed."""
        return self._survivors.device

    @property
    def rounding(self) -> float:
        """Relative rounding error of the dtype that products are computed in."""
        return max(torch.finfo(parameter.dtype).eps for parameter in self._parameters.values())

    def expand(self, vectors: Tensor) -> Tensor:
        """Vectors [..., dimension] as [..., P] over all parameters, with zeros where a mask removes."""
        full = vectors.new_zeros(*vectors.shape[:-1], self._total)
        full[..., self._survivors] = vectors
        return full

    @measuring(gradients=True)
    def __call__(self, vectors: Tensor) -> Tensor:
        """H v, float64, of one vector [dimension] or of each of several [b, dimension].

        Raises:
            AnalysisError: vectors of another shape; a product is NaN or infinite.
            Stopped: SIGTERM came (where `sharpminima.base.stop` catches it).
        """
        if not isinstance(vectors, Tensor) or vectors.dim() not in (1, 2) or vectors.shape[-1] != self.dimension:
            found = list(vectors.shape) if isinstance(vectors, Tensor) else f"a {type(vectors).__name__}"
            raise AnalysisError(f"vectors are {found}; give a tensor [{self.dimension}] or [b, {self.dimension}]")
        block = ordinary(vectors).to(self.device, torch.float64).reshape(-1, self.dimension)
        if not len(block):
            return block
        products = torch.cat([self._products(part) for part in block.split(TOGETHER)])
        self.calls += len(block)
        if not products.isfinite().all():
            raise AnalysisError("a Hessian-vector product holds NaN or infinity; check the weights and the images")
        return products.view(vectors.shape)

    def _products(self, vectors: Tensor) -> Tensor:
        """The products [b, dimension] of vectors that one pass serves [b, dimension]."""
        vectors = vectors if self._scale is None else vectors * self._scale
        flat = self.expand(vectors)[:, self._places]
        directions = split(flat, self._parameters)
        total = torch.zeros_like(flat, dtype=torch.float64)
        with differentiable_kernels(self._way.plain):
            for batch, target in zip(
                self.images.split(self.batch_size), self.labels.split(self.batch_size), strict=True
            ):
                if STOP.raised:
                    raise Stopped("stopped by SIGTERM in a Hessian-vector product; what was saved before is kept")
                total += self._batch_products(batch, target, directions)
        full = total.new_zeros(len(flat), self._total)
        full[:, self._places] = total / len(self.labels)
        products = full[:, self._survivors]
        return products if self._scale is None else products * self._scale

    def _batch_products(self, batch: Tensor, target: Tensor, directions: Parameters) -> Tensor:
        """Products of the Hessian of a batch's summed loss, float64 [b, parameters of the net]."""
        batch = batch.to(self._dtype).contiguous(memory_format=self._way.reduced.layout)

        def loss(parameters: Parameters) -> Tensor:
            return F.cross_entropy(functional_call(self._net, parameters, (batch,)), target, reduction="sum")

        several = len(next(iter(directions.values()))) > 1
        return (self._way.several if several else self._way.single)(loss, self._parameters, directions)


def _computed_in(model: nn.Module, images: Tensor, dtype: torch.dtype | None) -> torch.dtype | None:
    """What to compute in: at least float32, as coarser products converge to other numbers; None: the model's own.

    Raises:
        AnalysisError: a coarser one is asked for, or one that is not floating point.
    """
    if dtype is not None:
        if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
            raise AnalysisError(f"products cannot be computed in {dtype}; give a floating point dtype")
        if torch.finfo(dtype).bits < 32:
            raise AnalysisError(f"{dtype} is too coarse for products; give torch.float32 or torch.float64")
        return dtype
    held = [images.dtype, *(parameter.dtype for parameter in model.parameters())]
    return torch.float32 if any(torch.finfo(each).bits < 32 for each in held) else None


@measuring(gradients=True)
def hessian_eigenvalues(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    k: int = 5,
    masks: Mapping[str, Tensor] | None = None,
    tol: float = 1e-4,
    seed: int = 0,
    scaling: str | None = None,
    dtype: torch.dtype | None = None,
    batch_size: int | None = None,
    block_size: int | None = None,
    max_iterations: int = 500,
) -> HessianEigenvalues:
    """The ``k`` largest (algebraic) eigenvalues of the Hessian of the mean cross-entropy on ``images``.

    Eval mode, no penalties. Block Lanczos with full reorthogonalisation and thick restarts from a random start; every
    residual is then recomputed with a product of its own. Not converging is no error: read ``converged``.

    Args:
        model: a net with logits [N, classes]; it is not modified.
        images: normalised float images [N, C, H, W] on the model's device.
        labels: int64 class numbers [N] on the same device.
        k: eigenvalues wanted.
        masks: parameter name -> tensor of 0 and 1, of any dtype; then the Hessian over the surviving parameters only
            (mask on both sides). A parameter without a mask survives whole. None: all parameters.
        tol: largest residual of a converged vector, relative to the largest |eigenvalue| of the k.
        seed: the start; the same seed gives the same numbers.
        scaling: "parameter" for D H D with D = diag(|w|), whose eigenvalues do not depend on the scale of ReLU layers
            (see `HessianVectorProduct`); the eigenvectors are those of D H D. None for H.
        dtype: of the products, float32 or float64; None: the model's own, and float32 of a coarser one.
        batch_size: images a pass, which serves up to 4 vectors; memory grows with it (LeNet-5: 0.3 MB an image
            and vector). None: 125 on a CPU, 1000 on CUDA.
        block_size: vectors of a Lanczos block. None: 1 on a CPU (fewest products), 4 on CUDA (fewest passes).
        max_iterations: Lanczos steps at most, each of a block.

    Memory: max(40, 2 k + 20, k + 8 block_size) vectors of the space's dimension in float64, and a batch's graph.

    Raises:
        AnalysisError: k is not within 1 ... dimension or above max_iterations; tol is not positive; block_size is
            below 1; a scaling or a dtype that is not offered; weights or products are NaN or infinite; images,
            labels or masks of a wrong shape, type, range or device; masks that remove everything; a model that draws
            random numbers or mixes the images of a batch in eval mode, that has no second derivatives or depends on no
            parameter, that is compiled, quantised or wrapped, or fails.

    >>> net = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    >>> _ = [nn.init.zeros_(parameter) for parameter in net.parameters()]
    >>> found = hessian_eigenvalues(net, torch.ones(2, 1, 2, 2), torch.tensor([0, 1]), k=1)
    >>> round(float(found.eigenvalues[0]), 6)  # p (1 - p) of two classes, twice, times the five inputs of each
    2.5
    """
    check_whole(k=k, seed=seed, max_iterations=max_iterations, **given(block_size=block_size))
    check_number(tol=tol)
    product = HessianVectorProduct(
        model, images, labels, masks=masks, scaling=scaling, dtype=dtype, batch_size=batch_size
    )
    if not 1 <= k <= product.dimension:
        raise AnalysisError(f"k is {k}, but the Hessian has {product.dimension} eigenvalues; choose k among them")
    if max_iterations < k:
        raise AnalysisError(f"max_iterations is {max_iterations}; {k} eigenvalues take at least {k} steps")
    if not tol > 0:
        raise AnalysisError(f"tol is {tol}; give a positive one")
    block_size = block_size if block_size is not None else _BLOCK.get(product.device.type, 1)
    if block_size < 1:
        raise AnalysisError(f"block_size is {block_size}; give at least 1")
    rounding = 16 * product.rounding
    vectors, iterations, scale = largest_eigenpairs(
        product,
        product.dimension,
        k,
        block_size=block_size,
        tol=tol / 2,  # of the estimate, so that the residual measured afterwards holds despite rounding
        max_iterations=max_iterations,
        rounding=rounding,
        generator=generator(seed, "hessian"),
        device=product.device,
    )
    vectors = vectors / vectors.norm(dim=1, keepdim=True)
    largest = vectors.gather(1, vectors.abs().argmax(dim=1, keepdim=True))
    vectors = vectors * largest.sign()
    products = product(vectors)
    eigenvalues = (vectors * products).sum(dim=1)
    residuals = (products - eigenvalues[:, None] * vectors).norm(dim=1)
    bound = max(tol * float(eigenvalues.abs().max()), rounding * scale)
    order = eigenvalues.argsort(descending=True, stable=True)
    return HessianEigenvalues(
        eigenvalues=eigenvalues[order].cpu(),
        eigenvectors=product.expand(vectors[order]).cpu(),
        residuals=residuals[order].cpu(),
        converged=(residuals[order] <= bound).cpu(),
        iterations=iterations,
        hvps=product.calls,
        space=product.space,
        dimension=product.dimension,
        scaling=scaling,
        block_size=block_size,
    )
