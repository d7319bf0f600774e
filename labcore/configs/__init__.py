"""What a run is: configurations, their fields, presets and backbones, all of it frozen, validated and hashable.

May know the tasks, and finds the methods by discovery. Must not know torch, nor anything that runs, stores or draws.
"""
