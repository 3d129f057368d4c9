"""Training: one loop, policies for what differs, resume files."""

from sharpminima.training.engine import HISTORY_COLUMNS, train, train_replicas
from sharpminima.training.flat import FlatModel, Sgd
from sharpminima.training.policy import Best, Policy, RecipePolicy
from sharpminima.training.replicas import FlatReplicas
from sharpminima.training.resume import ResumeFile

__all__ = [
    "HISTORY_COLUMNS",
    "Best",
    "FlatModel",
    "FlatReplicas",
    "Policy",
    "RecipePolicy",
    "ResumeFile",
    "Sgd",
    "train",
    "train_replicas",
]
