"""Latent codes of a subject: clips, a linear basis, training windows."""
