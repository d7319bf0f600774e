"""Random draws that never disturb each other: every purpose has its own stream, named by the seed and labels."""

import hashlib

import torch


def stream(seed: int, *labels: str | int) -> torch.Generator:
    """A fresh CPU generator for one purpose, such as `stream(seed, "shuffle", stage, phase, epoch)`.

    Equal names give equal draws, whatever else was drawn before; different names give independent ones.
    """
    name = "/".join(str(label) for label in (seed, *labels))
    number = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") >> 1
    return torch.Generator().manual_seed(number)
