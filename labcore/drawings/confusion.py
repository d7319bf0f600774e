"""What a network takes the test pictures of a job for, when it had learnt the job and now. No torch, no Streamlit."""

from collections.abc import Sequence
from dataclasses import dataclass

from labcore.configs.units import count_of
from labcore.drawings.charts import Chart
from labcore.drawings.figures import ACCURACY_SCALE, ink_on
from labcore.runs.answers import Confusion

MOST_NAMED = 12  # classes whose names and counts have room in a panel
MOST_CLASSES = 100  # of which two matrices can be told apart on a page
MOST_MISTAKES = 30
_NAMES_PX = 96


@dataclass(frozen=True, slots=True)
class Mistake:
    """Pictures of one class that are taken for another: how many now and when the job had been learnt.

    `pictures` are some of those that are taken so now, by their places among the job's test pictures.
    """

    shows: str
    taken_for: str
    now: int
    learnt: int
    pictures: tuple[int, ...]

    @property
    def words(self) -> str:
        """In words: `7 taken for 2: 14 pictures, 1 when it was learnt`."""
        now = count_of(self.now, "picture")
        return f"{self.shows} taken for {self.taken_for}: {now}, {self.learnt} when it was learnt"


def mistakes(classes: Sequence[str], learnt: Confusion, now: Confusion) -> list[Mistake]:
    """The most frequent mistakes of now, the most frequent first."""
    found = [
        Mistake(shows, taken_for, now.counts[row][column], learnt.counts[row][column], now.pictures[row][column])
        for row, shows in enumerate(classes)
        for column, taken_for in enumerate(classes)
        if row != column and now.counts[row][column]
    ]
    return sorted(found, key=lambda mistake: -mistake.now)[:MOST_MISTAKES]


def matrices(classes: Sequence[str], learnt: Confusion, now: Confusion) -> Chart:
    """Draw both matrices on one scale, a row for what a picture shows, a column for what it is taken for.

    The shade of a cell is its share of the row; up to a dozen classes have their names and counts.
    """
    chart = Chart()
    places = list(range(len(classes)))
    named = len(classes) <= MOST_NAMED
    for number, (title, found) in enumerate((("when it was learnt", learnt), ("now", now)), 1):
        suffix = "" if number == 1 else str(number)
        share = [[100 * count / max(1, sum(row)) for count in row] for row in found.counts]
        chart.trace(
            "heatmap", x=places, y=places, z=share, zmin=0, zmax=100, colorscale=ACCURACY_SCALE, showscale=False,
            xgap=1, ygap=1, xaxis=f"x{suffix}", yaxis=f"y{suffix}",
            text=[
                [f"{shows} taken for {taken_for}: {count}" for taken_for, count in zip(classes, row, strict=True)]
                for shows, row in zip(classes, found.counts, strict=True)
            ],
            hovertemplate="%{text}<extra></extra>",
        )  # fmt: skip
        for row, counts in enumerate(found.counts if named else ()):
            for column, count in enumerate(counts):
                if count:
                    chart.note(
                        x=column, y=row, xref=f"x{suffix}", yref=f"y{suffix}", text=str(count),
                        font={"size": 12, "color": ink_on(share[row][column])},
                    )  # fmt: skip
        left = 0.53 * (number - 1)
        chart.note(
            x=left, xref="paper", xanchor="left", y=1.0, yref="paper", yanchor="bottom", yshift=4,
            text=f"<b>{title}</b>", font={"size": 13},
        )  # fmt: skip
        ticks = {
            "tickvals": places,
            "ticktext": list(classes),
            "showticklabels": named,
            "showgrid": False,
            "zeroline": False,
        }
        across = {"domain": [left, left + 0.47], "title": {"text": "it is taken for", "font": {"size": 12}}}
        down = {"range": [len(classes) - 0.5, -0.5], "showticklabels": named and number == 1, "anchor": f"x{suffix}"}
        chart.set(
            **{f"xaxis{suffix}": {**ticks, **across, "anchor": f"y{suffix}"}, f"yaxis{suffix}": {**ticks, **down}}
        )
    chart.set(
        yaxis={"title": {"text": "it shows", "font": {"size": 12}}},
        margin={"l": _NAMES_PX + 14, "r": 4, "t": 26, "b": _NAMES_PX},
        showlegend=False,
    )
    return chart
