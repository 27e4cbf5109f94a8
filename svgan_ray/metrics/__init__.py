"""Measures the quality of generated motion in latent space."""
