"""What is measured of a trained net: PSP-entropy, the Hessian's spectrum, the loss surface and barrier."""

from sharpminima.analysis.entropy import (
    DEFINITIONS,
    LayerStatistics,
    PspEntropy,
    PspStatistics,
    psp_entropy,
    psp_statistics,
)
from sharpminima.analysis.hessian import HessianEigenvalues, HessianVectorProduct, hessian_eigenvalues
from sharpminima.analysis.line import LineEigenvalues, LossBarrier, hessian_along_line, loss_barrier
from sharpminima.analysis.preactivations import capture_preactivations, preactivations
from sharpminima.analysis.spectrum import HessianDensity, HessianTrace, hessian_density, hessian_trace
from sharpminima.analysis.surface import MEASURES, LossSurface, Plane, loss_surface

__all__ = [
    "DEFINITIONS",
    "MEASURES",
    "HessianDensity",
    "HessianEigenvalues",
    "HessianTrace",
    "HessianVectorProduct",
    "LayerStatistics",
    "LineEigenvalues",
    "LossBarrier",
    "LossSurface",
    "Plane",
    "PspEntropy",
    "PspStatistics",
    "capture_preactivations",
    "hessian_along_line",
    "hessian_density",
    "hessian_eigenvalues",
    "hessian_trace",
    "loss_barrier",
    "loss_surface",
    "preactivations",
    "psp_entropy",
    "psp_statistics",
]
