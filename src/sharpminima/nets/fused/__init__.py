"""BatchNorm, an addition and ReLU as one operation, for training in bfloat16 on a CPU."""

from sharpminima.nets.fused.graph import fused
from sharpminima.nets.fused.normalise import normalised, normalised_twice

__all__ = ["fused", "normalised", "normalised_twice"]
