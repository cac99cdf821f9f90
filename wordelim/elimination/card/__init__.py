"""A whole encoder on a card: counts from the host, few launches, one CUDA graph for batches of like size."""
