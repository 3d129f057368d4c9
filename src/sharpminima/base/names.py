"""Names that stand in paths, tables and figures: of files, of strategies, of levels."""

CHECKPOINT = "checkpoint.safetensors"
HISTORY = "history.csv"
EVENTS = "events.json"
CELL = "level-{level}/{strategy}/seed-{seed}"  # under a method's folder
RUN = "run/seed-{seed}"  # there too
GRADUAL = "gradual"  # the strategy name of a method's own states
DENSE = "dense"
REWIND = "rewind"  # the strategy whose nets are 1-S


def aside(file: str) -> str:
    """The name that a file of a cell has while the cell is made again; one that DVC passes over.

    >>> aside(HISTORY)
    '.history.csv.before.part'
    """
    return f".{file}.before.part"


FINEST_LEVEL = 1e-6
"""The smallest level, the largest's distance from 1, and the smallest between two: four decimals of a percentage."""


def level_name(level: float) -> str:
    """A level as it stands in paths: 0.9957 is ``99.57`` (percent)."""
    return f"{100 * level:.6g}"


def checked_level(level: float) -> float:
    """The level, if its name in paths is that of no other.

    Raises:
        ValueError: it is not, or it removes nothing or everything.

    >>> checked_level(0.9000001)
    Traceback (most recent call last):
    ValueError: level 0.9000001 would lie in a folder of the name of 0.9; round it to 0.9
    """
    if not FINEST_LEVEL <= level <= 1 - FINEST_LEVEL:
        raise ValueError(f"level {level:.9g} given; from {FINEST_LEVEL:.6f} to {1 - FINEST_LEVEL:.6f} is allowed")
    named = float(level_name(level)) / 100
    if abs(named - level) > FINEST_LEVEL / 1e3:
        raise ValueError(f"level {level:.9g} would lie in a folder of the name of {named:.9g}; round it to {named:.9g}")
    return level
