"""BatchNorm, an addition and ReLU as one operation, max-pooling and ReLU likewise: for bfloat16 on a CPU."""

from sharpminima.nets.fused.graph import fused
from sharpminima.nets.fused.normalise import normalised, normalised_twice
from sharpminima.nets.fused.pool import pooled

__all__ = ["fused", "normalised", "normalised_twice", "pooled"]
