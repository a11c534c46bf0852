"""Samples of tars, of Parquet files and of photos where they lie: read strictly, labels parsed, folders packed."""
