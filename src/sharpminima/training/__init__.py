"""Training: one loop, policies for what differs."""

from sharpminima.training.engine import HISTORY_COLUMNS, train, train_replicas
from sharpminima.training.entropy import PspEntropy
from sharpminima.training.flat import FlatModel
from sharpminima.training.optimiser import Group, Optimiser
from sharpminima.training.policy import Best, Policy, RecipePolicy, falling_cosine
from sharpminima.training.replicas import FlatReplicas

__all__ = [
    "HISTORY_COLUMNS",
    "Best",
    "FlatModel",
    "FlatReplicas",
    "Group",
    "Optimiser",
    "Policy",
    "PspEntropy",
    "RecipePolicy",
    "falling_cosine",
    "train",
    "train_replicas",
]
