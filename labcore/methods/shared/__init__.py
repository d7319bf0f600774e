"""What several methods share: settings and costs without torch in `settings.py`, ways of learning in the others."""
