"""One builder of tiny training configs for tests: seconds on one thread."""

from encoders.training.config import EncoderTrainConfig
from encoders.training.distillation_config import DistillationConfig


def distillation(width=8, **changes) -> DistillationConfig:
    """Of 16 px images, with so many channels everywhere."""
    usual = {
        "resolution": 16, "channels": (width,) * 3, "discriminator_channels": (8, 8, 8), "w_dim": width,
        "n_mapping_layers": 2, "widths": (width,) * 3, "n_levels": 1, "batch_size": 4, "n_direct": 2,
        "n_batches": 6, "warm_up": 1,
    }  # fmt: skip
    return DistillationConfig(**usual | changes)


def encoder(**changes) -> EncoderTrainConfig:
    """A U-Net of two levels with style heads, whose loss is the mean squared error."""
    usual = {
        "l2": 1.0, "widths": (8, 8, 8), "n_levels": 2, "batch_size": 4, "n_steps": 3, "n_batches": 10,
        "learning_rate": 1e-3,
    }  # fmt: skip
    return EncoderTrainConfig(**usual | changes)
