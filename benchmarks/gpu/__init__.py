"""The networks alone on one GPU: see `__main__`."""
