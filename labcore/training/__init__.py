"""Training: the loop that yields a run's events, what it measures on the way, and the worker that takes runs.

May know every other room but the command line. Only the worker is read by pages, and loads torch when it begins.
"""
