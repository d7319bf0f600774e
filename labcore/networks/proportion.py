"""Whether numbers are still in proportion: finite, and not so large that nothing can come of them any more."""

from collections.abc import Mapping

import torch
from torch import Tensor

# Larger than any weight, statistic or loss of a run that learns something. Squares of float32 overflow at 1.8e19.
LARGEST = 1e12


class OutOfProportion(Exception):
    """Numbers have left all proportion; the message is a sentence that says which, and where."""


@torch.no_grad()
def require_proportion(what: str, tensors: Mapping[str, Tensor], largest: float = LARGEST) -> None:
    """Raise OutOfProportion where a tensor holds a number that is not finite, or beyond `largest` on either side.

    Args:
        what: What the tensors are, for the sentence: `the weights`.
        tensors: By name; those that hold whole numbers are left out.
        largest: The largest size allowed.
    """
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and tensor.numel():
            low, high = (float(value) for value in tensor.detach().aminmax())
            if not max(-low, high) <= largest:  # NaN is in no order
                worst = high if not high <= largest else low
                raise OutOfProportion(f"Of {what}, {name} has come to {worst:.3g}.")
