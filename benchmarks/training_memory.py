"""Memory of a batch in training StyleGAN2: what is told before it, and the peak of a process that makes one.

``python -m benchmarks.training_memory`` starts a process for each of a few settings, one after the other.
"""

from __future__ import annotations

import resource
import subprocess
import sys

import torch

from generators.training.config import GeneratorTrainConfig
from generators.training.trainer import GeneratorTrainer

WIDE, NARROW = (64, 64, 64, 64, 32, 16), (8, 8, 8, 8, 8, 8)
SETTINGS = (
    {"resolution": 64, "channels": (32,) * 5, "batch_size": 64},
    {"resolution": 128, "channels": WIDE, "batch_size": 16},
    {"resolution": 128, "channels": WIDE, "batch_size": 32},
    {"resolution": 128, "channels": WIDE, "batch_size": 32, "accumulate": 2},
    {"resolution": 128, "channels": WIDE, "batch_size": 32, "precision": "bf16"},
    {"resolution": 128, "channels": WIDE, "batch_size": 32, "discriminator_channels": NARROW},
    {"resolution": 128, "channels": NARROW, "batch_size": 32, "discriminator_channels": WIDE},
)


def measure(number: int) -> str:
    """One batch with both penalties in this process, beyond what it held before: told and measured, MB."""
    config = GeneratorTrainConfig(**SETTINGS[number])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    trainer = GeneratorTrainer(config, "cpu")
    told = trainer.need().n_bytes
    trainer.step(torch.rand(config.batch_size, 3, *trainer.input_size) * 2 - 1)
    found = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before
    return f"{told / 1e6:6.0f} {found / 1e6:6.0f}  {SETTINGS[number]}"


def main() -> None:
    """Print a line for each setting."""
    if len(sys.argv) > 1:
        print(measure(int(sys.argv[1])))
        return
    print("  told  found")
    for number in range(len(SETTINGS)):
        subprocess.run([sys.executable, "-m", __spec__.name, str(number)], check=True)


if __name__ == "__main__":
    main()
