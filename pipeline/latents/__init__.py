"""LatentDataset: the Parquet files of a run, read back. Importing it does not load torch."""

from pipeline.latents.dataset import LatentDataset
from pipeline.latents.record import footer

__all__ = ["LatentDataset", "footer"]
