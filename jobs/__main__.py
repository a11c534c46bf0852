"""``python -m jobs`` is ``restyle``."""

from jobs.cli import main

main()
