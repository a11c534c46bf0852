"""What training programs leave in a .pt beside tensors, and what strangers would put in its place."""

import argparse
import collections
import pathlib
import pickle
import sys
import time
import types
import zipfile

import memory
import numpy as np
import pytest
import torch

from generators import CheckpointError, directions, load_generator
from generators.files import checkpoint, rosinality, settings

MEGABYTE = "x" * (1 << 20)


class Calls:
    """Pickles as a call."""

    def __init__(self, function, *args):
        self.call = function, args

    def __reduce__(self):
        return self.call


@pytest.fixture
def refused(tmp_path):
    """Read a .pt of some content; demand a short refusal, at once and in little memory."""

    def read(content, says, name="h.pt"):
        path = tmp_path / name
        if isinstance(content, bytes):
            torch.save({}, tmp_path / "plain.pt")
            with zipfile.ZipFile(tmp_path / "plain.pt") as old, zipfile.ZipFile(path, "w") as new:
                for member in old.namelist():
                    data = content if member.endswith("data.pkl") else old.read(member)
                    new.writestr(member, data)
        else:
            torch.save(content, path)
        start = time.monotonic()
        with memory.peak() as used, pytest.raises(CheckpointError, match=says) as error:
            checkpoint.read_pt(path)
        assert time.monotonic() - start < 10
        assert used() < 100 << 20
        assert len(str(error.value)) < 1100
        return str(error.value)

    return read


@pytest.mark.parametrize("zipped", [True, False])
def test_paths_and_numbers_of_settings_are_data(zipped, tiny_generator, tmp_path):
    opts = {
        "exp_dir": pathlib.Path("/experiments/a b"),
        "data": pathlib.PureWindowsPath("C:/data"),
        "lr": np.float64(0.25),
        "half": np.float16(0.5),
        "n_iters_per_batch": np.int64(5),
        "start_from_latent_avg": np.bool_(True),
        "big": np.array(7, ">i4")[()],
        "mean": np.arange(6.0).reshape(2, 3),
        "dtype": np.dtype("float32"),
        "names": np.array(["a", "b"]),
    }
    content = {
        "args": argparse.Namespace(**opts),
        "opts": opts,
        **rosinality.export(tiny_generator),
    }
    path = tmp_path / "g.pt"
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    load_generator(path)
    for read in (vars(checkpoint.load_pt(path)["args"]), checkpoint.load_pt(path)["opts"]):
        assert (read["exp_dir"], read["lr"], read["half"]) == ("/experiments/a b", 0.25, 0.5)
        assert (read["n_iters_per_batch"], read["start_from_latent_avg"], read["big"]) == (
            5,
            True,
            7,
        )
        assert isinstance(read["mean"], settings.Array)
        assert isinstance(read["names"], settings.Array)


def test_no_class_of_pathlib_or_numpy_is_made(tmp_path):
    torch.save({"a": pathlib.Path("x"), "b": np.float64(1), "c": np.ones(3)}, tmp_path / "a.pt")
    read = checkpoint.load_pt(tmp_path / "a.pt")
    assert [type(value) for value in read.values()] == [str, float, settings.Array]


def test_stand_ins_take_what_comes():
    assert settings.path(*["a" * 1000] * 10) == "(a path)"
    assert settings.path(1) == "(a path)"
    assert settings.scalar(None, b"") == "(a number)"
    assert settings.scalar(settings.DType("f8"), b"1" * 1000) == "(a number)"
    assert settings.scalar(settings.DType("V1000000000"), b"1") == "(a number)"
    assert settings.DType(["f8"]).code == ""


def repeated(call, n, *parts):
    """A pickle of a list of n equal calls; the parts are marked by their letters: s the long text."""
    return b"\x80\x02" + call + b"]" + b"".join(parts) * n + b"."


def test_one_text_turned_into_bytes_again_and_again(refused):
    text = MEGABYTE.encode()
    begin = b"X" + len(text).to_bytes(4, "little") + text + b"q\x000"
    each = b"c_codecs\nencode\nh\x00X\x06\x00\x00\x00latin1\x86Ra"
    refused(repeated(begin, 20_000, each), "texts of")
    other = b"c_codecs\nencode\nh\x00X\x06\x00\x00\x00utf-32\x86Ra"
    refused(repeated(begin, 20_000, other), "bytes that are made in an unusual way")


@pytest.mark.parametrize(
    "name", ["__builtin__\nset", "collections\nCounter", "collections\nOrderedDict"]
)
def test_one_text_turned_into_containers(name, refused):
    text = "".join(map(chr, range(0x100, 0xD000))).encode()
    begin = b"X" + len(text).to_bytes(4, "little") + text + b"q\x000"
    each = b"c" + name.replace("__builtin__", "builtins").encode() + b"\nh\x00\x85Ra"
    refused(repeated(begin, 20_000, each), "made from a text")


def test_a_tensor_by_way_of_another_function(refused):
    class Hidden:
        def __init__(self, function, args):
            self.args = function, torch.nn.Parameter, args, {}

        def __reduce__(self):
            return torch._tensor._rebuild_from_type_v2, self.args

    storage = torch.ones(1).storage()
    huge = (storage, 0, (1 << 17, 1 << 17), (0, 0), False, collections.OrderedDict())
    refused({"a": Hidden(torch._utils._rebuild_tensor_v2, huge)}, "over a storage of 1 numbers")
    refused({"a": Hidden(collections.OrderedDict, ())}, "something else than torch's own")


def test_a_network_saved_whole_is_named_with_three_lines(refused, monkeypatch):
    for module, name in (("training.networks", "Generator"), ("models.psp", "pSp")):
        made = types.ModuleType(module)
        monkeypatch.setitem(sys.modules, module.partition(".")[0], types.ModuleType("parent"))
        kind = type(name, (torch.nn.Linear,), {"__module__": module})
        setattr(made, name, kind)
        monkeypatch.setitem(sys.modules, module, made)
        text = refused(
            kind(2, 2), f"a whole network .* {module}.{name}, as PTI does", name="model_X.pt"
        )
        assert "import pickle, torch; G = torch.load('model_X.pt', map_location='cpu'" in text
        assert "pickle.dump({'G_ema': G}, open('G.pkl', 'wb'))" in text
        assert "from its author" not in text


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((0,)),
        np.zeros((3, 0)),
        np.zeros((0, 16)),
        np.zeros((0,), "V1000000000"),
        np.zeros((0,), "S1000000000"),
        np.zeros((3,), "S0"),
        np.zeros((3,), "V0"),
        np.zeros(16, [("a", "f4"), ("b", "f4")]),
        np.zeros(()),
        np.array(["a"] * 16),
        np.zeros(16, "M8[s]"),
        np.zeros((1,) * 32 + (15,)),
    ],
    ids=range(12),
)
@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_arrays_that_are_no_directions(array, suffix, tmp_path):
    path = tmp_path / f"d{suffix}"
    np.save(path, array) if suffix == ".npy" else np.savez(path, comp=array, mean=array, std=array)
    with memory.peak() as used, pytest.raises(CheckpointError):
        directions.load(path, 8, 16, 0 if suffix == ".npz" else None)
    assert used() < 100 << 20


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [("(10000000000,)", "<f8"), ("(1,)", "V9999999999"), ("(1000000000000000000,)", "V0"), ("(-1,)", "<f4"),
     ("(" * 3000 + ")" * 3000, "<f4"), ("(9" + "9" * 5000 + ",)", "<f4"), ("(0,)", "(1000000000,)f8")],
    ids=range(7),
)  # fmt: skip
@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_headers_of_arrays_that_claim_any_size(shape, dtype, suffix, tmp_path):
    header = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    data = b"\x93NUMPY\x02\x00" + len(header).to_bytes(4, "little") + header + bytes(64)
    path = tmp_path / f"d{suffix}"
    if suffix == ".npy":
        path.write_bytes(data)
    else:
        with zipfile.ZipFile(path, "w") as archive:
            for name in ("comp", "mean", "std"):
                archive.writestr(f"{name}.npy", data)
    start = time.monotonic()
    with memory.peak() as used, pytest.raises(CheckpointError):
        directions.load(path, 8, 16, 0 if suffix == ".npz" else None)
    assert used() < 100 << 20
    assert time.monotonic() - start < 10


def test_files_of_two_kinds(tmp_path):
    np.savez(tmp_path / "z.npz", comp=np.zeros((2, 16)), mean=np.zeros(16), std=np.ones(2))
    (tmp_path / "z.npy").write_bytes((tmp_path / "z.npz").read_bytes())
    with pytest.raises(CheckpointError, match="not a readable numpy file"):
        directions.load(tmp_path / "z.npy", 8, 16)
    (tmp_path / "p.npy").write_bytes(pickle.dumps(Calls(bytearray, 10**10)))
    with pytest.raises(CheckpointError, match="not a readable numpy file"):
        directions.load(tmp_path / "p.npy", 8, 16)
    with zipfile.ZipFile(tmp_path / "l.npz", "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("comp.npy", bytes(1000))
    with pytest.raises(CheckpointError, match="compressed as numpy never does"):
        directions.load(tmp_path / "l.npz", 8, 16, 0)
