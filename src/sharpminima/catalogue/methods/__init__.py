"""The pruning methods by name: settings, paper, kind, and where their code is."""

from sharpminima.catalogue.methods.dynamic import DYNAMIC
from sharpminima.catalogue.methods.gradual import AGP, LOBSTER
from sharpminima.catalogue.methods.iterative import ITERATIVE
from sharpminima.catalogue.methods.mask_learning import MASK_LEARNING, SHIFT_ATTENTION
from sharpminima.catalogue.methods.method import Method, MethodSettings
from sharpminima.catalogue.methods.path import DESSILBI
from sharpminima.catalogue.methods.penalty import (
    GLOBAL_SPARSE_MOMENTUM,
    GROUP_LASSO,
    JOINT_SPARSITY,
    L1,
    L_HALF,
    LEARNING_COMPRESSION,
    SENSITIVITY,
    SERENE,
    SLIMMING,
    SOFT_WEIGHT_SHARING,
    SWD,
    VACL,
    WEIGHT_ELIMINATION,
)
from sharpminima.catalogue.methods.scored import OBS, SCORED
from sharpminima.catalogue.methods.structured import (
    AMC,
    ATTENTION_CHANNELS,
    DCP,
    LAYER_BY_LAYER,
    LEARNED_AGENTS,
    SKELETONIZATION,
    STRUCTURED,
    STRUCTURES,
)
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
        *(LEARNING_COMPRESSION, GLOBAL_SPARSE_MOMENTUM, L_HALF, JOINT_SPARSITY, WEIGHT_ELIMINATION),
        *(OBS, SOFT_WEIGHT_SHARING),
        *LAYER_BY_LAYER,
        *(SKELETONIZATION, ATTENTION_CHANNELS, VACL, DCP),
        *STRUCTURES,
        *(SHIFT_ATTENTION, LEARNED_AGENTS, AMC),
    ),
)
"""Name -> method."""

__all__ = ["METHODS", "Method", "MethodSettings"]
