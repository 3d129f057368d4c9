"""What strategies are called in tables, figures and texts."""

from sharpminima.base.names import DENSE, GRADUAL
from sharpminima.catalogue.methods import METHODS
from sharpminima.catalogue.strategies import STRATEGIES


def title_of(strategy: str, method: str) -> str:
    """Title of a strategy; ``gradual`` is the method's own states, whatever its kind."""
    if strategy == GRADUAL:
        chosen = METHODS.get(method)
        return f"gradual ({method}, G)" if chosen is None or chosen.kind == "gradual" else f"the method ({method})"
    return "dense" if strategy == DENSE else STRATEGIES[strategy].title
