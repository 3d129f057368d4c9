"""sharpminima: does gradual pruning find sharp minima that still generalise?

Reproduces Tartaglione, Bragagnolo and Grangetto, "Pruning artificial neural networks: a way to find
well-generalizing, high-entropy sharp minima" (ICANN 2020), and offers its comparison to other methods.

The names below are loaded when they are first used, so that ``import sharpminima`` itself takes no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    # An alias offers a name to type checkers; sorted, each would be an import of its own.
    # isort: off
    from sharpminima.analysis import (
        FisherVectorProduct as FisherVectorProduct,
        GaussNewtonVectorProduct as GaussNewtonVectorProduct,
        HessianDensity as HessianDensity,
        HessianDiagonal as HessianDiagonal,
        HessianEigenvalues as HessianEigenvalues,
        HessianTrace as HessianTrace,
        HessianVectorProduct as HessianVectorProduct,
        LineEigenvalues as LineEigenvalues,
        LossBarrier as LossBarrier,
        LossSurface as LossSurface,
        PspEntropy as PspEntropy,
        PspStatistics as PspStatistics,
        hessian_along_line as hessian_along_line,
        hessian_density as hessian_density,
        hessian_diagonal as hessian_diagonal,
        hessian_eigenvalues as hessian_eigenvalues,
        hessian_trace as hessian_trace,
        loss_barrier as loss_barrier,
        loss_surface as loss_surface,
        psp_entropy as psp_entropy,
        psp_statistics as psp_statistics,
    )
    from sharpminima.nets.checkpoint import (
        Checkpoint as Checkpoint,
        load_checkpoint as load_checkpoint,
        save_checkpoint as save_checkpoint,
    )
    from sharpminima.data import (
        DATASETS as DATASETS,
        load_prepared as load_prepared,
        prepare_dataset as prepare_dataset,
    )
    from sharpminima.base.errors import SharpminimaError as SharpminimaError
    from sharpminima.nets.models import MODELS as MODELS, build_model as build_model
    from sharpminima.pruning import METHODS as METHODS, STRATEGIES as STRATEGIES

__version__ = "0.1.0"

_NAMES = {
    "sharpminima.analysis": (
        "FisherVectorProduct",
        "GaussNewtonVectorProduct",
        "HessianDensity",
        "HessianDiagonal",
        "HessianEigenvalues",
        "HessianTrace",
        "HessianVectorProduct",
        "LineEigenvalues",
        "LossBarrier",
        "LossSurface",
        "PspEntropy",
        "PspStatistics",
        "hessian_along_line",
        "hessian_density",
        "hessian_diagonal",
        "hessian_eigenvalues",
        "hessian_trace",
        "loss_barrier",
        "loss_surface",
        "psp_entropy",
        "psp_statistics",
    ),
    "sharpminima.nets.checkpoint": ("Checkpoint", "load_checkpoint", "save_checkpoint"),
    "sharpminima.data": ("DATASETS", "load_prepared", "prepare_dataset"),
    "sharpminima.base.errors": ("SharpminimaError",),
    "sharpminima.nets.models": ("MODELS", "build_model"),
    "sharpminima.pruning": ("METHODS", "STRATEGIES"),
}
"""Module -> the names that the top level takes from it; type checkers read them above."""
_HOME = {name: module for module, names in _NAMES.items() for name in names}

__all__ = sorted([*_HOME, "__version__"])


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_HOME[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
