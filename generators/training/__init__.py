"""How a generator learns, and what all trainers share."""
