"""``python -m wordelim``."""

from wordelim.cli import main

main()
