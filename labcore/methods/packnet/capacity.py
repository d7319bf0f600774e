"""How many tasks PackNet has room for: whole weights, counted before anything starts. No torch here."""

MOST_OWNERS = 254  # an owner is a byte, and 0 is free: as many tasks as a configuration may have


def freed_of(weights: int, ratio: float) -> int:
    """How many of a layer's `weights` pruning sets free: the share `ratio`, rounded down, but never all of them."""
    return min(int(weights * ratio), max(0, weights - 1))


def tasks_that_fit(weights: int, ratio: float, most: int = MOST_OWNERS) -> int:
    """How many tasks in a row find a free weight in a layer of `weights` weights.

    Each task takes all that are free, and sets the share `ratio` of them free again. The count ends at `most`.
    """
    tasks = 0
    while weights and tasks < most:
        tasks, weights = tasks + 1, freed_of(weights, ratio)
    return tasks


def smallest_ratio(weights: int, tasks: int) -> float | None:
    """The smallest whole hundredth that is a ratio at which so many tasks fit; None where there is none."""
    hundredths = (part / 100 for part in range(1, 100))
    return next((ratio for ratio in hundredths if tasks_that_fit(weights, ratio) >= tasks), None)
