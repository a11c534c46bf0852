"""Ray: a queue of tasks, workers of any kind, and what a run leaves behind."""
