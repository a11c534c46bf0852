"""What is known of a generator's curvature, kept on this machine: it takes seconds to minutes to find."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from encoders.refinement import curvature
from encoders.restyle import ReStyle
from generators.files import atomic, cache
from generators.files.checkpoint import tensors_sha256

_VERSION = 1  # raised when other gradients are taken of the same generator
_NAME = "gradients"


def folder() -> Path:
    """Where they lie: ``restyle-batch/curvature`` in the user's cache."""
    return cache.folder("curvature")


def gradients(model: ReStyle) -> Tensor:
    """`curvature.gradients` of a model, from the cache where they are there; without one, found anew.

    Returns:
        [n, n_styles, w_dim] float32 on the CPU; n by `curvature.n_gradients`.
    """
    generator = model.generator
    n = curvature.n_gradients(generator)
    shape = (n, generator.n_styles, generator.w_dim)
    # No home folder, or none that can be written to: nothing is kept.
    path = None
    with suppress(OSError, RuntimeError, SafetensorError):
        path = folder() / _file(model, n)
        kept = load_file(path).get(_NAME)
        if kept is not None and kept.shape == shape and bool(kept.isfinite().all()):
            return kept.float()
    found = curvature.gradients(model, n)
    if path is not None:
        with suppress(OSError):
            _keep(path, found)
    return found


def _file(model: ReStyle, n: int) -> str:
    height, width = model.input_size
    view = f"{model.view.rows}{model.view.columns}".translate({ord(c): "" for c in "(), "})
    weights = tensors_sha256(model.generator.state_dict())
    return f"{weights[:32]}-{height}x{width}-{view}-{n}-v{_VERSION}.safetensors"


def _keep(path: Path, found: Tensor) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic.written(path) as part:
        save_file({_NAME: found}, part)
