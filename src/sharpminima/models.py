"""The nets, by name; the public face of `sharpminima.nets.models`."""

from sharpminima.nets.models import MODELS, build_model

__all__ = ["MODELS", "build_model"]
