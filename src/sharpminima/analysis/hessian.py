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
    check_finite_weights,
    check_images,
    count_labels,
    count_outputs,
    eval_mode,
    surviving,
)
from sharpminima.analysis._lanczos import largest_eigenpairs
from sharpminima.errors import AnalysisError
from sharpminima.rng import generator


@dataclass(frozen=True, eq=False)
class HessianEigenvalues:
    """The k largest (algebraic) eigenvalues of a Hessian; P parameters, ordered as ``named_parameters``."""

    eigenvalues: Tensor  # float64 [k], largest first; Rayleigh quotients of the eigenvectors
    eigenvectors: Tensor  # float64 [k, P], unit norm, largest entry positive; 0 where a mask removes
    residuals: Tensor  # float64 [k]; ||H v - lambda v||, from a product of its own for each vector
    converged: Tensor  # bool [k]; residual <= tol * largest |eigenvalue| of the k (or at rounding level)
    iterations: int  # Lanczos steps
    hvps: int  # Hessian-vector products, those of the residuals included
    space: str  # "all" parameters or the "surviving" ones
    dimension: int  # parameters in that space


class HessianVectorProduct:
    """The Hessian H of the mean cross-entropy as an operator: v -> H v, exact, by double backward.

    Eval mode (each module's mode is restored), without penalties. With masks it is the Hessian over the
    surviving parameters only: the rows and columns of the removed ones are left out. The weights that the
    model holds when the operator is built are those that it keeps; the model is not modified.

    >>> net = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    >>> product = HessianVectorProduct(net, torch.ones(3, 1, 2, 2), torch.tensor([0, 1, 1]))
    >>> product(torch.ones(product.dimension)).abs().max() < 1e-6  # equal logits for all: softmax stays
    tensor(True)
    """

    def __init__(
        self,
        model: nn.Module,
        images: Tensor,
        labels: Tensor,
        *,
        masks: Mapping[str, Tensor] | None = None,
        batch_size: int = 500,
    ) -> None:
        """Check the arguments, which are those of `hessian_eigenvalues`.

        Raises:
            AnalysisError: as `hessian_eigenvalues` says.
        """
        check_images(images, labels, batch_size)
        check_finite_weights(model)
        count_labels(labels, count_outputs(model, images))
        self.model, self.images, self.labels, self.batch_size = model, images, labels, batch_size
        self._parameters = {
            name: parameter.detach().clone().requires_grad_() for name, parameter in model.named_parameters()
        }
        self._survivors = surviving(model, masks).nonzero().flatten()
        self._total = sum(parameter.numel() for parameter in self._parameters.values())
        self.space = "all" if masks is None else "surviving"  # which parameters H is taken over
        self.dimension = len(self._survivors)  # how many they are
        self.calls = 0  # products so far

    @property
    def device(self) -> torch.device:
        """Where the products are computed."""
        return self._survivors.device

    @property
    def rounding(self) -> float:
        """Relative rounding error of the parameters' dtype."""
        return max(torch.finfo(parameter.dtype).eps for parameter in self._parameters.values())

    def expand(self, vectors: Tensor) -> Tensor:
        """Vectors [..., dimension] as [..., P] over all parameters, with zeros where a mask removes."""
        full = vectors.new_zeros(*vectors.shape[:-1], self._total)
        full[..., self._survivors] = vectors
        return full

    def __call__(self, vector: Tensor) -> Tensor:
        """H v, float64 [dimension], of ``v`` [dimension]; batches are summed in float64."""
        tensors = tuple(self._parameters.values())
        flat = self.expand(vector.to(self.device))
        direction = [
            part.view_as(parameter).to(parameter.dtype)
            for part, parameter in zip(flat.split([p.numel() for p in tensors]), tensors, strict=True)
        ]
        total = torch.zeros(self._total, dtype=torch.float64, device=self.device)
        batches = zip(self.images.split(self.batch_size), self.labels.split(self.batch_size), strict=True)
        with eval_mode(self.model), torch.enable_grad():
            for batch, target in batches:
                logits = functional_call(self.model, self._parameters, (batch,))
                loss = F.cross_entropy(logits, target, reduction="sum")
                gradients = torch.autograd.grad(loss, tensors, create_graph=True, materialize_grads=True)
                slope = sum((g * d).sum() for g, d in zip(gradients, direction, strict=True))
                product = torch.autograd.grad(slope, tensors, materialize_grads=True)
                total += torch.cat([part.flatten().double() for part in product])
        self.calls += 1
        return total[self._survivors] / len(self.labels)


def hessian_eigenvalues(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    k: int = 5,
    masks: Mapping[str, Tensor] | None = None,
    tol: float = 1e-4,
    seed: int = 0,
    batch_size: int = 500,
    max_iterations: int = 500,
) -> HessianEigenvalues:
    """The ``k`` largest (algebraic) eigenvalues of the Hessian of the mean cross-entropy on ``images``.

    Eval mode, no penalties. Lanczos with full reorthogonalisation from a random start; every residual is then
    recomputed with a product of its own. Not converging is no error: read ``converged``.

    Args:
        model: a net with logits [N, classes]; it is not modified.
        images: normalised float images [N, C, H, W] on the model's device.
        labels: int64 class numbers [N] on the same device.
        k: eigenvalues wanted.
        masks: parameter name -> tensor of 0 and 1; then the Hessian over the surviving parameters only (mask
            on both sides). A parameter without a mask survives whole. None: all parameters.
        tol: largest residual of a converged vector, relative to the largest |eigenvalue| of the k.
        seed: the start; the same seed gives the same numbers.
        batch_size: images a backward pass; memory grows with it (LeNet-5: 0.4 MB an image).
        max_iterations: Lanczos steps at most.

    Memory: max(40, 2 k + 20) vectors of the space's dimension in float64, and a batch's graph.

    Raises:
        AnalysisError: k is not within 1 ... dimension or above max_iterations; tol is not positive; weights
            or products are NaN or infinite; images, labels or masks of a wrong shape, type or range.
    """
    product = HessianVectorProduct(model, images, labels, masks=masks, batch_size=batch_size)
    if not 1 <= k <= product.dimension:
        raise AnalysisError(f"k is {k}, but the Hessian has {product.dimension} eigenvalues; choose k among them")
    if max_iterations < k:
        raise AnalysisError(f"max_iterations is {max_iterations}; {k} eigenvalues take at least {k} steps")
    if not tol > 0:
        raise AnalysisError(f"tol is {tol}; give a positive one")
    rounding = 16 * product.rounding
    vectors, iterations, scale = largest_eigenpairs(
        product,
        product.dimension,
        k,
        tol=tol / 2,  # of the estimate, so that the residual measured afterwards holds despite rounding
        max_iterations=max_iterations,
        rounding=rounding,
        generator=generator(seed, "hessian"),
        device=product.device,
    )
    vectors = vectors / vectors.norm(dim=1, keepdim=True)
    largest = vectors.gather(1, vectors.abs().argmax(dim=1, keepdim=True))
    vectors = vectors * largest.sign()
    products = torch.stack([product(vector) for vector in vectors])
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
    )
