"""The network: backbones, heads, one forward with an overlay, masks, the Fisher diagonal, batches, random streams.

May know configurations and tasks. Must not know methods, runs or how anything is drawn. This room loads torch.
"""
