"""Attention that scores, chooses and attends: one file a way to compute it."""
