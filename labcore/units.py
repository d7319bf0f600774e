"""How amounts are written, on pages and in sentences alike."""


def size(count: float) -> str:
    """Bytes in two figures or three: `310 MB`, `4.2 kB`; of a difference, with its sign."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if abs(count) >= scale:
            return f"{count / scale:.1f} {unit}" if abs(count) < 10 * scale else f"{count / scale:.0f} {unit}"
    return f"{count:.0f} B"
