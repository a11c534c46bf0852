"""Faults on purpose, and what they cost: ``python -m benchmarks.chaos`` (`make chaos`)."""
