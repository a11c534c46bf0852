"""How encoders learn: losses, critics, optimizers, and the trainers around them."""
