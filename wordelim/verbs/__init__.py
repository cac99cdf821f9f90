"""One file a verb: what stands behind the public names."""
