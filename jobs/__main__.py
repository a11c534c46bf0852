"""``python -m jobs`` is ``restyle``."""

from jobs.cli import program

program()
