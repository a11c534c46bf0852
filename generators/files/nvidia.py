"""NVIDIA's StyleGAN2 ``.pkl`` files -> ours. All knowledge of their layout lives here.

github.com/NVlabs/stylegan2-ada-pytorch (and the StyleGAN2 part of stylegan3) pickles ``dict(G, D, G_ema,
...)`` of modules that carry their own source code. That source is never touched: a module is read as its
class name and the state of its attributes, and its numbers go into the networks of this package.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor

from generators import ops
from generators.files import checkpoint, pickled, torchfile
from generators.files.checkpoint import CheckpointError
from generators.files.pickled import DamagedPickle, Record, RefusedPickle, Span, Window
from generators.files.torchfile import StoredTensor
from generators.stylegan2 import Generator, GeneratorConfig

# Named in such files, and read as descriptions only: arrays belong to other networks than ours.
_NAMES = frozenset(
    {
        "numpy.ndarray",
        "numpy.dtype",
        "numpy.core.multiarray._reconstruct",
        "numpy._core.multiarray._reconstruct",
    }
)
_MAX_DEPTH = 4  # synthesis.b64.conv0.affine
_MAX_MODULES = 1000


@dataclass(frozen=True)
class Module:
    """A pickled network or layer."""

    class_name: str
    state: Mapping[str, Any]  # its attributes

    def children(self, of: str) -> dict[str, Any]:
        """Its ``_modules``, ``_parameters`` or ``_buffers`` that are there."""
        children = self.state.get(of)
        return (
            {k: v for k, v in children.items() if v is not None}
            if isinstance(children, dict)
            else {}
        )


def _module(meta: Any) -> Module:
    """Stands in for ``torch_utils.persistence._reconstruct_persistent_obj``; ignores ``module_src``."""
    if not isinstance(meta, dict) or not isinstance(meta.get("state"), dict):
        raise DamagedPickle("a network without its state")
    return Module(str(meta.get("class_name")), meta["state"])


def _number(file: BinaryIO, dtype: Any, data: Any) -> float | int | bool:
    """Stands in for ``numpy.core.multiarray.scalar``: gains are numpy scalars."""
    code = dtype.args[0] if isinstance(dtype, Record) and dtype.args else None
    if code not in ("f4", "f8", "i4", "i8", "b1") or not isinstance(data, Span) or data.length > 8:
        raise RefusedPickle(f"a numpy scalar of type {code}")
    order = ">" if isinstance(dtype.state, tuple) and ">" in dtype.state else "<"
    raw = Window(file, data.start, data.start + data.length).read(data.length)
    return np.frombuffer(raw, f"{order}{code}")[0].item()


def _empty_dict(*args: Any) -> dict[Any, Any]:
    if args:
        raise RefusedPickle("a dict that is made from other objects")
    return {}


def _makers(file: BinaryIO) -> dict[str, Callable[..., Any]]:
    def storage(data: Span) -> torchfile.Storage:
        return torchfile.read_storage(Window(file, data.start, data.start + data.length))

    return {
        **torchfile.TENSOR_MAKERS,
        "torch_utils.persistence._reconstruct_persistent_obj": _module,
        "torch.storage._load_from_bytes": storage,
        "collections.OrderedDict": _empty_dict,
        "dnnlib.util.EasyDict": _empty_dict,
        "numpy.core.multiarray.scalar": partial(_number, file),
        "numpy._core.multiarray.scalar": partial(_number, file),
    }


def read_network(path: str | os.PathLike) -> Module:
    """``G_ema`` of a file, as a description; nothing is built and no tensor is read.

    Raises:
        CheckpointError: damaged, hostile, or another kind of pickle.
    """
    checkpoint.require_file(path)
    try:
        with open(path, "rb") as file:
            window = Window(file, 0, Path(path).stat().st_size)
            content = pickled.read(window, _makers(file), _NAMES)
    except RefusedPickle as error:
        if str(error).startswith("dnnlib.tflib."):
            raise CheckpointError(
                f"{path} is a TensorFlow network; convert it with legacy.py of "
                "github.com/NVlabs/stylegan2-ada-pytorch first"
            ) from None
        raise checkpoint.refused(path, error) from None
    except DamagedPickle as error:
        raise checkpoint.damaged(path, "NVIDIA pickle", error) from None
    network = content.get("G_ema") if isinstance(content, dict) else None
    if not isinstance(network, Module):
        members = ", ".join(map(str, list(content)[:6])) if isinstance(content, dict) else "no dict"
        raise CheckpointError(
            f"{path} has no network G_ema, so it is not an NVIDIA file ({members})"
        )
    return network


def _walk(module: Module, name: str = "", depth: int = 0) -> dict[str, Module]:
    """Every module below, by its dotted name."""
    modules = {name: module}
    for child_name, child in module.children("_modules").items():
        if not isinstance(child, Module) or depth == _MAX_DEPTH:
            raise DamagedPickle(f"{name} holds something that is not a layer")
        modules |= _walk(child, f"{name}.{child_name}".lstrip("."), depth + 1)
        if len(modules) > _MAX_MODULES:
            raise DamagedPickle(f"more than {_MAX_MODULES} layers")
    return modules


def _tensors(modules: Mapping[str, Module]) -> dict[str, StoredTensor]:
    tensors = {}
    for name, module in modules.items():
        for part in ("_parameters", "_buffers"):
            for key, tensor in module.children(part).items():
                if not isinstance(tensor, StoredTensor):
                    raise DamagedPickle(f"{name}.{key} is not a tensor")
                tensors[f"{name}.{key}".lstrip(".")] = tensor
    return tensors


def _the_same(modules: Mapping[str, Module], kind: str, attribute: str) -> Any:
    """An attribute that all modules of a class must agree on."""
    values = {m.state.get(attribute) for m in modules.values() if m.class_name == kind}
    if len(values) != 1:
        raise DamagedPickle(f"{kind} layers with different values of {attribute}: {values}")
    return values.pop()


def _require_known(modules: Mapping[str, Module]) -> None:
    """Refuse, with the reason, what Generator does not compute."""
    top, names = modules[""].state, set(modules)
    if any(name.startswith("synthesis.L") for name in names):
        raise RefusedPickle("a StyleGAN3 network, another architecture; StyleGAN2 can be read")
    if top.get("c_dim"):
        raise RefusedPickle(
            f"a conditional network (c_dim {top['c_dim']}): its images depend on a label, which no "
            "inversion here can give; networks with c_dim 0 can be read"
        )
    if top.get("img_channels") != 3:
        raise RefusedPickle(f"a network of {top.get('img_channels')} image channels, not 3")
    for name, module in modules.items():
        linear = name.endswith((".affine", ".skip"))
        wanted = {"use_noise": True, "activation": "linear" if linear else "lrelu"}
        for attribute, value in wanted.items():
            if module.state.get(attribute, value) != value:
                raise RefusedPickle(f"{name} with {attribute} {module.state[attribute]!r}")


def _config(modules: Mapping[str, Module], tensors: Mapping[str, StoredTensor]) -> GeneratorConfig:
    top, resolution = modules[""].state, modules[""].state["img_resolution"]
    sizes = [4 * 2**i for i in range(int(math.log2(resolution)) - 1)]
    hidden = tensors["mapping.fc0.weight"].shape[0]
    n_mapping = sum(name.startswith("mapping.fc") for name in modules)
    clamp = _the_same(modules, "SynthesisLayer", "conv_clamp")
    if clamp != _the_same(modules, "ToRGBLayer", "conv_clamp"):
        raise DamagedPickle("conv_clamp differs between convolutions and colours")
    return GeneratorConfig(
        resolution=resolution,
        channels=tuple(tensors[f"synthesis.b{size}.conv1.weight"].shape[0] for size in sizes),
        z_dim=top["z_dim"],
        w_dim=top["w_dim"],
        n_mapping_layers=n_mapping,
        mapping_width=None if hidden == top["w_dim"] else hidden,
        mapping_lr_mul=float(modules["mapping.fc0"].state["bias_gain"]),
        conv_clamp=None if clamp is None else float(clamp),
        architecture=_the_same(modules, "SynthesisBlock", "architecture"),
    )


def _names(config: GeneratorConfig) -> dict[str, str]:
    """Their key -> ours, for every tensor that has a counterpart."""
    names = {"synthesis.b4.const": "synthesis.const", "mapping.w_avg": "mapping.latent_avg"}
    for i in range(config.n_mapping_layers):
        for part in ("weight", "bias"):
            names[f"mapping.fc{i}.{part}"] = f"mapping.layers.{i}.{part}"
    layer = ("weight", "bias", "affine.weight", "affine.bias")
    for level in range(config.n_blocks):
        block = f"synthesis.b{4 * 2**level}"
        for k in (1,) if level == 0 else (0, 1):
            ours = f"synthesis.convs.{2 * level - 1 + k}"
            names |= {f"{block}.conv{k}.{part}": f"{ours}.{part}" for part in layer}
            names[f"{block}.conv{k}.noise_strength"] = f"{ours}.noise_strength"
            names[f"{block}.conv{k}.noise_const"] = f"{ours}.noise"
        if level in config.rgb_levels:
            ours = f"synthesis.to_rgbs.{config.rgb_levels.index(level)}"
            names |= {f"{block}.torgb.{part}": f"{ours}.{part}" for part in layer}
        if level and config.architecture == "resnet":
            names[f"{block}.skip.weight"] = f"synthesis.skips.{level - 1}.weight"
    return names


def _require_filter(tensors: Mapping[str, StoredTensor], file: BinaryIO) -> None:
    """The FIR filters are constants of the architecture, built in ours: they must be the same."""
    expected = ops.fir_kernel(torch.float32, torch.device("cpu"))
    for key in tensors:
        if key.endswith("resample_filter"):
            taps = tensors[key]
            if taps.shape != (4, 4) or not torch.allclose(taps.read(file).float(), expected):
                raise RefusedPickle(f"{key} is not the filter [1, 3, 3, 1]")


def describe(path: str | os.PathLike) -> tuple[GeneratorConfig, dict[str, StoredTensor]]:
    """Config and tensors (under our names, not read yet) of a file's ``G_ema``.

    Raises:
        CheckpointError: the file, or the kind of network, cannot be used; says why.
    """
    network = read_network(path)
    try:
        modules = _walk(network)
        _require_known(modules)
        theirs = _tensors(modules)
        config = _config(modules, theirs)
        with open(path, "rb") as file:
            _require_filter(theirs, file)
    except RefusedPickle as error:
        raise CheckpointError(f"{path} cannot be used: it holds {error}") from None
    except (ValueError, KeyError, IndexError, TypeError, OverflowError) as error:
        raise CheckpointError(f"{path} is not a StyleGAN2 network of NVIDIA: {error}") from None
    names = _names(config)
    own_keys = {key for key in theirs if not key.endswith("resample_filter")}
    problems = [f"missing {key}" for key in names if key not in own_keys]
    problems += [f"unexpected {key}" for key in sorted(own_keys - names.keys())]
    if problems:
        raise CheckpointError(f"{path} is not a complete network: {'; '.join(problems[:5])}")
    return config, {ours: theirs[key] for key, ours in names.items()}


def load(path: str | os.PathLike) -> Generator:
    """``G_ema`` of a file.

    Computes in float32 what the published code computes with ``force_fp32``: ``num_fp16_res`` is a choice
    of speed, made here with ``precision``.

    Raises:
        CheckpointError: the file, or the kind of network, cannot be used; says why.
    """
    config, stored = describe(path)
    if sum(t.n_bytes for t in stored.values()) > Path(path).stat().st_size:
        raise CheckpointError(f"{path} was refused: its tensors are larger than the file")
    tensors: dict[str, Tensor] = {}
    with open(path, "rb") as file:
        for name, tensor in stored.items():
            read = tensor.read(file)
            tensors[name] = read[None] if name.endswith("const") else read
            if name.endswith(".noise"):
                tensors[name] = read[None, None]
    return checkpoint.restore(lambda: Generator(config), tensors, str(path))
