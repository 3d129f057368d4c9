"""The methods that still wait for a study: as docs/methods.md says."""

import re
from pathlib import Path

from sharpminima.catalogue.methods import METHODS


def _awaited(beginning: str) -> set[str]:
    """The methods that the page's sentence of this beginning names after its colon."""
    text = Path("docs/methods.md").read_text("utf-8")
    (sentence,) = re.findall(rf"^{re.escape(beginning)}, .*?:\n?(.*?)\.$", text, re.MULTILINE | re.DOTALL)
    awaited = set(re.findall(r"`(\w+)`", sentence))
    assert awaited <= set(METHODS)
    return awaited


def methods_on_mnist() -> set[str]:
    """All methods but those that the study `methods-mnist` still has to get."""
    return set(METHODS) - _awaited("Not yet in the study `methods-mnist`")
