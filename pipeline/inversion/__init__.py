"""From a shard to rows of latents: the first worker of the engine."""
