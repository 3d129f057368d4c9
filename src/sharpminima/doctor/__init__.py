"""What a machine lacks for the pipeline, each with its cure."""

from sharpminima.doctor._checkout import examine_checkout
from sharpminima.doctor._finding import Finding, describe
from sharpminima.doctor._machine import examine_machine

__all__ = ["Finding", "describe", "examine_checkout", "examine_machine"]
