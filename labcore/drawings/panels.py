"""How panels lie beside each other in one chart: in a grid of small multiples, or as columns that share their lines."""

from collections.abc import Sequence
from dataclasses import dataclass

from labcore.drawings.charts import Chart
from labcore.drawings.figures import GREY

PANELS_A_ROW = 4


def panel_rows(count: int) -> int:
    """How many rows so many panels take."""
    return max(1, -(-count // PANELS_A_ROW))


def axis_suffix(number: int) -> str:
    """What Plotly puts behind `x` and `y` for the panel of this number, counted from 0."""
    return "" if number == 0 else str(number + 1)


# How many letters fit above a panel, and beside the lines of groups, on a projector, too.
_LETTERS_ABOVE, _LETTERS_BESIDE = 30, 26


def folded(name: str, letters: int) -> str:
    """A long name on two lines, broken after the comma that is nearest to its middle, or at a space if it has none."""
    breaks = [i + 1 for i, letter in enumerate(name) if letter == ","] or [i for i, c in enumerate(name) if c == " "]
    if len(name) <= letters or not breaks:
        return name
    at = min(breaks, key=lambda place: abs(place - len(name) / 2))
    return f"{name[:at]}<br>{name[at:].lstrip()}"


def grid_panel(chart: Chart, number: int, names: Sequence[str]) -> tuple[str, str]:
    """Lay out one panel of a grid that has one for each name. Returns what its two axes are called."""
    rows = panel_rows(len(names))
    titles = [folded(name, _LETTERS_ABOVE) for name in names]
    above = 0.21 if any("<br>" in title for title in titles) else 0.14
    column, row = number % PANELS_A_ROW, number // PANELS_A_ROW
    width, height = 1 / PANELS_A_ROW, 1 / rows
    mark = axis_suffix(number)
    left, top = column * width, 1 - row * height
    chart.set(**{
        f"xaxis{mark}": {
            "domain": [left + 0.012, left + width - 0.018], "anchor": f"y{mark}", "zeroline": False,
        },
        f"yaxis{mark}": {
            "domain": [top - height + 0.16 * height, top - above * height], "anchor": f"x{mark}", "zeroline": False,
        },
    })  # fmt: skip
    chart.note(
        x=left + 0.012, xref="paper", xanchor="left", y=top - (above - 0.02) * height, yref="paper", yanchor="bottom",
        align="left", text=f"<b>{titles[number]}</b>", font={"size": 13},
    )  # fmt: skip
    return f"x{mark}", f"y{mark}"


@dataclass(frozen=True, slots=True)
class Column:
    """A panel that has, for each group by name, a value for each task (or one alone) and its sd.

    A value is None where it cannot be told.
    """

    title: str
    values: list[list[float | None]]
    sds: list[list[float | None]]


@dataclass(frozen=True, slots=True)
class Lines:
    """Groups from top to bottom, and panels beside each other from left to right."""

    names: list[str]
    columns: list[Column]


def lines_height(groups: int) -> int:
    """How high a chart of so many lines is, in px."""
    return 64 + 34 * max(1, groups)


def line_axes(chart: Chart, info: Lines) -> None:
    """Lay out a column for each panel, with the names of the groups beside the first."""
    count = max(1, len(info.columns))
    names = [folded(name, _LETTERS_BESIDE) for name in info.names]
    longest = max((len(line) for name in names for line in name.split("<br>")), default=0)
    for number, column in enumerate(info.columns):
        mark = axis_suffix(number)
        chart.set(**{
            f"xaxis{mark}": {
                "domain": [number / count, (number + 0.9) / count], "anchor": f"y{mark}", "zeroline": True,
                "zerolinecolor": GREY, "nticks": 5,
            },
            f"yaxis{mark}": {
                "range": [len(info.names) - 0.4, -0.6], "tickvals": list(range(len(info.names))), "zeroline": False,
                "ticktext": names if number == 0 else [""] * len(names), "anchor": f"x{mark}",
            },
        })  # fmt: skip
        chart.note(
            x=number / count, xref="paper", xanchor="left", y=1.0, yref="paper", yanchor="bottom",
            text=f"<b>{column.title}</b>", font={"size": 13},
        )  # fmt: skip
    chart.set(margin={"l": 24 + 7 * longest, "r": 8, "t": 28, "b": 32}, showlegend=False)
