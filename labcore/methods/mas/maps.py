"""Which weights move a job's answers: the kind of map that MAS brings along.

answer_importance, answer_importance/NAME, answer_importance_range     Ω, laid out as all magnitudes are:
                                                                       see labcore/drawings/inside/magnitudes.py
"""

from labcore.drawings.inside.importance import magnitude_kind
from labcore.drawings.inside.kind import Words

ARRAY = "answer_importance"

KINDS = (
    magnitude_kind(
        "answers",
        16,
        array=ARRAY,
        words=Words(
            "Answers",
            "Which weights move each job's answers?",
            "importance = change of the squared length of the network's output, mean over images; logarithmic",
            "Bright layers are held most firmly while later jobs are learnt. No label was asked for: a weight counts "
            "if it moves the answer at all, even where the answer is sure, and Importance beside it is dark there.",
            r"""$\Omega_i = \frac1N \sum_x |\partial \lVert f(x) \rVert^2 / \partial \theta_i|$, with $f(x)$ the scores
of the job's own head (Aljundi et al. 2018, arXiv 1711.09601), measured when a stage ends, image by image.""",
            explained=("each column is a layer, each row a job", "bright: the job's answers move with these weights"),
        ),
    ),
)
