"""How many tasks PackNet has room for: whole weights, counted before anything starts. No torch here."""

MOST_OWNERS = 254  # an owner is a byte, and 0 is free: as many tasks as a configuration may have


def freed_of(weights: int, ratio: float) -> int:
    """How many of a layer's `weights` pruning sets free: the `ratio` share, rounded down; at least one is kept."""
    return min(int(weights * ratio), max(0, weights - 1))


def tasks_that_fit(weights: int, ratio: float, most: int = MOST_OWNERS) -> int:
    """How many tasks in a row find a free weight in a layer of so many, if each sets `ratio` of what it took free."""
    tasks = 0
    while weights and tasks < most:
        tasks, weights = tasks + 1, freed_of(weights, ratio)
    return tasks


def smallest_ratio(weights: int, tasks: int) -> float | None:
    """The smallest ratio, in hundredths, at which so many tasks fit; None where none does."""
    hundredths = (part / 100 for part in range(1, 100))
    return next((ratio for ratio in hundredths if tasks_that_fit(weights, ratio) >= tasks), None)
