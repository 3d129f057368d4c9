"""What is measured of a trained net: PSP-entropy, the Hessian's spectrum, the loss surface and barrier."""

from sharpminima.analysis.hessian.diagonal import HessianDiagonal, hessian_diagonal
from sharpminima.analysis.hessian.eigenvalues import WHICH, HessianEigenvalues, hessian_eigenvalues
from sharpminima.analysis.hessian.operators import (
    MATRICES,
    CurvatureProduct,
    FisherVectorProduct,
    GaussNewtonVectorProduct,
    HessianVectorProduct,
)
from sharpminima.analysis.hessian.spectrum import HessianDensity, HessianTrace, hessian_density, hessian_trace
from sharpminima.analysis.plane._grid import LossSurface
from sharpminima.analysis.plane._meter import MEASURES
from sharpminima.analysis.plane._plane import BATCH_NORMS, Plane
from sharpminima.analysis.plane.line import LineEigenvalues, LossBarrier, hessian_along_line, loss_barrier
from sharpminima.analysis.plane.surface import DIRECTIONS, loss_surface, loss_surface_around
from sharpminima.analysis.psp._collect import LayerStatistics
from sharpminima.analysis.psp.entropy import (
    DEFINITIONS,
    PspEntropy,
    PspStatistics,
    psp_statistics,
)
from sharpminima.analysis.psp.measure import psp_entropy
from sharpminima.analysis.psp.metric import PspEntropyMetric
from sharpminima.analysis.psp.preactivations import preactivations
from sharpminima.nets.preactivations import capture_preactivations

__all__ = [
    "BATCH_NORMS",
    "DEFINITIONS",
    "DIRECTIONS",
    "MATRICES",
    "MEASURES",
    "WHICH",
    "CurvatureProduct",
    "FisherVectorProduct",
    "GaussNewtonVectorProduct",
    "HessianDensity",
    "HessianDiagonal",
    "HessianEigenvalues",
    "HessianTrace",
    "HessianVectorProduct",
    "LayerStatistics",
    "LineEigenvalues",
    "LossBarrier",
    "LossSurface",
    "Plane",
    "PspEntropy",
    "PspEntropyMetric",
    "PspStatistics",
    "capture_preactivations",
    "hessian_along_line",
    "hessian_density",
    "hessian_diagonal",
    "hessian_eigenvalues",
    "hessian_trace",
    "loss_barrier",
    "loss_surface",
    "loss_surface_around",
    "preactivations",
    "psp_entropy",
    "psp_statistics",
]
