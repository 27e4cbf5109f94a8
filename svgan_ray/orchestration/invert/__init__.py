"""Inversion: footage to latents in the store."""
