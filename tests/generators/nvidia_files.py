"""Writes generators as NVIDIA's StyleGAN2-ADA and StyleGAN3 pickles, whose own classes are not needed."""

import pickle
import sys
import types
from unittest import mock

import numpy as np
import torch

from generators.files import nvidia, nvidia_stylegan3

SOURCE = "raise SystemExit('module_src was executed')"


def reconstruct(meta):
    raise AssertionError("only named, never called")


class Persistent:
    """Pickles as a module that carries its source."""

    def __init__(self, class_name, source=SOURCE, **state):
        self.class_name, self.source, self.state = class_name, source, state
        for kind in ("_modules", "_parameters", "_buffers"):
            self.state.setdefault(kind, {})

    def __reduce__(self):
        meta = {
            "type": "class",
            "version": 6,
            "module_src": self.source,
            "class_name": self.class_name,
            "state": self.state,
        }
        return reconstruct, (meta,)


def dump(content, path):
    """Pickle ``content`` with the names of NVIDIA's modules in it."""
    module = types.ModuleType("torch_utils.persistence")
    module._reconstruct_persistent_obj = reconstruct
    reconstruct.__module__ = module.__name__
    reconstruct.__qualname__ = reconstruct.__name__ = "_reconstruct_persistent_obj"
    package = types.ModuleType("torch_utils")
    names = {"torch_utils": package, "torch_utils.persistence": module}
    with mock.patch.dict(sys.modules, names), open(path, "wb") as file:
        pickle.dump(content, file)


def module_at(root, path):
    for name in path.split("."):
        root = root.state["_modules"].setdefault(name, Persistent("FullyConnectedLayer"))
    return root


def network(generator, **changed):
    """A generator of ours as a tree of modules under their names.

    ``changed`` replaces attributes of the network itself.
    """
    config = generator.config
    top = {
        "z_dim": config.z_dim,
        "w_dim": config.w_dim,
        "c_dim": config.c_dim,
        "img_resolution": config.resolution,
        "img_channels": 3,
        "_modules": {
            "synthesis": Persistent("SynthesisNetwork"),
            "mapping": Persistent("MappingNetwork"),
        },
    }
    root = Persistent("Generator", **(top | changed))
    ours = generator.state_dict()
    for theirs, name in nvidia._names(config).items():
        path, _, key = theirs.rpartition(".")
        tensor = ours[name].clone()
        tensor = tensor[0] if key == "const" else tensor[0, 0] if key == "noise_const" else tensor
        kind = "_buffers" if key in ("noise_const", "w_avg") else "_parameters"
        module_at(root, path).state[kind][key] = tensor
    for i in range(config.n_mapping_layers):
        layer = module_at(root, f"mapping.fc{i}")
        layer.state |= {"bias_gain": config.mapping_lr_mul, "activation": "lrelu"}
    for name, block in root.state["_modules"]["synthesis"].state["_modules"].items():
        block.class_name = "SynthesisBlock"
        block.state |= {"architecture": config.architecture, "resolution": int(name[1:])}
        block.state["_buffers"]["resample_filter"] = filter_taps()
        for child, layer in block.state["_modules"].items():
            if child.startswith("conv"):
                layer.class_name = "SynthesisLayer"
                layer.state |= {"conv_clamp": config.conv_clamp, "activation": "lrelu"}
                layer.state |= {"use_noise": True}
            elif child == "torgb":
                layer.class_name = "ToRGBLayer"
                layer.state["conv_clamp"] = config.conv_clamp
            else:
                layer.class_name = "Conv2dLayer"
            for affine in layer.state["_modules"].values():
                affine.state["activation"] = "linear"
    return root


def network3(generator):
    """The same for a StyleGAN3, with numpy's arrays and numbers where NVIDIA's files have them."""
    config, ours = generator.config, generator.state_dict()
    dims = {name: getattr(config, name) for name in ("z_dim", "w_dim", "c_dim")}
    root = Persistent("Generator", **dims, img_resolution=config.resolution, img_channels=3)
    root.state["_modules"] = {
        "synthesis": Persistent("SynthesisNetwork", output_scale=config.output_scale),
        "mapping": Persistent("MappingNetwork", embed=None),
    }
    for theirs, name in nvidia_stylegan3.names(config).items():
        path, _, key = theirs.rpartition(".")
        kind = "_parameters" if key in ("weight", "bias") else "_buffers"
        module_at(root, path).state[kind][key] = ours[name].clone()
    for i in range(config.n_mapping_layers):
        module_at(root, f"mapping.fc{i}").state["bias_gain"] = np.float64(config.mapping_lr_mul)
    band = config.first_band
    first = module_at(root, "synthesis.input")
    first.class_name = "SynthesisInput"
    first.state |= {"size": np.array([band.size] * 2), "sampling_rate": np.float64(band.rate)}
    first.state |= {"bandwidth": band.cutoff}
    for i, shape in enumerate(config.layers):
        layer = module_at(root, f"synthesis.{nvidia_stylegan3.layer_name(i, shape)}")
        layer.class_name = "SynthesisLayer"
        before, behind = map(np.int64, shape.padding)
        layer.state |= {"is_torgb": shape.is_colours, "conv_clamp": config.conv_clamp}
        layer.state |= {"padding": [before, behind, before, behind], "use_fp16": np.bool_(True)}
        layer.state |= {"up_factor": np.int64(shape.up), "down_factor": shape.down}
        if shape.is_colours:
            layer.state["_buffers"] |= {"up_filter": None, "down_filter": None}
    return root


def filter_taps():
    taps = torch.tensor([1.0, 3.0, 3.0, 1.0])
    return torch.outer(taps, taps) / 64


def write(generator, path, **changed):
    """A generator of ours as ``dict(G, D, G_ema, ...)``."""
    root = network(generator, **changed)
    dump({"G": root, "D": None, "training_set_kwargs": {}, "G_ema": root}, path)
    return root
