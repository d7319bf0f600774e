"""Learning without forgetting (LwF): `about` says what it is, `learn` is how it learns."""
