"""Training with hard extraction in place, on transformers' Trainer."""
