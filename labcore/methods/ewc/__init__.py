"""Elastic weight consolidation (EWC): `about` says what it is, `learn` is how it learns."""
