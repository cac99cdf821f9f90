"""Formats that a model is exported to, and how an exported directory is run."""
