"""What is measured of a trained net: PSP-entropy, the Hessian's largest eigenvalues, the loss surface."""

from sharpminima.analysis.entropy import (
    DEFINITIONS,
    LayerStatistics,
    PspEntropy,
    PspStatistics,
    psp_entropy,
    psp_statistics,
)
from sharpminima.analysis.hessian import HessianEigenvalues, HessianVectorProduct, hessian_eigenvalues
from sharpminima.analysis.preactivations import capture_preactivations, preactivations
from sharpminima.analysis.surface import MEASURES, LossSurface, Plane, loss_surface

__all__ = [
    "DEFINITIONS",
    "MEASURES",
    "HessianEigenvalues",
    "HessianVectorProduct",
    "LayerStatistics",
    "LossSurface",
    "Plane",
    "PspEntropy",
    "PspStatistics",
    "capture_preactivations",
    "hessian_eigenvalues",
    "loss_surface",
    "preactivations",
    "psp_entropy",
    "psp_statistics",
]
