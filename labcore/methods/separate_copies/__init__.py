"""Separate copies: `about` says what it is, `learn` is how it learns."""
