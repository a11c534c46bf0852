"""Fixtures that several tests share: tiny real networks, real shards and the parity cases."""

import io
import os
import sys
import tarfile
import tempfile
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

DATA = Path(__file__).parent / "data"

# Ray keeps exporting metrics from a process after ray.shutdown, and a process that ran tests died half
# a minute later, just after a failed export. What is exported is tested in processes of their own.
os.environ |= {"RAY_metrics_report_interval_ms": str(24 * 3600 * 1000)}
# What is kept of tiny generators is nothing for the user's own cache.
os.environ["XDG_CACHE_HOME"] = str(Path(tempfile.gettempdir()) / "restyle-batch-tests")


# Whoever asks for one of these starts Ray.
# Those tests run in processes of their own (see the Makefile).
RAY_FIXTURES = {"cluster", "joined", "invert_on_ray", "scattered"}


def pytest_collection_modifyitems(items):
    """Mark tests by their fixtures."""
    for item in items:
        if RAY_FIXTURES & set(item.fixturenames):
            item.add_marker(pytest.mark.ray)


@pytest.fixture(scope="session")
def parity():
    """Numbers of the published implementations: ``.folder`` and ``.fill``, which rebuilds the weights."""
    sys.path.insert(0, str(DATA / "parity"))
    import fill
    import fill_sg3

    return SimpleNamespace(folder=DATA / "parity", fill=fill, fill_sg3=fill_sg3)


@pytest.fixture
def tiny_generator():
    """A 32 px StyleGAN2 with random weights, fresh for each test."""
    import torch

    from generators import Generator, GeneratorConfig

    torch.manual_seed(0)
    config = GeneratorConfig(
        resolution=32, channels=(16, 16, 12, 8), z_dim=16, w_dim=16, n_mapping_layers=2
    )
    return Generator(config).requires_grad_(False)


@pytest.fixture(scope="session")
def make_inverter(tmp_path_factory):
    """Write a small inverter (64 px) whose answers differ from image to image; returns its path."""
    import torch

    from encoders import ReStyle, UNet, UNetConfig, save_inverter
    from encoders.restyle import SinglePass
    from generators import Generator, GeneratorConfig

    def make(seed=0, in_channels=6):
        torch.manual_seed(seed)
        config = GeneratorConfig(
            resolution=64, channels=(16, 16, 16, 8, 8), z_dim=16, w_dim=16, n_mapping_layers=2
        )
        generator = Generator(config)
        encoder = UNet(UNetConfig(64, 10, 16, in_channels, widths=(16, 16, 16, 16, 16)))
        for parameter in encoder.parameters():
            if not parameter.abs().sum():
                torch.nn.init.normal_(parameter, std=0.05)
        path = tmp_path_factory.mktemp("model") / "tiny.safetensors"
        kind = ReStyle if in_channels == 6 else SinglePass
        save_inverter(path, kind(encoder, generator, torch.zeros(16), (64, 64)))
        return path

    return make


@pytest.fixture(scope="session")
def tiny_inverter(make_inverter):
    """Path of a small inverter file."""
    return make_inverter()


@pytest.fixture(scope="session")
def stylegan3_inverter(tmp_path_factory):
    """Path of a small inverter (32 px) of a StyleGAN3-R whose answers differ from image to image."""
    import torch

    from encoders import ReStyle, UNet, UNetConfig, save_inverter
    from generators import StyleGAN3Config, StyleGAN3Generator

    torch.manual_seed(0)
    small = {"channel_base": 128, "channel_max": 8, "z_dim": 8, "w_dim": 8, "output_scale": 6.0}
    generator = StyleGAN3Generator(StyleGAN3Config.standard(32, "R", **small))
    encoder = UNet(UNetConfig(32, 16, 8, widths=(8, 8, 8, 8)))
    for parameter in encoder.parameters():
        if not parameter.abs().sum():
            torch.nn.init.normal_(parameter, std=0.05)
    path = tmp_path_factory.mktemp("model") / "stylegan3.safetensors"
    save_inverter(path, ReStyle(encoder, generator, torch.zeros(8), (32, 32)))
    return path


@pytest.fixture(scope="session")
def lpips_files(parity, tmp_path_factory):
    """Paths of LPIPS's two files for AlexNet, with the published names and made-up weights."""
    import torch

    from encoders.metrics.perceptual import LPIPS

    network = LPIPS("alex")
    heads = parity.fill.fill(network.heads.state_dict())
    folder = tmp_path_factory.mktemp("lpips")
    torch.save(parity.fill.fill(network.backbone.state_dict()), folder / "alexnet.pth")
    torch.save({name: weight.abs() for name, weight in heads.items()}, folder / "alex.pth")
    return str(folder / "alexnet.pth"), str(folder / "alex.pth")


@pytest.fixture(scope="session")
def write_tar():
    """Write (name, bytes) members to a tar; returns its path as a string."""

    def write(path, members, mode="w"):
        with tarfile.open(path, mode) as tar:
            for name, data in members:
                info = tarfile.TarInfo(name)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
        return str(path)

    return write


@pytest.fixture(scope="session")
def photo():
    """Bytes of a small photo-like PNG that its number decides."""

    def make(number=0, size=(80, 60)):
        source = np.random.default_rng(number)
        coarse = source.integers(0, 256, (6, 8, 3), dtype=np.uint8)
        data = io.BytesIO()
        Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC).save(data, "png")
        return data.getvalue()

    return make


@pytest.fixture
def fetches():
    """Within it, a list grows by the name of everything that on a GPU would wait for the device."""
    import torch
    from torch.overrides import TorchFunctionMode
    from torch.utils._python_dispatch import TorchDispatchMode

    class Scalars(TorchDispatchMode):  # what bool(), float() and item() come to, in C++ as well
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            if func is torch.ops.aten._local_scalar_dense.default:
                found.append("scalar")
            return func(*args, **(kwargs or {}))

    class Copies(TorchFunctionMode):
        def __torch_function__(self, func, types, args=(), kwargs=None):
            name = getattr(func, "__name__", "")
            if name in ("tolist", "cpu", "numpy", "nonzero"):
                found.append(name)
            return func(*args, **(kwargs or {}))

    found = []

    @contextmanager
    def watching():
        found.clear()
        with Scalars(), Copies():
            yield found

    return watching


@pytest.fixture
def write_latents(tmp_path):
    """Write files of (4, 5) latents in row groups of four; row i of all has latent i, every fifth failed.

    Row i has mse [1, i / 10], identity [None, i / 100] and label_smile i / 2, label_cls i.
    """
    from latent_folders import failed, inverted, write_file

    from pipeline.config import RunConfig
    from pipeline.faces import images

    labels = {"label_smile": "double", "label_cls": "int64", "label_txt": "string"}
    pixel = images.encode_png(np.full((2, 3, 3), 255, np.uint8))

    def row(i, shape, steps):
        told = {"label_smile": i / 2, "label_cls": i, "label_txt": f"text {i}"}
        if i % 5 == 4:
            return failed(i, f"k{i}", n_faces=0, labels=told)
        metrics = {"mse": [1.0, i / 10], "identity": [None, i / 100]}
        latents = np.full((steps, *shape), i, np.float32)
        found = inverted(i, f"k{i}", latents, metrics, labels=told, width=640, height=480)
        found.aligned_image = found.reconstruction = pixel
        return found

    def write(folder="latents", sizes=(6, 5), shape=(4, 5), name="{}.parquet", **settings):
        defaults = {"steps": 2, "metrics": ("mse", "identity"), "align": "none"}
        kept = {"keep_fields": ("json", "txt", "cls"), "labels": labels, "save_images": True}
        config = RunConfig(**{**defaults, **kept, **settings})
        settings = {**config.settings(), "encoder_sha256": "e"}
        first = 0
        for number, n in enumerate(sizes):
            rows = [row(i, shape, config.steps) for i in range(first, first + n)]
            record = {
                "shard": f"{number}.tar",
                "latent_avg": "AACAPwAAAEA=",
                "latent_avg_shape": [2],
            }
            write_file(
                tmp_path / folder,
                name.format(number),
                rows,
                config,
                shape,
                settings,
                row_group_rows=4,
                **record,
            )
            first += n
        return str(tmp_path / folder)

    return write
