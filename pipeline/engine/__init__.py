"""A queue of tasks, workers of any kind on Ray or without, and what a run leaves behind."""
