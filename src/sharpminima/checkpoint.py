"""Reading and writing of checkpoints; the public face of `sharpminima.nets.checkpoint`."""

from sharpminima.nets.checkpoint import load_checkpoint, save_checkpoint

__all__ = ["load_checkpoint", "save_checkpoint"]
