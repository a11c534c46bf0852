"""The pipeline: shards in, Parquet out. Importing it loads neither torch, ray nor dlib."""

from pipeline.latents import LatentDataset

__all__ = ["LatentDataset"]
