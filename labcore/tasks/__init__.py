"""Where pictures come from: the tasks that there are, their pictures at any size, and files that others publish.

May know nothing else of the lab except what other packages announce. Nothing here loads torch: pages read this room.
"""
