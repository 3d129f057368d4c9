"""How a check fails."""


class CheckFailed(AssertionError):
    """An entry does not keep what its kind promises; the message names the entry, the promise, and what was found."""


def demand(condition: bool, fault: str) -> None:
    """Raise unless the condition holds.

    Raises:
        CheckFailed: with ``fault`` as its message.
    """
    if not condition:
        raise CheckFailed(fault)
