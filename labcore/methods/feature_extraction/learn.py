"""Feature extraction: the network stays as it is, and each task gets a last layer of its own.

Idea     Use the trunk as it is, as a fixed describer of pictures, and learn only a new head. Nothing old can be lost;
         nothing in the trunk adapts to the new task either.
Formula  L = cross-entropy(head_k(trunk(x))), trunk fixed (from the start, or once task 1 was learnt)
Source   Donahue et al. 2014 (DeCAF), arXiv 1310.1531; Razavian et al. 2014, arXiv 1403.6382
"""

from labcore.methods.shared.fixed_trunk import FixedTrunk


class FeatureExtraction(FixedTrunk):
    """Heads on a trunk that never learns (`start`), or only in stage 1 (`first_task`)."""
