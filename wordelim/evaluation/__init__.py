"""Metrics, paired statistics, latency."""
