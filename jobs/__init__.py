"""The commands of ``restyle``, one file each. Nothing imports jobs."""
