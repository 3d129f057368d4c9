"""A study to look through: one HTML file of charts that turn, filter and answer to the pointer; needs no network."""

from sharpminima.explore.document import write_page

__all__ = ["write_page"]
