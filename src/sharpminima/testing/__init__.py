"""What the tests demand of every entry, as functions that raise `CheckFailed`, for authors of others."""

from sharpminima.testing._checks import CheckFailed
from sharpminima.testing.datasets import check_dataset
from sharpminima.testing.methods import check_method
from sharpminima.testing.models import check_model

__all__ = ["CheckFailed", "check_dataset", "check_method", "check_model"]
