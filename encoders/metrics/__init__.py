"""What tells how good an inversion is: distances, perceptual distance, identity."""
