"""Memory aware synapses (MAS): `about` says what it is, `learn` is how it learns."""
