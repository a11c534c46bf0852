"""Training on shards: one loop for every trainer, on one process or a group of Ray workers."""
