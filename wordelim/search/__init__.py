"""What methods of search share; the methods themselves are in ``methods``."""
