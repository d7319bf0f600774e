"""What each weight did for a job while it was learnt: the kind of map that SI brings along.

path_importance, path_importance/NAME, path_importance_range     ω / (Δ² + ξ), laid out as all magnitudes are:
                                                                 see labcore/drawings/inside/magnitudes.py
"""

from labcore.drawings.inside.importance import magnitude_kind
from labcore.drawings.inside.kind import Words

ARRAY = "path_importance"

KINDS = (
    magnitude_kind(
        "path",
        15,
        array=ARRAY,
        words=Words(
            "Path",
            "Which weights lowered each job's loss?",
            "importance along the path = loss that a weight's own moves took away, over its move squared; logarithmic",
            "Bright layers did most of the work while a job was learnt, and are held most firmly afterwards. Watch it "
            "grow within a stage. Beside it, Importance asks another question: what the job's answers depend on now.",
            r"""$\omega_i = \sum_t -g_i(t)\,\Delta\theta_i(t)$ and $\Omega_i = \max(0, \omega_i / (\Delta_i^2 + \xi))$,
with $g$ the gradient of the job's own loss and $\Delta_i$ the whole move of the stage (Zenke et al. 2017, arXiv
1703.04200). Nothing is measured for it; before a stage's end it is what the path has gathered so far.""",
            explained=("each column is a layer, each row a job", "bright: these weights lowered the job's loss"),
        ),
    ),
)
