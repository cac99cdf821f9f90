"""How the counts are found: one module a method."""
