"""LatentDataset: the Parquet files of a run, read back. Importing it does not load torch."""

from pipeline.latents.dataset import LatentDataset
from pipeline.latents.schema import footer

__all__ = ["LatentDataset", "footer"]
