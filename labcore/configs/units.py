"""How amounts are written, on pages and in sentences alike."""


def size(count: float) -> str:
    """A number of bytes in two figures or three: `310 MB`, `4.2 kB`. A negative one keeps its sign."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if abs(count) >= scale:
            return f"{count / scale:.1f} {unit}" if abs(count) < 10 * scale else f"{count / scale:.0f} {unit}"
    return f"{count:.0f} B"


def seconds(value: float) -> str:
    """A time in two figures: `4.2 s`, `42 s`, `3.5 min`."""
    if value < 9.95:
        return f"{value:.1f} s"
    if value < 100:
        return f"{value:.0f} s"
    return f"{value / 60:.1f} min" if value < 6000 else f"{value / 3600:.1f} h"


def seconds_between(low: float, high: float) -> str:
    """A range of times: `3.0 to 4.5 min`, `50 s to 1.2 min`. The unit stands once where it is the same."""
    least, most = seconds(low), seconds(high)
    unit = most[most.index(" ") :]
    return f"{least.removesuffix(unit)} to {most}"


def left(value: float) -> str:
    """How long a run has left: `≈ 42 s left, estimated`, or `almost done` where it is less than a second."""
    return f"≈ {seconds(value)} left, estimated" if value >= 1 else "almost done"


def whole(text: str | None, low: int, high: int) -> int | None:
    """The whole number from `low` to `high` that a text spells as the lab spells it; None for any other text."""
    return {str(number): number for number in range(low, high + 1)}.get(text or "")


_NUMBERS = ["no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"]


def in_words(count: int) -> str:
    """A count as a sentence has it: `eight`; in digits from 13 on."""
    return _NUMBERS[count] if count < len(_NUMBERS) else str(count)


def setting_name(path: str) -> str:
    """A setting's dotted path in words: `head learning rate` for `training.head_learning_rate`."""
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
    """A count and its word: `1 run`, `20 runs`, `0.5 minutes`."""
    return f"{plain(count)} {word}{'s' * (count != 1)}"


def percent(share: float | None) -> str:
    """A fraction of 1 in per cent: `60.0 %`."""
    return "–" if share is None else f"{100 * share:.1f} %"
