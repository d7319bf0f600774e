"""How results look: first the numbers of a fold, then the chart. No torch, no Streamlit.

Every chart is two functions: one decides what is shown, in plain lists that tests compare; the other only draws.
A task has one colour everywhere, by its position in the sequence, and always a second sign beside it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from labcore.drawings.charts import ON_LITTLE, ON_MUCH, RAMP, RAMP_TURNS, Chart
from labcore.runs.events import TaskFacts
from labcore.runs.results import AccuracyPoint, Fold
from labcore.studies import measures

# Okabe & Ito's colours, which colour-blind eyes can tell apart, too. A task's colour is that of its position.
TASK_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442")
TASK_DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
TASK_SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "star", "hexagon")
GREY = "#8A8F9C"
# The colour of what belongs to no task.
INK = "#5B78BF"
_PERCENTS = [0, 25, 50, 75, 100]
# Accuracy is drawn from 0 to 100 % everywhere.
PERCENT_AXIS = {"range": [0, 102], "tickvals": _PERCENTS, "ticktext": [f"{value} %" for value in _PERCENTS]}
# Accuracy from 0 to 100 %.
ACCURACY_SCALE = RAMP
# Loss terms are not tasks: greys and a violet, told apart by fill and order.
TERM_COLOURS = ("#5B6C94", "#A9B4CC", "#7C5FA3", "#C3B1DC")


def task_colour(position: int) -> str:
    """The colour of the task at a position from 1."""
    return TASK_COLOURS[(position - 1) % len(TASK_COLOURS)]


def ink_on(percent: float) -> str:
    """The colour of a figure written on the shade of `ACCURACY_SCALE` for so many per cent."""
    return ON_MUCH if percent > 100 * RAMP_TURNS else ON_LITTLE


def task_symbol(position: int) -> str:
    """The mark of the task at a position from 1."""
    return TASK_SYMBOLS[(position - 1) % len(TASK_SYMBOLS)]


def task_dash(position: int) -> str:
    """The dash of a line for the task at a position from 1."""
    return TASK_DASHES[(position - 1) % len(TASK_DASHES)]


# ---- accuracy over the run ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class AccuracyLine:
    """One task's accuracy in per cent against the training images seen in the run.

    The line is what was seen live, on the first `pictures` validation pictures. Beside it stand `measured` values, at
    the images seen when a stage ended: those of the matrix, on all test pictures.
    """

    position: int
    title: str
    images_seen: list[int]
    percent: list[float]
    pictures: list[int]
    measured: list[tuple[int, float]]

    @property
    def end(self) -> tuple[float, str]:
        """The value at the line's end, and how it is written: that of the matrix, or about a live one before."""
        value, about = _end_of(self.measured, self.images_seen, self.percent)
        return value, f"{about}{value:.0f} %"

    @property
    def between(self) -> tuple[float, float] | None:
        """Between which per cent the truth lies where the line ends in a live look; None where all were measured."""
        value, about = _end_of(self.measured, self.images_seen, self.percent)
        if not about:
            return None
        low, high = measures.wilson(value / 100, self.pictures[-1])
        return 100 * low, 100 * high


@dataclass(frozen=True, slots=True)
class StageSpan:
    """Where a stage lies on the axis of images seen; one that has not ended yet ends where it is planned to.

    `reused` says whether another run had trained it. `phases` are its parts, each with the images seen when it began.
    """

    position: int
    title: str
    first: int
    last: int
    reused: bool = False
    phases: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, slots=True)
class AccuracyCurves:
    """All tasks' lines and the stages behind them; `total_images` is the planned end of the axis."""

    lines: list[AccuracyLine]
    spans: list[StageSpan]
    total_images: int

    @property
    def pictures(self) -> str:
        """At how many validation pictures of a task the points look: `50`, `24 to 50`, or nothing without a point."""
        counts = [count for line in self.lines for count in line.pictures]
        ends = sorted({min(counts), max(counts)}) if counts else []
        return " to ".join(map(str, ends))


def accuracy_curves_info(fold: Fold) -> AccuracyCurves:
    """Accuracy on validation images, for each task from its own stage on."""
    lines = []
    for position, task in enumerate(fold.tasks, 1):
        points = [point for point in fold.accuracy if len(point.accuracy) >= position]
        if points:
            seen = [point.images_seen for point in points]
            percent = [100 * point.accuracy[position - 1] for point in points]
            pictures = [point.images[position - 1] for point in points]
            stages = fold.stages
            measured = [
                (stages[number - 1].first_image + stages[number - 1].images, value)
                for number, value in _measured(fold, position)
            ]
            lines.append(AccuracyLine(position, task.title, seen, percent, pictures, measured))
    return AccuracyCurves(lines, stage_spans(fold), fold.started.total_images if fold.started else 0)


def _measured(fold: Fold, position: int) -> list[tuple[int, float]]:
    """The stages, from 1, that were measured with this task, and its accuracy on all test pictures, in per cent."""
    return [
        (number, 100 * stage.test.accuracy[position - 1])
        for number, stage in enumerate(fold.stages, 1)
        if stage.test and len(stage.test.accuracy) >= position
    ]


def _end_of(measured: list[tuple[int, float]], places: Sequence[float], percent: list[float]) -> tuple[float, str]:
    """The value at a line's end and what stands before it: the matrix's if its stage is over, else about a live one."""
    if measured and (not places or measured[-1][0] >= places[-1]):
        return measured[-1][1], ""
    return percent[-1], "≈ "


def stage_spans(fold: Fold) -> list[StageSpan]:
    """The stages that have begun."""
    return [
        StageSpan(
            number,
            fold.tasks[number - 1].title,
            stage.first_image,
            stage.first_image + stage.images,
            reused=bool(stage.ended and stage.ended.reused),
            phases=tuple(stage.phases.items()),
        )
        for number, stage in enumerate(fold.stages, 1)
    ]


def accuracy_curves(info: AccuracyCurves) -> Chart:
    """Draw a line for each task, labelled at its end. Stages are named above, and every second one is shaded.

    What was measured at a stage's end is a larger mark. A line whose stage is not over ends in a whisker, as wide as
    the doubt that its few pictures leave.
    """
    chart = Chart()
    _name_stages(chart, info.spans, info.total_images)
    _name_phases(chart, info.spans, info.total_images)
    heights = apart([line.end[0] for line in info.lines], gap=10)
    for line, height in zip(info.lines, heights, strict=True):
        colour = task_colour(line.position)
        (value, written), between = line.end, line.between
        chart.trace(
            "scatter", x=line.images_seen, y=line.percent, name=line.title, mode="lines+markers",
            line={"color": colour, "width": 2.5, "dash": task_dash(line.position)}, marker={"size": 4},
            customdata=line.pictures,
            hovertemplate=f"{line.title}: about %{{y:.0f}} %, seen on %{{customdata}} pictures<br>"
            "after %{x:,} images of training<extra></extra>",
        )  # fmt: skip
        if line.measured:
            chart.trace(
                "scatter", x=[seen for seen, _ in line.measured], y=[percent for _, percent in line.measured],
                name=f"{line.title}, all test pictures", mode="markers",
                marker={"size": 11, "color": colour, "symbol": task_symbol(line.position), "line": {"width": 0}},
                cliponaxis=False,  # a run's last mark stands on the edge
                hovertemplate=f"{line.title}: %{{y:.0f}} % of all test pictures<br>"
                "after %{x:,} images of training<extra></extra>",
            )  # fmt: skip
        if between is not None:
            up, down = between[1] - value, value - between[0]
            chart.trace(
                "scatter", x=line.images_seen[-1:], y=[value], name=line.title, mode="markers",
                marker={"size": 4, "color": colour}, hoverinfo="skip", cliponaxis=False,
                error_y={"array": [up], "arrayminus": [down], "color": colour, "thickness": 1.5, "width": 5},
            )  # fmt: skip
        chart.note(
            x=1.0, xref="paper", xanchor="left", xshift=10, y=height, yanchor="middle",
            text=f"{line.title} {written}", font={"size": 13, "color": colour},
        )  # fmt: skip
    _axis_of_images(chart, info.total_images)
    chart.set(yaxis=PERCENT_AXIS, margin={"l": 52, "r": 128, "t": 28, "b": 44}, showlegend=False)
    return chart


# The properties of a shape over the whole height of a chart.
_UPRIGHT = {"y0": 0, "y1": 1, "yref": "paper", "layer": "below"}


def _name_stages(chart: Chart, spans: list[StageSpan], total_images: int) -> None:
    """Mark the stages behind lines against images seen: their borders, their names above, every second one shaded."""
    for span in spans:
        if span.position % 2 == 0:
            chart.shape(**_UPRIGHT, x0=span.first, x1=span.last, fillcolor=GREY, opacity=0.10, line={"width": 0})
        if span.position > 1:
            border = {"type": "line", "line": {"color": GREY, "width": 1, "dash": "dot"}}
            chart.shape(**_UPRIGHT, x0=span.first, x1=span.first, **border)
        has_room = span.last - span.first > 0.25 * total_images
        chart.note(
            x=(span.first + span.last) / 2, y=1.0, yref="paper", yanchor="bottom",
            text=span.title if not has_room else f"{span.title} · reused" if span.reused else f"learns {span.title}",
            name=span.title, font={"size": 13, "color": task_colour(span.position)},
        )  # fmt: skip


# What learns in a phase, as a person reads it; a method's own phase is called by its name.
_PHASES = {"warm_up": "new head alone", "train": "all that learns", "retrain": "what is left"}
_PLOT_WIDTH, _SMALL_LETTER_WIDTH = 410, 6.2  # px, about, of the curves on a projector


def _name_phases(chart: Chart, spans: list[StageSpan], total_images: int) -> None:
    """Mark where another phase of a stage begins, so that a cliff has its reason beside it; name those with room."""
    for span in spans:
        ends = [*(first for _, first in span.phases[1:]), span.last]
        for number, ((phase, first), last) in enumerate(zip(span.phases, ends, strict=False)):
            words = _PHASES.get(phase, phase)
            if number:
                line = {"type": "line", "line": {"color": GREY, "width": 1, "dash": "dash"}, "opacity": 0.6}
                chart.shape(**_UPRIGHT, x0=first, x1=first, **line)
            if len(span.phases) > 1 and (last - first) * _PLOT_WIDTH > len(words) * _SMALL_LETTER_WIDTH * total_images:
                chart.note(
                    x=(first + last) / 2, y=0.01, yref="paper", yanchor="bottom", text=words, font={"size": 12},
                    opacity=0.75,
                )  # fmt: skip


def apart(heights: list[float], gap: float) -> list[float]:
    """Move heights from 0 to 100 as little as it takes (by least squares) for their labels not to overlap.

    Take one gap from each height for every label below it. Then no height may be lower than the one before. Where one
    is lower, the two, and all that lean on them, meet at their mean, as in isotonic regression.
    """
    order = sorted(range(len(heights)), key=lambda i: heights[i])
    leaning: list[tuple[float, int]] = []  # the sum and the count of heights that lean on each other
    for rank, index in enumerate(order):
        total, count = heights[index] - rank * gap, 1
        while leaning and leaning[-1][0] / leaning[-1][1] > total / count:
            total, count = total + leaning[-1][0], count + leaning.pop()[1]
        leaning.append((total, count))
    highest = 100.0 - gap * (len(heights) - 1)
    levels = [max(0.0, min(total / count, highest)) for total, count in leaning for _ in range(count)]
    placed = [0.0] * len(heights)
    for rank, (index, level) in enumerate(zip(order, levels, strict=True)):
        placed[index] = level + rank * gap
    return placed


# ---- several runs laid over each other -------------------------------------------------------------------------------

# About how wide all panels together and one letter are, in px on a projector, so that names have room there, too.
_OVERLAY_WIDTH, _LETTER_WIDTH = 620, 6.5


@dataclass(frozen=True, slots=True)
class OverlayLine:
    """One run's accuracy on one task in per cent; `stages` counts stages learnt, so 1.5 is half-way through stage 2.

    The line is what was seen live; `measured` are the stages after which it was measured on all test pictures, and what
    was found.
    """

    position: int
    run: int
    stages: list[float]
    percent: list[float]
    measured: list[tuple[int, float]]

    @property
    def end(self) -> tuple[float, str]:
        """The value at the line's end and how it is written: that of the matrix, or about a live one before."""
        value, about = _end_of(self.measured, self.stages, self.percent)
        return value, f"{about}{value:.0f}"


@dataclass(frozen=True, slots=True)
class AccuracyOverlay:
    """Runs of one task sequence, with a panel for each task and in it a line for each run."""

    titles: list[str]
    runs: list[str]
    lines: list[OverlayLine]


def accuracy_overlay_info(titles: list[str], folds: Mapping[str, Fold]) -> AccuracyOverlay:
    """The runs by name, all on tasks of these `titles`.

    They are aligned by stage, because methods see different numbers of images.
    """
    lines = []
    for position in range(1, len(titles) + 1):  # panel by panel, as they are drawn: a click names a line by its place
        for number, fold in enumerate(folds.values()):
            points = [point for point in fold.accuracy if len(point.accuracy) >= position]
            if points:
                stages = [_stages_learnt(fold, point) for point in points]
                percent = [100 * point.accuracy[position - 1] for point in points]
                lines.append(OverlayLine(position, number, stages, percent, _measured(fold, position)))
    return AccuracyOverlay(titles, list(folds), lines)


def _stages_learnt(fold: Fold, point: AccuracyPoint) -> float:
    """How many stages were learnt at a point. A live point tells of every task seen: one for each stage begun."""
    stage = fold.stages[len(point.accuracy) - 1]
    return len(point.accuracy) - 1 + (point.images_seen - stage.first_image) / max(1, stage.images)


def accuracy_overlay(info: AccuracyOverlay) -> Chart:
    """Draw panels side by side on one scale, with stages named below.

    In each panel, runs are told apart by their letters, of which A is the first, and by their dashes.
    """
    chart = Chart()
    count = len(info.titles)
    width = 1 / count
    names = _short_names(info.titles, _OVERLAY_WIDTH * (width - 0.085) / count)
    for position in range(1, count + 1):
        mine = [line for line in info.lines if line.position == position]
        suffix = "" if position == 1 else str(position)
        chart.set(**{
            f"xaxis{suffix}": {
                "domain": [(position - 1) * width, position * width - 0.085], "range": [position - 1, count + 0.02],
                "tickvals": [stage - 0.5 for stage in range(position, count + 1)], "anchor": f"y{suffix}",
                "ticktext": names[position - 1 :], "tickangle": 0, "showgrid": False, "fixedrange": False,
            },
            f"yaxis{suffix}": {
                "range": [0, 102], "tickvals": _PERCENTS, "anchor": f"x{suffix}",
                "ticktext": [f"{value} %" for value in _PERCENTS] if position == 1 else [""] * len(_PERCENTS),
            },
        })  # fmt: skip
        for border in range(position, count):
            chart.shape(
                type="line", x0=border, x1=border, xref=f"x{suffix}", y0=0, y1=1, yref=f"y{suffix} domain",
                line={"color": GREY, "width": 1, "dash": "dot"}, layer="below",
            )  # fmt: skip
        colour = task_colour(position)
        chart.note(
            x=(position - 1) * width, xref="paper", xanchor="left", y=1.0, yref="paper", yanchor="bottom",
            text=f"<b>{position}. {info.titles[position - 1]}</b>", font={"size": 13, "color": colour},
        )  # fmt: skip
        heights = apart([line.end[0] for line in mine], gap=8)
        for line, height in zip(mine, heights, strict=True):
            letter, name = chr(ord("A") + line.run), info.runs[line.run]
            chart.trace(
                "scatter", x=line.stages, y=line.percent, name=f"{letter} {name}", mode="lines", xaxis=f"x{suffix}",
                yaxis=f"y{suffix}", opacity=1.0 if line.run == 0 else 0.75,
                line={"color": colour, "width": 3 if line.run == 0 else 1.8, "dash": task_dash(line.run + 1)},
                hovertemplate=f"{letter} {name}: about %{{y:.0f}} %<extra></extra>",
            )  # fmt: skip
            chart.note(
                x=position * width - 0.08, xref="paper", xanchor="left", y=height, yref=f"y{suffix}",
                yanchor="middle", text=f"{letter} {line.end[1]}",
                font={"size": 12, "color": colour},
            )  # fmt: skip
    chart.note(
        x=0.5, xref="paper", y=0, yref="paper", yanchor="top", yshift=-26,
        text="the job that is being learnt", font={"size": 12},
    )  # fmt: skip
    chart.set(margin={"l": 52, "r": 10, "t": 28, "b": 44}, showlegend=False)
    return chart


def _short_names(titles: list[str], room: float) -> list[str]:
    """Tasks' names in their colours, or only their numbers where some name is wider than the room, in px."""
    fit = _LETTER_WIDTH * max(map(len, titles), default=0) <= room
    return [
        f"<span style='color:{task_colour(position)}'>{title if fit else position}</span>"
        for position, title in enumerate(titles, 1)
    ]


# ---- loss terms -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class LossTerms:
    """Each term's values against the training images seen; a term that a stage lacks is 0 there."""

    images_seen: list[int]
    terms: dict[str, list[float]]
    spans: list[StageSpan]
    total_images: int


def loss_terms_info(fold: Fold) -> LossTerms:
    """The terms in the order in which they first appear."""
    names = list(dict.fromkeys(name for point in fold.losses for name in point.loss))
    return LossTerms(
        [point.images_seen for point in fold.losses],
        {name: [point.loss.get(name, 0.0) for point in fold.losses] for name in names},
        stage_spans(fold),
        fold.started.total_images if fold.started else 0,
    )


def _words_of(term: str) -> str:
    """What a person reads for a term: `mistakes on the new job`; a method's own kind of term as it is named."""
    return f"mistakes on the {term.replace('task', 'job')}" if term.endswith(("task", "tasks")) else term


def loss_terms(info: LossTerms) -> Chart:
    """Draw the terms stacked, because their sum is what training makes small. Stages are named above."""
    chart = Chart()
    _name_stages(chart, info.spans, info.total_images)
    for number, (name, values) in enumerate(info.terms.items()):
        colour = TERM_COLOURS[number % len(TERM_COLOURS)]
        chart.trace(
            "scatter", x=info.images_seen, y=values, name=_words_of(name), mode="lines", stackgroup="terms",
            line={"color": colour, "width": 1.5},
            hovertemplate=f"{name}: %{{y:.2f}}<extra></extra>",
        )  # fmt: skip
    _axis_of_images(chart, info.total_images)
    chart.set(
        yaxis={"rangemode": "tozero", "title": {"text": "loss", "font": {"size": 13}}},
        margin={"l": 52, "r": 128, "t": 64, "b": 44},  # room for two lines of legend, before there is one
        showlegend=bool(info.terms),
        legend={"orientation": "h", "y": 1, "yref": "container", "yanchor": "top", "x": 0, "font": {"size": 13}},
    )
    return chart


# ---- accuracy matrix ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class AccuracyMatrix:
    """`percent[k][j]` is how well task j does after stage k, None where it is not learnt yet; `text` fills the cell."""

    titles: list[str]
    percent: list[list[float | None]]
    text: list[list[str]]


def accuracy_matrix_info(fold: Fold, titles: list[str]) -> AccuracyMatrix:
    """The matrix, at its full size from the start so that nothing moves as it fills; `titles` are the tasks' titles."""
    rows = fold.matrix("test")
    percent: list[list[float | None]] = [[None] * len(titles) for _ in titles]
    text = [[""] * len(titles) for _ in titles]
    for k, row in enumerate(rows):
        for j, value in enumerate(row):
            if value is not None:
                percent[k][j] = 100 * value
                learnt = rows[j][j]
                fell = k > j and learnt is not None and round(100 * learnt) != round(100 * value)
                text[k][j] = f"{100 * value:.0f} %" + (
                    f"<br>was {100 * learnt:.0f} %" if fell and learnt is not None else ""
                )
    return AccuracyMatrix(titles, percent, text)


def accuracy_matrix(info: AccuracyMatrix) -> Chart:
    """Draw a row after learning each task and a column for how well each task does; what is to come is a grey place."""
    chart = Chart()
    count = len(info.titles)
    places = list(range(count))
    chart.trace(
        "heatmap", x=places, y=places, z=info.percent, zmin=0, zmax=100, colorscale=ACCURACY_SCALE, showscale=False,
        xgap=3, ygap=3, hovertemplate="%{z:.1f} %<extra></extra>", hoverongaps=False,
    )  # fmt: skip
    for k in places:
        for j in places:
            value = info.percent[k][j]
            if value is None and j <= k:
                box = {"x0": j - 0.48, "x1": j + 0.48, "y0": k - 0.48, "y1": k + 0.48, "layer": "below"}
                chart.shape(**box, fillcolor=GREY, opacity=0.10, line={"width": 0})
            if value is not None:
                ink = ink_on(value)
                chart.note(x=j, y=k, text=info.text[k][j], font={"size": 13, "color": ink})
    columns = [
        f"<span style='color:{task_colour(i + 1)}'>■</span> {title.replace(' ', '<br>', 1)}"
        for i, title in enumerate(info.titles)
    ]
    rows = [f"after<br>{title}" for title in info.titles]
    across = {"tickvals": places, "ticktext": columns, "tickangle": 0, "side": "top", "range": [-0.5, count - 0.5]}
    down = {"tickvals": places, "ticktext": rows, "range": [count - 0.5, -0.5]}
    chart.set(
        xaxis={**across, "showgrid": False},
        yaxis={**down, "showgrid": False},
        margin={"l": 82, "r": 4, "t": 44, "b": 8},
    )
    return chart


def _axis_of_images(chart: Chart, total: int) -> None:
    """Let the axis show the whole run from the start, so that it never moves.

    It has no numbers while the total is not known.
    """
    title = {"text": "training images seen", "font": {"size": 13}}
    chart.set(
        xaxis={"range": [0, max(1, total)], "title": title, "tickformat": ",d", "showticklabels": total > 0},
    )


# ---- in words -------------------------------------------------------------------------------------------------------


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _of(task: TaskFacts, share: float) -> str:
    """An accuracy in pictures: `215 of 500`."""
    return f"{share * task.test_images:.0f} of {task.test_images}"


def summary(fold: Fold) -> str:
    """What a finished run showed, in a sentence or two made from its figures, of the job that it forgot most of."""
    rows, tasks = fold.matrix("test"), fold.tasks
    if not rows:
        return "It ended before it had learnt its first job."
    if len(rows) == 1:
        learnt = rows[0][0] or 0.0
        return f"It learnt {tasks[0].title}: it gets {_of(tasks[0], learnt)} test pictures right ({_percent(learnt)})."
    falls = [(rows[job][job] or 0.0) - (rows[-1][job] or 0.0) for job in range(len(rows) - 1)]
    job = falls.index(max(falls))
    task, learnt, now = tasks[job], rows[job][job] or 0.0, rows[-1][job] or 0.0
    share = (learnt - now) / max(learnt - task.chance, 1e-9)  # of what it knew beyond guessing
    if learnt - now < 0.02:
        verdict = "It forgot nothing that shows."
    elif now - task.chance < 0.1:
        verdict = f"It forgot nearly all of it: guessing gets {_percent(task.chance)}."
    else:
        verdict = f"It forgot {'a little' if share < 0.2 else 'much' if share < 0.5 else 'most'} of it."
    then, still = (f"{_of(task, accuracy)} test pictures right ({_percent(accuracy)})" for accuracy in (learnt, now))
    return (
        f"When it had just learnt {task.title}, it got {then}. Now that it has learnt {tasks[len(rows) - 1].title} as "
        f"well, it gets {still}. {verdict}"
    )


# ---- what is kept ---------------------------------------------------------------------------------------------------

# Purposes in plain words, in the order in which they are shown; methods name them in `footprint()`.
_PURPOSES = {
    "trunk": "weights",
    "copies": "copies of the network",
    "heads": "heads",
    "norm": "normalisation a job",
    "fisher": "importance (Fisher)",
    "anchors": "old weights (anchors)",
    "owners": "owners of weights",
    "choices": "choices of old weights",
    "masks": "masks",
    "old images": "old pictures",
}


_WORKING = {"scores": "mask scores"}


@dataclass(frozen=True, slots=True)
class FootprintPart:
    """Bytes for one purpose, and their share of all that is kept."""

    purpose: str
    count: int
    share: float


@dataclass(frozen=True, slots=True)
class Footprint:
    """What is kept to answer all jobs and to learn another, by purpose; `working` is what is gone after each stage."""

    kept: list[FootprintPart]
    working: list[FootprintPart]


def footprint_info(fold: Fold) -> Footprint:
    """What the latest stage told, without parts of no bytes. A purpose without plain words is shown by its name."""
    told = next((stage.footprint for stage in reversed(fold.stages) if stage.footprint), None)
    if told is None:
        return Footprint([], [])
    total = sum(told.kept.values())

    def parts(counts: Mapping[str, int], words: Mapping[str, str]) -> list[FootprintPart]:
        order = [name for name in words if counts.get(name)] + [n for n in counts if n not in words and counts[n]]
        return [FootprintPart(words.get(name, name), counts[name], counts[name] / total) for name in order]

    return Footprint(parts(told.kept, _PURPOSES), parts(told.working, _WORKING))
