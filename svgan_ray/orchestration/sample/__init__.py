"""Sampling: a model to videos."""
