"""The command line, `python -m labcore`: one module for each kind of command.

May know every room. Holds no logic that a page needs too.
"""
