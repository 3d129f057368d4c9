"""What is measured of a trained net: PSP-entropy, the Hessian's spectrum, the loss surface and barrier."""

from sharpminima.analysis.hessian.eigenvalues import HessianEigenvalues, HessianVectorProduct, hessian_eigenvalues
from sharpminima.analysis.hessian.spectrum import HessianDensity, HessianTrace, hessian_density, hessian_trace
from sharpminima.analysis.plane.line import LineEigenvalues, LossBarrier, hessian_along_line, loss_barrier
from sharpminima.analysis.plane.surface import MEASURES, LossSurface, Plane, loss_surface
from sharpminima.analysis.psp.entropy import (
    DEFINITIONS,
    LayerStatistics,
    PspEntropy,
    PspStatistics,
    psp_entropy,
    psp_statistics,
)
from sharpminima.analysis.psp.preactivations import capture_preactivations, preactivations

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
