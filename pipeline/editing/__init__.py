"""Edits of a latent data set: directions learned, applied on the engine, drawn, and pasted back."""
