"""Damaged and hostile input of every kind, for as long as wanted: `python -m benchmarks.fuzz --help`."""
