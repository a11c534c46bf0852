"""Pixels to aligned crops and back: pure functions, no Ray, no files."""
