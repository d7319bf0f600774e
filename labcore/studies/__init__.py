"""What several runs say together: experiments, the article's questions, explorations, measures, advice, estimates.

May know runs and configurations. Must not know torch, training or charts.
"""
