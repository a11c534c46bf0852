"""A picture, or the latent that it shows, in a file of the kind that its name says."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from generators.files import atomic
from pipeline.errors import ConfigError
from pipeline.faces import images

PICTURES: dict[str, Callable[[Image.Image], bytes]] = {
    ".png": lambda picture: images.encode_png(np.asarray(picture)),
    ".jpg": lambda picture: images.encode_jpeg(np.asarray(picture)),
    ".jpeg": lambda picture: images.encode_jpeg(np.asarray(picture)),
    ".webp": lambda picture: _webp(picture),
}
LATENTS: dict[str, Callable[[Tensor], bytes]] = {
    ".npy": lambda latent: _npy(latent),
    ".pt": lambda latent: _pt(latent),
}


def save(path: str | os.PathLike[str], latent: Tensor, picture: Callable[[], Image.Image]) -> Path:
    """Write the picture, or the latent [n_styles, w_dim]; returns where it is.

    Raises:
        ConfigError: the name says no kind of file that is written here, or it cannot be written.
    """
    goal = Path(path).expanduser()
    suffix = goal.suffix.lower()
    if suffix in PICTURES:
        data = PICTURES[suffix](picture())
    elif suffix in LATENTS:
        data = LATENTS[suffix](latent)
    else:
        raise ConfigError(
            f"cannot tell what to write to {goal}; end its name in {', '.join(PICTURES)} for the picture, or "
            f"in {', '.join(LATENTS)} for the latent"
        )
    try:
        goal.parent.mkdir(parents=True, exist_ok=True)
        atomic.write_bytes(goal, data)
    except OSError as error:
        raise ConfigError(f"cannot write {goal} ({error.strerror or error})") from None
    return goal


def _webp(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "WEBP", quality=images.JPEG_QUALITY)
    return buffer.getvalue()


def _npy(latent: Tensor) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, latent.numpy())
    return buffer.getvalue()


def _pt(latent: Tensor) -> bytes:
    """[1, n_styles, w_dim], as `restyle export` writes it, for PTI and StyleCLIP."""
    buffer = io.BytesIO()
    torch.save(latent[None].clone(), buffer)
    return buffer.getvalue()
