"""How many parameters survive each round of pruning, on the way to the number asked for."""


def survivor_counts(schedule: str, size: int, final: int, rounds: int) -> list[int]:
    """Survivors after each round, the last of which leaves ``final`` of ``size``.

    Args:
        schedule: a name of `sharpminima.catalogue.methods.choices.SCHEDULES`.

    >>> survivor_counts("iterative", 1000, 1, 3)
    [100, 10, 1]
    >>> survivor_counts("cubic", 1000, 200, 2)
    [300, 200]
    """
    if schedule == "one-shot":
        return [final]
    if schedule == "iterative":
        counts = [round(size * (final / size) ** (number / rounds)) for number in range(1, rounds)]
    else:
        counts = [round(final + (size - final) * (1 - number / rounds) ** 3) for number in range(1, rounds)]
    return [*counts, final]
