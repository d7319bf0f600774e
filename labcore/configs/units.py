"""How amounts are written, on pages and in sentences alike."""


def size(count: float) -> str:
    """Bytes in two figures or three: `310 MB`, `4.2 kB`; of a difference, with its sign."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if abs(count) >= scale:
            return f"{count / scale:.1f} {unit}" if abs(count) < 10 * scale else f"{count / scale:.0f} {unit}"
    return f"{count:.0f} B"


def seconds(value: float) -> str:
    """Two figures: `4.2 s`, `42 s`, `3.5 min`."""
    if value < 9.95:
        return f"{value:.1f} s"
    if value < 100:
        return f"{value:.0f} s"
    return f"{value / 60:.1f} min" if value < 6000 else f"{value / 3600:.1f} h"


def seconds_between(low: float, high: float) -> str:
    """`3.0 to 4.5 min`, `50 s to 1.2 min`: the unit once, where it is the same."""
    least, most = seconds(low), seconds(high)
    unit = most[most.index(" ") :]
    return f"{least.removesuffix(unit)} to {most}"


def left(value: float) -> str:
    """`≈ 42 s left, estimated`; of less than a second, as when all is learnt and the rest measured, `almost done`."""
    return f"≈ {seconds(value)} left, estimated" if value >= 1 else "almost done"


def whole(text: str | None, low: int, high: int) -> int | None:
    """The number that a text is, from `low` to `high`, written as the lab writes it; None for anything else."""
    return {str(number): number for number in range(low, high + 1)}.get(text or "")


_NUMBERS = ["no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"]


def in_words(count: int) -> str:
    """A small count as a sentence has it: `eight`; digits from 13 on."""
    return _NUMBERS[count] if count < len(_NUMBERS) else str(count)


def setting_name(path: str) -> str:
    """A setting's dotted path in words: `head learning rate` of `training.head_learning_rate`."""
    return path.split(".")[-1].replace("_", " ")


def plain(value: object) -> str:
    """A setting's value as a person writes it: `1 000 000` (with narrow spaces), `0.0005`, `on`, `frozen`."""
    if isinstance(value, bool):
        return "on" if value else "off"
    if not isinstance(value, int | float):
        return str(value)
    whole = value == round(value) and 1e4 <= abs(value) < 1e12
    return f"{value:,.0f}".replace(",", "\u202f") if whole else f"{value:g}"


def count_of(count: float, word: str) -> str:
    """`1 run`, `20 runs`, `0.5 minutes`."""
    return f"{plain(count)} {word}{'s' * (count != 1)}"


def percent(share: float | None) -> str:
    """`60.0 %` of a fraction of 1."""
    return "–" if share is None else f"{100 * share:.1f} %"
