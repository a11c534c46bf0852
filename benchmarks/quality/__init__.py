"""The claims of the ReStyle paper in miniature, measured on portraits that no training has seen."""
