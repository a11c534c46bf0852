"""The commands that use a checkpoint, as `restyle inspect` and `restyle models` print them."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

FASTER = "faster: add --precision fp16 on a GPU, bf16 on a CPU (docs/models.md has their errors)"


def of_inverter(
    model: str, subject: str, one_step: bool = False, first: str = "", n_steps: int = 5
) -> Iterator[str]:
    """From a folder of photos to latents.

    Args:
        subject: of its pictures: "face", "other" or "unknown".
        one_step: it is no ReStyle encoder, and takes no more.
        first: a checkpoint that takes the first step, after which this one goes on.
        n_steps: of both together then.
    """
    models = f"--model {shlex.quote(first or model)}" + (
        f" --then {shlex.quote(model)} --steps {n_steps}" if first else ""
    )
    flags = (" --steps 1" if one_step else "") + (" --align none" if subject == "other" else "")
    yield f"restyle invert photos/ --out latents/ {models}{flags}"


def of_generator(file: str) -> Iterator[str]:
    """An encoder for a generator, or its pictures in place of another's."""
    file = shlex.quote(file)
    yield f"restyle train encoder 'shards/*.tar' --generator {file} --out encoder/"
    yield "restyle invert photos/ --out latents/ --model encoder/best.safetensors"


def of_kind(kind: str, file: str) -> Iterator[str]:
    """Of the other files of this project."""
    file = shlex.quote(file)
    if kind == "direction":
        yield f"restyle edit latents/ --out edited/ --direction {file} --save-images"
    if kind == "discriminator":
        yield (
            "restyle train generator 'shards/*.tar' --out gan/ --start-from generator.safetensors "
            f"--discriminator-from {file}"
        )
