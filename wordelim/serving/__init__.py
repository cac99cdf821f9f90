"""Compressed directories in the engines that people serve models with."""
