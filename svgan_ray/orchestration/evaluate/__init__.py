"""Evaluation: a model's motion against footage."""
