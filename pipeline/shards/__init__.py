"""WebDataset tars: read strictly, labels parsed, folders packed."""
