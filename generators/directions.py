"""Directions in latent space: InterFaceGAN, GANSpace and SeFa, from files or from a generator's weights.

A direction is a tensor [n_styles, w_dim]; an edit adds a multiple of it to a latent. What follows from
that: several edits at once are one direction, their sum, and an edit of some layers is a direction that is
zero at the others.
"""

from __future__ import annotations

import math
import os
import zipfile
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import IO, Any

import torch
from numpy.lib.format import (
    read_array,
    read_array_header_1_0,
    read_array_header_2_0,
    read_magic,
)
from torch import Tensor

from generators.files import checkpoint
from generators.files.checkpoint import CheckpointError, Header
from generators.style_based import StyleBasedGenerator
from generators.stylegan2 import Generator
from generators.stylegan3 import StyleGAN3Generator
from generators.stylegan3_config import N_LAYERS

KIND = "direction"
DEMO = Path(str(resources.files("generators") / "weights" / "directions"))
SUFFIXES = (".safetensors", ".pt", ".pth", ".npy", ".npz")
# Names of the principal components, their mean and standard deviations: as e4e and ReStyle keep GANSpace's
# results, and as GANSpace itself does.
_PCA_NAMES = (("comp", "mean", "std"), ("lat_comp", "lat_mean", "lat_stdev"))
# More than any file of directions has, unpacked: a thousand components of 18 x 512 are 38 MB.
MAX_UNPACKED_BYTES = 1 << 27


def load(
    path: str | os.PathLike, n_styles: int, w_dim: int, component: int | None = None
) -> Tensor:
    """A direction from a file, [n_styles, w_dim] float32.

    - ``.safetensors``: one that :func:`save` wrote;
    - ``.pt``, ``.npy``: InterFaceGAN's boundaries (arXiv 2005.09635), [w_dim] or [1, w_dim] for all layers
      alike, or [n_styles, w_dim]; stored on whatever device;
    - ``.pt``, ``.npz`` with components, mean and standard deviations: GANSpace (arXiv 2004.02546). The
      direction is a component times its standard deviation, so that strengths count in those.

    Args:
        component: of a GANSpace file, counted from 0.

    Raises:
        CheckpointError: missing, damaged, hostile, or a direction of another latent space.
    """
    content = _content(Path(path))
    pca = _pca(content)
    if pca is not None:
        return _checked(_component(path, *pca, component), path, n_styles, w_dim)
    if component is not None:
        raise CheckpointError(f"{path} holds one direction; leave out the component {component}")
    if isinstance(content, dict):
        raise CheckpointError(
            f"{path} holds {', '.join(map(str, list(content)[:5])) or 'nothing'}, which is neither a "
            "direction nor GANSpace's comp, mean and std"
        )
    return _checked(content, path, n_styles, w_dim)


def _content(path: Path) -> Any:
    """What the file holds; numpy's arrays as tensors."""
    if not os.path.isfile(path):
        raise CheckpointError(f"no direction at {path}; restyle learn-direction writes one")
    if path.suffix == ".safetensors":
        return checkpoint.load(path, KIND)[1].get("direction", {})
    if path.suffix in (".pt", ".pth"):
        return checkpoint.read_pt(path)
    if path.suffix not in (".npy", ".npz"):
        raise CheckpointError(
            f"{path} ends in none of {', '.join(SUFFIXES)}, the kinds of direction files that can be read"
        )
    try:
        return _arrays(path)
    except CheckpointError:
        raise
    except Exception as error:  # numpy's readers fail in many ways
        raise checkpoint.damaged(path, "numpy file", error) from None


def _arrays(path: Path) -> Any:
    """Never pickled objects; and no more memory than the file, or a fixed amount, can fill."""
    if path.suffix == ".npy":
        with open(path, "rb") as stream:
            return _array(stream, path.stat().st_size)
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        if sum(member.file_size for member in members) > MAX_UNPACKED_BYTES:
            raise CheckpointError(f"{path} unpacks to more than any direction file should hold")
        # Others than numpy's own may ask for gigabytes to unpack a few bytes.
        if any(m.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) for m in members):
            raise CheckpointError(
                f"{path} is compressed as numpy never does; save it with numpy again"
            )
        wanted = {name for names in _PCA_NAMES for name in names}
        sizes = {m.filename.removesuffix(".npy"): (m.filename, m.file_size) for m in members}
        arrays = {}
        for name in wanted & sizes.keys():
            with archive.open(sizes[name][0]) as stream:
                arrays[name] = _array(stream, sizes[name][1])
        return arrays or dict.fromkeys(sizes)


def _array(stream: IO[bytes], n_bytes: int) -> Tensor:
    """An array of numbers; the header is judged first: entries of no bytes may be any number of them."""
    read = {(1, 0): read_array_header_1_0, (2, 0): read_array_header_2_0}
    shape, _, dtype = read[read_magic(stream)](stream)
    if dtype.kind not in "fiub":
        raise ValueError(f"its entries are no numbers but {str(dtype)[:40]}")
    if min(shape, default=1) < 0 or math.prod(shape) * dtype.itemsize > n_bytes:
        raise ValueError("its header claims more than the file holds")
    stream.seek(0)
    array = read_array(stream, allow_pickle=False)
    return torch.from_numpy(array.astype(dtype.newbyteorder("="), copy=False))


def _pca(content: Any) -> tuple[Any, Any] | None:
    """Components and standard deviations, where these are what the file holds."""
    for comp, _, std in _PCA_NAMES:
        if isinstance(content, dict) and comp in content and std in content:
            return content[comp], content[std]
    return None


def _component(
    path: str | os.PathLike, components: Any, deviations: Any, component: int | None
) -> Tensor:
    for values in (components, deviations):
        if not isinstance(values, Tensor) or not values.ndim or len(values) != len(components):
            raise CheckpointError(f"{path} does not hold a standard deviation for each component")
    if component is None or not 0 <= component < len(components):
        raise CheckpointError(
            f"{path} holds {len(components)} components; name one, from {path}:0 to "
            f"{path}:{len(components) - 1}"
        )
    return components[component].float() * deviations[component].float().reshape(-1)[:1]


def _checked(values: Any, path: str | os.PathLike, n_styles: int, w_dim: int) -> Tensor:
    if not isinstance(values, Tensor) or values.is_complex():
        raise CheckpointError(f"{path} holds a {type(values).__name__}, where a tensor is needed")
    shape = list(values.shape)
    rows = values.detach().reshape(-1, shape[-1]) if shape and values.numel() else values
    if (
        rows.ndim != 2
        or rows.shape[1] != w_dim
        or len(rows) not in (1, n_styles)
        or not rows.numel()
    ):
        raise CheckpointError(
            f"{path} holds a direction of shape {shape}, but these latents have {n_styles} style "
            f"vectors of {w_dim}; pass a direction for the generator of these latents"
        )
    rows = rows.float()
    if not rows.isfinite().all():
        raise CheckpointError(f"{path} holds a direction with NaN or infinity; get the file again")
    return rows.expand(n_styles, -1).contiguous()


def demo_path(name: str) -> Path:
    """The packaged direction of the demo's generator.

    Raises:
        CheckpointError: none has this name.
    """
    path = DEMO / f"{name}.safetensors"
    if not path.exists():
        names = ", ".join(sorted(f"demo:{file.stem}" for file in DEMO.glob("*.safetensors")))
        raise CheckpointError(f"there is no direction demo:{name}; there are {names}")
    return path


def save(path: str | os.PathLike, direction: Tensor, about: dict[str, Any], notes: str) -> None:
    """Write a direction [n_styles, w_dim] as safetensors.

    Args:
        about: how it came about, for the header.
        notes: one line for people.
    """
    checkpoint.save(path, Header(KIND, about, notes=notes), {"direction": direction})


def sefa(generator: StyleBasedGenerator, component: int, layers: Sequence[int]) -> Tensor:
    """Closed-form factorisation (SeFa, arXiv 2007.06600, equation 7), [n_styles, w_dim] float32.

    The direction of unit length along which the style vectors of some layers change their modulation
    most (component 0), then second most, and so on; it is zero at the other layers. Rows of the layers'
    weights are brought to unit length first, as in the authors' code.

    Args:
        layers: style vectors, counted from 0. (The last one colours only, and has no say; neither has the
            first of a StyleGAN3, which turns and shifts the input.)

    Raises:
        ValueError: no such component, or no layer with a convolution.
    """
    modulating = _modulating(generator)
    weights = [modulating[i] for i in layers if i in modulating]
    if not weights:
        raise ValueError(f"SeFa needs one of the layers {min(modulating)} to {max(modulating)}")
    if not 0 <= component < generator.w_dim:
        raise ValueError(f"SeFa has the components 0 to {generator.w_dim - 1} here")
    rows = torch.nn.functional.normalize(torch.cat(weights).double().cpu(), dim=1)
    vector = torch.linalg.eigh(rows.T @ rows).eigenvectors[:, -1 - component]
    # The sign of an eigenvector is arbitrary; the same on every machine all the same.
    vector = vector * vector[vector.abs().argmax()].sign()
    return at_layers(vector.float().expand(generator.n_styles, -1), layers)


def _modulating(generator: StyleBasedGenerator) -> dict[int, Tensor]:
    """By style vector, the weight [channels, w_dim] that makes the modulation of a convolution of it."""
    if isinstance(generator, StyleGAN3Generator):
        convs, first = list(generator.synthesis.layers)[:N_LAYERS], 1
    else:
        assert isinstance(generator, Generator), "there are two kinds"
        convs, first = list(generator.synthesis.convs), 0
    return {first + i: conv.get_parameter("affine.weight").detach() for i, conv in enumerate(convs)}


def at_layers(direction: Tensor, layers: Sequence[int]) -> Tensor:
    """The direction at some layers, zero at the others.

    Args:
        layers: style vectors, counted from 0.

    Raises:
        ValueError: a layer that the direction does not have.
    """
    n_styles = len(direction)
    if not layers or not all(0 <= layer < n_styles for layer in layers):
        raise ValueError(f"layers must lie in 0 to {n_styles - 1}")
    kept = torch.zeros_like(direction)
    kept[list(layers)] = direction[list(layers)]
    return kept


def apply(latents: Tensor, direction: Tensor, strength: float | Tensor) -> Tensor:
    """``latents + strength * direction``: [N, n_styles, w_dim]; one strength, or one a latent [N]."""
    if isinstance(strength, Tensor):
        strength = strength.reshape(-1, 1, 1)
    return latents + strength * direction
