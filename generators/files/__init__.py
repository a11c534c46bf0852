"""Files from strangers: read as data, never run."""
