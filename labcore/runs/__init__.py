"""Where runs live and what they said: store, queue, events, results, trained stages, checkpoints, maps, archives.

May know configurations, tasks and the shape of tensors. Must not know how a method learns, nor what a page shows.
"""
