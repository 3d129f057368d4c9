"""Names that stand in paths, tables and figures: of files, of strategies, of levels."""

CHECKPOINT = "checkpoint.safetensors"
HISTORY = "history.csv"
EVENTS = "events.json"
CELL = "level-{level}/{strategy}/seed-{seed}"  # under a method's folder
RUN = "run/seed-{seed}"  # there too
GRADUAL = "gradual"  # the strategy name of a method's own states
DENSE = "dense"
REWIND = "rewind"  # the strategy whose nets are 1-S


def level_name(level: float) -> str:
    """A level as it stands in paths: 0.9957 is ``99.57`` (percent)."""
    return f"{100 * level:.6g}"
