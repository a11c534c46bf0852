"""Writes generators as NVIDIA's StyleGAN2-ADA pickles, whose own classes are not needed for it."""

import pickle
import sys
import types
from unittest import mock

import torch

from generators.files import nvidia

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
        "c_dim": 0,
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


def filter_taps():
    taps = torch.tensor([1.0, 3.0, 3.0, 1.0])
    return torch.outer(taps, taps) / 64


def write(generator, path, **changed):
    """A generator of ours as ``dict(G, D, G_ema, ...)``."""
    root = network(generator, **changed)
    dump({"G": root, "D": None, "training_set_kwargs": {}, "G_ema": root}, path)
    return root
