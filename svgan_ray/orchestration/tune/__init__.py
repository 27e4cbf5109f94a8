"""Tuning: many trainings, for the best options."""
