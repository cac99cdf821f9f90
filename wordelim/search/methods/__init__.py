"""How keep counts are found: one file a method, which bears its name and ends in ``register(name, method)``."""
