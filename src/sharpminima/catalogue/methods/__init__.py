"""The pruning methods by name: settings, paper, kind, and where their code is."""

from sharpminima.catalogue.methods.dynamic import DYNAMIC
from sharpminima.catalogue.methods.gradual import AGP, LOBSTER
from sharpminima.catalogue.methods.iterative import ITERATIVE
from sharpminima.catalogue.methods.mask_learning import MASK_LEARNING
from sharpminima.catalogue.methods.method import Method, MethodSettings
from sharpminima.catalogue.methods.path import DESSILBI
from sharpminima.catalogue.methods.penalty import GROUP_LASSO, L1, SENSITIVITY, SERENE, SLIMMING, SWD
from sharpminima.catalogue.methods.scored import SCORED
from sharpminima.catalogue.methods.structured import STRUCTURED
from sharpminima.catalogue.registry import Registry

METHODS = Registry(
    "method",
    (
        LOBSTER,
        *SCORED,
        *ITERATIVE,
        AGP,
        *DYNAMIC,
        *(L1, GROUP_LASSO, SLIMMING, SWD),
        DESSILBI,
        *(SENSITIVITY, SERENE),
        *MASK_LEARNING,
        *STRUCTURED,
    ),
)
"""Name -> method."""

__all__ = ["METHODS", "Method", "MethodSettings"]
