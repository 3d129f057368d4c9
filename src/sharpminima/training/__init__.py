"""Training: one loop, policies for what differs."""

from sharpminima.training.engine import HISTORY_COLUMNS, train, train_replicas
from sharpminima.training.flat import FlatModel, Sgd
from sharpminima.training.policy import Best, Policy, RecipePolicy
from sharpminima.training.replicas import FlatReplicas

__all__ = [
    "HISTORY_COLUMNS",
    "Best",
    "FlatModel",
    "FlatReplicas",
    "Policy",
    "RecipePolicy",
    "Sgd",
    "train",
    "train_replicas",
]
