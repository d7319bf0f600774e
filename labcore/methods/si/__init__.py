"""Synaptic intelligence (SI): `about` says what it is, `learn` is how it learns."""
