"""Samples of tars, Parquet files and photos where they lie: read strictly, labels parsed, folders packed."""
