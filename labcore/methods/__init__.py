"""The methods, a folder each: `about.py` says what it is, without torch; `learn.py` is how it learns.

They are found, never listed. May know configurations, networks and how maps are drawn. Must not know training, nor each
other: what several share is in `shared`.
"""
