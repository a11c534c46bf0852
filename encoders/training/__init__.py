"""How encoders learn: losses, discriminators, optimizers, and the trainers around them."""
