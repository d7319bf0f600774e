"""What the maps are called, what to look for in them, and how they are computed."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Words:
    """A kind of map: its `name` on the switch, the `question` it answers, the field's `term`, what to `look` for."""

    name: str
    question: str
    term: str
    look: str
    formula: str


KINDS: dict[str, Words] = {
    "importance": Words(
        "Importance",
        "Which weights does each job hang on?",
        "importance = Fisher information, mean of a layer's weights, logarithmic: each step is ten times more",
        "Bright layers are the ones that a job's answers hang on. Compare the rows: where two jobs are bright "
        "in the same layer, learning one is likely to hurt the other. First layers are often bright for all.",
        r"""$F_i = \frac1N \sum_x \left(\partial \log p(y|x) / \partial w_i\right)^2$, with $y$ drawn from the network's
own answer: the diagonal of the Fisher information (Kirkpatrick et al. 2017, arXiv 1612.00796), of weights as the
job sees them. At a stage's end it is measured on 100 training images (EWC: as many as its setting says), before
that on 32 and marked as an estimate. A layer shows the mean over its weights; a weight that a job does not use
has none.""",
    ),
    "drift": Words(
        "Drift",
        "How far have weights moved since?",
        "drift = root mean square of the move, in % of the layer's own weights",
        "Dark means: these weights are where the job left them. Methods that keep jobs apart stay at 0. With "
        "EWC, look at the points below: filters that matter stay low, the others are free to move.",
        r"""$\sqrt{\overline{(w - w^*)^2}} / \sqrt{\overline{w^{*2}}}$ over a layer's (or a filter's) weights, where
$w^*$ are the weights when the job was learnt. A filter's move is measured by its layer's weights, too. Weights are
those that the job sees: with a mask only what it leaves on, with separate copies the job's own copy.""",
    ),
    "broke": Words(
        "What it broke",
        "Where did learning more hurt an older job?",
        "drift × importance = estimated extra loss, in nats; a logarithmic scale",
        "Moving a weight does harm only where the job needs it. Bright layers are where the older job was "
        "damaged: this map tells more of forgetting than drift does. Nothing drawn means nothing broken.",
        r"""$\tfrac12 \sum_i F_i (w_i - w^*_i)^2$, summed over a layer or a filter: the Laplace approximation's estimate
of how much the older job's loss has risen, in nats (0.7 nats: a right answer half as likely). It is an estimate
for small moves; after large ones it overstates.""",
    ),
    "owners": Words(
        "Owners",
        "Which job owns which weights?",
        "owner = the task that a weight was frozen for (PackNet); grey is free",
        "Watch the bars while it trains: a new job takes all that is free, pruning gives most of it back, "
        "retraining makes the rest good enough. A job also uses the weights of all jobs before it.",
        r"""Pruning frees, in each layer, the `prune_ratio` share of smallest $|w|$ among the weights that the task has
just learnt (Mallya & Lazebnik 2018, arXiv 1711.05769). The forecast counts whole weights: a job fits while every
layer has one that is free, and each job gives `prune_ratio` of what it took back.""",
    ),
    "masks": Words(
        "Masks",
        "Which weights does each job switch on?",
        "mask density = share of weights left on (Piggyback)",
        "The network itself never changes: a job only switches weights off. Layers where the lines lie apart "
        "are where jobs want different things. An overlap near 100 % means two jobs use almost the same "
        "network.",
        r"""A weight is on where its score exceeds the threshold (Mallya et al. 2018, arXiv 1801.06519). Overlap is
Jaccard's: $|A \cap B| / |A \cup B|$ of the weights that two masks leave on. Scores at the ends of the histogram
hold all beyond.""",
    ),
    "representation": Words(
        "Representation",
        "What does it see differently now?",
        "similarity of features before and after the stage = linear CKA, 1: the same but for rotation and scale",
        "Each line follows the same pictures of one job through the network. Where it falls, the stage has "
        "changed what the network makes of them, even if the answers are still right. Later blocks usually "
        "change most.",
        r"""$\mathrm{CKA} = \|X^\top Y\|_F^2 / (\|X^\top X\|_F \|Y^\top Y\|_F)$ of centred features $X$ before and $Y$
after the stage, of 32 fixed validation images of each job, as the job sees the network (Kornblith et al. 2019, arXiv
1905.00414). With so few images unlike features score above 0, too: compare blocks rather than read absolute
numbers.""",
    ),
}

# What a chart of one layer shows, for who asks what they are looking at.
NOTES = {
    "drift": "A line for each earlier job, a place for each filter: the higher, the farther it moved since that job.",
    "broke": "A line for each earlier job, a place for each filter: the higher, the more its move hurt that job.",
    "spring": "Each point is a filter. Right: the job hangs on it more. Up: it has moved farther since.",
    "scores": "Each bar counts weights of about one score: those right of the red line are on, those left of it off.",
    "overlap": "Each square: of the weights that either of two jobs switches on, the share that both do.",
    "similarity": "A line for each job's pictures, a point for each stage. At 1 the stage changed nothing here.",
}
