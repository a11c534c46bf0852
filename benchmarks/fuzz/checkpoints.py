"""Checkpoints: ours with other headers, torch's and NVIDIA's with other pickles, all with damaged bytes."""

from __future__ import annotations

import io
import json
import pickle
import struct
import sys
import zipfile
from pathlib import Path
from random import Random

import numpy as np
import torch

import encoders
import generators
from benchmarks.fuzz.damage import VALUES, damaged, json_damaged
from benchmarks.fuzz.kinds import Kind
from benchmarks.fuzz.outcome import ROOT
from encoders import inspection
from generators import directions
from generators.files import nvidia_stylegan3, rosinality

sys.path.append(str(ROOT / "tests" / "generators"))
import nvidia_files

DIRECTION = ROOT / "generators" / "weights" / "directions" / "smile.safetensors"
# A call for each of pickle's protocols; none of them may be made.
CALLS = (
    b"cposix\nsystem\n(S'touch ran'\ntR.", b"\x80\x02cbuiltins\nbytearray\nJ\xff\xff\xff\x7f\x85R.",
    b"\x80\x04\x8c\x08builtins\x8c\x04exec\x93\x8c\x01x\x85R.", b"\x80\x02]r\xff\xff\xff\x7f.",
    b"(((((((((((((", b"\x80\x02X\xff\xff\xff\x7fab.", b"\x80\x02}(K\x01K\x02u",
    b"ctorch._utils\n_rebuild_tensor_v2\n)R.",
)  # fmt: skip
N_STYLES, N_WIDE = 10, 128  # of the demo's directions
Originals = dict[str, bytes]


def _originals(folder: Path) -> Originals:
    torch.manual_seed(0)
    config = generators.GeneratorConfig(
        resolution=16, channels=(4, 4, 4), z_dim=4, w_dim=4, n_mapping_layers=1
    )
    generator = generators.Generator(config).requires_grad_(False)
    unet = encoders.UNet(encoders.UNetConfig(16, 6, 4, 6, (8, 8), 2, 4))
    model = encoders.ReStyle(unet, generator, torch.zeros(4), (16, 16))
    encoders.save_inverter(folder / "inverter.safetensors", model)
    generators.save_generator(folder / "generator.safetensors", generator)
    shape = generators.DiscriminatorConfig(resolution=16, channels=(4, 4, 4))
    generators.save_discriminator(
        folder / "discriminator.safetensors", generators.Discriminator(shape)
    )
    (folder / "direction.safetensors").write_bytes(DIRECTION.read_bytes())
    nvidia_files.write(generator, folder / "nvidia.pkl")
    shape3 = generators.StyleGAN3Config(16, (2,) * 14, z_dim=4, w_dim=4, c_dim=2)
    stylegan3 = generators.StyleGAN3Generator(shape3).requires_grad_(False)
    generators.save_generator(folder / "stylegan3.safetensors", stylegan3)
    nvidia_files.dump({"G_ema": nvidia_files.network3(stylegan3)}, folder / "nvidia3.pkl")
    torch.save(nvidia_stylegan3.export(stylegan3), folder / "editing3.pt")
    exported = rosinality.export(generator)
    torch.save(exported, folder / "rosinality.pt")
    torch.save(exported, folder / "old.pt", _use_new_zipfile_serialization=False)
    opts = {"encoder_type": "GradualStyleEncoder", "output_size": 16}
    torch.save({"state_dict": {"encoder.x": torch.zeros(3)}, "opts": opts}, folder / "psp.pt")
    torch.save(torch.ones(1, N_WIDE), folder / "boundary.pt")
    np.save(folder / "boundary.npy", np.ones((1, N_WIDE), np.float32))
    files = {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file()}
    for path in list(folder.iterdir()):
        path.unlink()
    return files


def _write(draw: Random, given: Path, made: Originals) -> None:
    name = draw.choice(list(made))
    data = made[name]
    suffix = name.rpartition(".")[2]
    if draw.random() < 0.35:
        data = damaged(draw, data, first=draw.choice((0.0, 0.0, 0.9)))
    elif suffix == "safetensors":
        data = _other_header(draw, data)
    elif zipfile.is_zipfile(io.BytesIO(data)):
        data = _other_archive(draw, data)
    elif suffix in ("pt", "pkl"):
        data = _other_pickle(draw, data)
    else:
        data = damaged(draw, data)
    if draw.random() < 0.05:
        suffix = draw.choice(("pt", "pkl", "safetensors", "npy", "npz", "pth", "txt"))
    (given / f"{name.partition('.')[0]}.{suffix}").write_bytes(data)


def _other_header(draw: Random, data: bytes) -> bytes:
    """Another JSON in front of the same numbers, or in the record that our files have in it."""
    n = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8 : 8 + n])
    record = header["__metadata__"]
    if draw.random() < 0.6:
        record["restyle"] = json_damaged(draw, json.loads(record["restyle"]))
        text = json.dumps(header)
    else:
        text = json_damaged(draw, header)
    content = text.encode(errors="replace")
    size = (
        len(content) if draw.random() < 0.95 else draw.choice((0, 2**31, 2**62, len(content) + 8))
    )
    return struct.pack("<Q", size) + content + data[8 + n :]


def _other_archive(draw: Random, data: bytes) -> bytes:
    """A torch file whose pickle is another, or whose members are."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as source, zipfile.ZipFile(out, "w") as archive:
        for name in source.namelist():
            content = source.read(name)
            if name.endswith("data.pkl"):
                content = _other_pickle(draw, content)
            elif draw.random() < 0.1:
                content = content[: draw.randrange(len(content) + 1)]
            if draw.random() < 0.98:
                archive.writestr(name, content)
            if draw.random() < 0.02:
                archive.writestr(draw.choice((name.upper(), "../../ran", "/ran")), content)
    return out.getvalue()


def _other_pickle(draw: Random, data: bytes) -> bytes:
    chance = draw.random()
    if chance < 0.15:
        return draw.choice(CALLS)
    if chance < 0.3:
        at = draw.randrange(len(data))
        return data[:at] + draw.choice(CALLS) + data[at:]
    if chance < 0.5:
        value = draw.choice(VALUES)
        shape = draw.choice(("g_ema", "state_dict", "G_ema", "latent_avg", "opts", "x"))
        return pickle.dumps({shape: value, "opts": draw.choice(VALUES)}, draw.choice((0, 2, 4)))
    return damaged(draw, data)


def _file(given: Path) -> Path:
    return next(given.iterdir())


def _generator(_: Random, given: Path) -> None:
    generator = generators.load_generator(_file(given))
    labels = torch.zeros(1, generator.c_dim) if generator.c_dim else None
    w = generator.mapping(torch.zeros(1, generator.config.z_dim), labels=labels)
    generator.synthesis(w[:, None].expand(-1, generator.n_styles, -1))


def _inverter(_: Random, given: Path) -> None:
    model = encoders.load_inverter(_file(given))
    model.invert(torch.zeros(1, 3, *model.input_size), n_steps=1)


def _discriminator(_: Random, given: Path) -> None:
    generators.load_discriminator(_file(given))


def _direction(draw: Random, given: Path) -> None:
    directions.load(_file(given), N_STYLES, N_WIDE, draw.choice((None, None, 0, 7)))


def _described(_: Random, given: Path) -> None:
    inspection.describe(_file(given))


OF_STEM = {"inverter": _inverter, "psp": _inverter, "discriminator": _discriminator}
OF_STEM |= {"direction": _direction, "boundary": _direction}


def _loaded(draw: Random, given: Path) -> None:
    """By what it is for, or now and then by something else."""
    fitting = OF_STEM.get(_file(given).stem, _generator)
    others = (_generator, _inverter, _discriminator, _direction)
    (fitting if draw.random() < 0.85 else draw.choice(others))(draw, given)


def _words(draw: Random, given: Path) -> list[str]:
    file, out = str(_file(given)), given.parent / "out"
    convert = ["convert", file, str(out / draw.choice(("x.safetensors", "x.pt")))]
    return draw.choice((["inspect", file], ["inspect", file], convert))


KIND = Kind(
    "checkpoints",
    _originals,
    _write,
    _words,
    (_loaded, _loaded, _described),
)
