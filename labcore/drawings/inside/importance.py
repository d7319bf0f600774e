"""Which weights a job depends on: by Fisher information in every run, and by whatever a method measures itself."""

import numpy as np

from labcore.drawings.inside import magnitudes
from labcore.drawings.inside.kind import MapKind, Words
from labcore.drawings.inside.layer import Panel, Pictures, Shown
from labcore.drawings.inside.movement import spring_chart
from labcore.drawings.inside.overview import Heat, Overview, of_layers
from labcore.drawings.inside.pictures import Picture
from labcore.runs.moments import View


def magnitude_kind(name: str, place: int, words: Words, array: str, images: str = "") -> MapKind:
    """A kind that shows how much each weight matters to each job, by the arrays that are called after `array`.

    They are as `labcore.runs.reductions.magnitudes` makes them. The whole network is a heat map; a layer has a picture
    of filters by inputs, and a chart of how far its filters have moved against how much they mattered, in the words of
    the kind's term. `images` is the array that tells on how many images an estimate rests, where what is drawn before a
    stage's end is one.
    """

    def read(seen: View) -> Overview:
        count = seen.read(images) if images and seen.moment.kind == "live" else None
        return of_layers(seen, magnitudes.by_task(seen, array), estimated=0 if count is None else int(count))

    def layer(shown: Shown) -> tuple[Panel, Panel]:
        def picture(seen: View) -> Picture | str:
            scale = magnitudes.layer_scale([each.seen for each in shown.runs], shown.layer, shown.task, array)
            found = magnitudes.picture(seen, seen.layers[shown.place], scale, shown.task, array)
            if found:
                return found
            known = np.isfinite(magnitudes.by_task(seen, array)[shown.task - 1, shown.place])
            if known:  # as in a recorded run
                return f"Only the whole layer's {words.quantity} was kept, not that of single weights."
            return f"No {words.quantity} was measured here."

        title = f"Filter by input: {shown.first.titles[shown.task - 1]}"
        return [Pictures(title, picture)], [spring_chart(shown, array, words.quantity)]

    return MapKind(name, place, words, [array], read, Heat(), layer, jobs="so far")


IMPORTANCE = magnitude_kind(
    "importance",
    10,
    array="importance",
    images="images",
    words=Words(
        "Importance",
        "Which weights does each job depend on?",
        "importance = Fisher information, mean of a layer's weights, logarithmic: each step is ten times more",
        "Bright layers are the ones that a job's answers depend on. Compare the rows: where two jobs are bright in the "
        "same layer, learning one is likely to hurt the other. The first layers are often bright for every job.",
        r"""$F_i = \frac1N \sum_x \left(\partial \log p(y|x) / \partial w_i\right)^2$, with $y$ drawn from the network's
own answer: the diagonal of the Fisher information (Kirkpatrick et al. 2017, arXiv 1612.00796), of weights as the
job sees them. At a stage's end it is measured on 100 training images (EWC: as many as its setting says), before
that on 32 and marked as an estimate. A layer shows the mean over its weights; a weight that a job does not use
has none.""",
        explained=("each column is a layer, each row a job", "bright: the job's answers depend on these weights"),
    ),
)
