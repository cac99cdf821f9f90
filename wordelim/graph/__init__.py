"""How a network is changed: traced into a graph, rewritten there, put back in its place."""
