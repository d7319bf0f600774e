"""What is inside a network, drawn: a kind of map is one record, and pages know none of them by name.

May know runs and how charts are made. Must not know a method: what a method shows inside it brings along itself.
"""
