"""The methods, each in a folder: `about.py` says what it is, without torch, and `learn.py` is how it learns.

They are found, never listed. May know configurations, networks and how maps are drawn. Must not know training, nor each
other; what several methods share is in `shared`.
"""
