"""Files made to harm: each ends in one sentence, at once, with no code run and no memory taken."""

import io
import json
import os
import pickle
import struct
import time
import zipfile

import memory
import nvidia_files
import pytest
import torch

import encoders
from generators import CheckpointError, load_generator, save_generator
from generators.files import checkpoint, pickled

TEN_GB = 10 * 2**30
MARK = "hostile_was_here"


class Calls:
    """Pickles as a call."""

    def __init__(self, function, *args):
        self.call = function, args

    def __reduce__(self):
        return self.call


RUNS_A_COMMAND = Calls(os.system, f"touch {MARK}")


@pytest.fixture
def refused(tmp_path, monkeypatch):
    """Load a file and demand a short, clear refusal; returns its text."""
    monkeypatch.chdir(tmp_path)

    def load(path, says):
        start = time.monotonic()
        with memory.peak() as used, pytest.raises(CheckpointError, match=says) as error:
            load_generator(path)
        assert time.monotonic() - start < 10
        assert used() < 100 * 2**20
        assert not os.path.exists(MARK)
        text = str(error.value)
        assert str(path) in text
        assert "\n" not in text
        assert len(text) < 1100
        return text

    return load


def old_container(content):
    """What torch.save wrote before its zip files."""
    data = io.BytesIO()
    torch.save(content, data, _use_new_zipfile_serialization=False)
    return data.getvalue()


def rezipped(source, target, change, compression=zipfile.ZIP_STORED):
    """Copy a torch zip file; ``change`` gets each member's name and bytes."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w", compression) as new:
        for name in old.namelist():
            new.writestr(name, change(name, old.read(name)))


def laughs(kind, n=60):
    """n levels, each holding the one below twice: 2^n objects to whoever walks them."""
    value = kind(("ha", "ha"))
    for _ in range(n):
        value = kind((value, value))
    return value


@pytest.mark.parametrize("name", ["g.pkl", "g.pt", "old.pt"])
def test_a_call_is_not_made(name, refused, tmp_path):
    content = {"G_ema": RUNS_A_COMMAND, "g_ema": RUNS_A_COMMAND}
    if name == "g.pkl":
        (tmp_path / name).write_bytes(pickle.dumps(content))
    else:
        torch.save(content, tmp_path / name, _use_new_zipfile_serialization=name == "g.pt")
    text = refused(tmp_path / name, "refused")
    assert "posix.system" in text
    assert "weights_only" not in text


@pytest.mark.parametrize(
    "call",
    [
        Calls(eval, f"open('{MARK}', 'w')"),
        Calls(__import__, "antigravity"),
        Calls(getattr, "", "join"),
        Calls(torch.load, MARK),
        Calls(bytearray, TEN_GB),
        Calls(torch.empty, TEN_GB),
        Calls(torch.Tensor, TEN_GB),
        Calls(torch.storage._load_from_bytes, RUNS_A_COMMAND),
    ],
    ids=lambda call: call.call[0].__name__,
)
def test_nothing_outside_the_list_is_called(call, refused, tmp_path):
    (tmp_path / "g.pkl").write_bytes(pickle.dumps({"G_ema": call}))
    refused(tmp_path / "g.pkl", "refused")
    torch.save({"g_ema": call}, tmp_path / "g.pt")
    refused(tmp_path / "g.pt", "refused")


def test_the_source_in_a_module_is_never_run(tiny_generator, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    root = nvidia_files.network(tiny_generator)
    root.source = f"open('{MARK}', 'w').close()"
    nvidia_files.dump({"G_ema": root}, "g.pkl")
    assert load_generator("g.pkl").resolution == 32
    assert not os.path.exists(MARK)


@pytest.mark.parametrize("zipped", [False, True])
def test_a_file_inside_a_tensor_is_read_as_data_too(zipped, refused, tmp_path):
    inner = io.BytesIO()
    torch.save(RUNS_A_COMMAND, inner, _use_new_zipfile_serialization=zipped)
    storage = Calls(torch.storage._load_from_bytes, inner.getvalue())
    (tmp_path / "g.pkl").write_bytes(pickle.dumps({"G_ema": storage}))
    refused(tmp_path / "g.pkl", "not a readable NVIDIA pickle" if zipped else "posix.system")


@pytest.mark.parametrize("kind", [list, tuple, lambda pair: dict(enumerate(pair))])
def test_billion_laughs(kind, refused, tmp_path):
    value = laughs(kind)
    (tmp_path / "g.pkl").write_bytes(pickle.dumps({"G_ema": value}))
    refused(tmp_path / "g.pkl", "unfolded")
    torch.save({"g_ema": value, "latent_avg": value}, tmp_path / "g.pt")
    refused(tmp_path / "g.pt", "unfolded")


def test_billion_laughs_as_a_key_take_no_time(refused, tmp_path):
    # PROTO 2, EMPTY_DICT, the tuples, NONE, SETITEM, STOP: the hash of the key takes 2^60 steps.
    tuples = pickle.dumps(laughs(tuple), 2)[2:-1]
    data = b"\x80\x02}" + tuples + b"Ns."
    (tmp_path / "g.pkl").write_bytes(data)
    refused(tmp_path / "g.pkl", "a key of type tuple")
    torch.save({}, tmp_path / "plain.pt")
    rezipped(
        tmp_path / "plain.pt", tmp_path / "g.pt", lambda n, d: data if n.endswith("data.pkl") else d
    )
    refused(tmp_path / "g.pt", "a key of type tuple")


def test_keys_whose_hashes_repeat_are_refused(refused, tmp_path):
    keys = {i * (2**61 - 1): None for i in range(1, 10)}
    torch.save({"g_ema": keys}, tmp_path / "g.pt")
    refused(tmp_path / "g.pt", "a key of type int")


def test_layers_within_layers_end(tiny_generator, refused, tmp_path):
    bottom = nvidia_files.Persistent("FullyConnectedLayer")
    for _ in range(60):
        bottom = nvidia_files.Persistent("Block", _modules={"a": bottom, "b": bottom})
    root = nvidia_files.network(tiny_generator)
    root.state["_modules"]["synthesis"] = bottom
    nvidia_files.dump({"G_ema": root}, tmp_path / "g.pkl")
    refused(tmp_path / "g.pkl", "unfolded")
    endless = nvidia_files.Persistent("Generator")
    endless.state["_modules"]["again"] = endless.state["_modules"]
    nvidia_files.dump({"G_ema": endless}, tmp_path / "g.pkl")
    refused(tmp_path / "g.pkl", "holds itself")


def test_few_bytes_that_ask_for_gigabytes(refused, tmp_path):
    for data, says in (
        (b"\x80\x04N" + b"r\xff\xff\xff\x7f" + b".", "no network G_ema"),  # LONG_BINPUT
        (b"\x80\x04\x8e" + struct.pack("<Q", TEN_GB) + b"ha", "not a readable"),  # BINBYTES8
        (b"\x80\x05\x96" + struct.pack("<Q", TEN_GB) + b"ha", "not a readable"),  # BYTEARRAY8
        (b"\x80\x04\x8d" + struct.pack("<Q", TEN_GB) + b"ha", "not a readable"),  # BINUNICODE8
        (b"\x80\x04\x95" + struct.pack("<Q", TEN_GB) + b"N.", "no network G_ema"),  # FRAME
        (b"\x80\x02\x8b" + struct.pack("<i", 2**31 - 1) + b"ha", "not a readable"),  # LONG4
        (b"\x80\x04" + b"}" * (pickled.MAX_OPCODES + 1), "more than 1,000,000"),
    ):
        (tmp_path / "g.pkl").write_bytes(data)
        refused(tmp_path / "g.pkl", says)


def test_any_bytes_end_in_a_sentence(tiny_generator, refused, tmp_path):
    nvidia_files.write(tiny_generator, tmp_path / "whole.pkl")
    save_generator(tmp_path / "whole.safetensors", tiny_generator)
    torch.save({"g_ema": {"a": torch.ones(999)}}, tmp_path / "whole.pt")
    old = old_container({"g_ema": {"a": torch.ones(999)}})
    for suffix in (".pkl", ".safetensors", ".pt", ".old"):
        whole = old if suffix == ".old" else (tmp_path / f"whole{suffix}").read_bytes()
        cut = tmp_path / f"cut{suffix.replace('.old', '.pt')}"
        for length in (0, 1, 2, 20, 100, len(whole) // 2, len(whole) - 1):
            cut.write_bytes(whole[:length])
            refused(cut, "truncated")
        cut.write_bytes(bytes(range(256)) * 50)
        refused(cut, "not a readable|refused")


@pytest.mark.slow
def test_a_zip_bomb_is_not_inflated(refused, tmp_path):
    torch.save({"g_ema": {"a": torch.ones(4)}}, tmp_path / "plain.pt")
    bomb = b"N" * 300_000_000
    for member in ("data.pkl", "data/0"):
        rezipped(
            tmp_path / "plain.pt",
            tmp_path / "g.pt",
            lambda name, data, member=member: bomb if name.endswith(member) else data,
            zipfile.ZIP_DEFLATED,
        )
        assert (tmp_path / "g.pt").stat().st_size < 2**20
        refused(tmp_path / "g.pt", "compressed members")
    with zipfile.ZipFile(tmp_path / "g.pt", "w") as file:
        file.writestr("g/data/0", b"1234")
        with pytest.warns(match="Duplicate"):
            file.writestr("g/data/0", b"12345678")
    refused(tmp_path / "g.pt", "two members of one name")
    with zipfile.ZipFile(tmp_path / "plain.pt") as file:
        data = (tmp_path / "plain.pt").read_bytes()
        sizes = struct.pack("<II", file.getinfo("plain/data/0").file_size, 16)
    (tmp_path / "g.pt").write_bytes(data.replace(sizes, struct.pack("<II", 2**31, 2**31)))
    refused(tmp_path / "g.pt", "larger than the file")


def test_ten_gigabytes_in_a_safetensors_header(tiny_generator, refused, tmp_path):
    n = TEN_GB // 4
    header = {"a": {"dtype": "F32", "shape": [n], "data_offsets": [0, TEN_GB]}}
    text = json.dumps(header).encode()
    (tmp_path / "g.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + b"\0" * 64)
    refused(tmp_path / "g.safetensors", "not a readable safetensors file")
    (tmp_path / "g.safetensors").write_bytes(struct.pack("<Q", TEN_GB) + text)
    refused(tmp_path / "g.safetensors", "not a readable safetensors file")


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"channels": [10**6] * 4}, "damaged header"),
        ({"channels": [10**12] * 4}, "damaged header"),
        ({"channels": [-1] * 4}, "damaged header"),
        ({"channels": ["x"] * 4}, "damaged header"),
        ({"channels": 5}, "damaged header"),
        ({"channels": [8192] * 4}, "does not fit"),
        ({"z_dim": 10**10}, "damaged header"),
        ({"z_dim": 8192}, "does not fit"),
        ({"n_mapping_layers": 100}, "does not fit"),
        ({"n_mapping_layers": True}, "damaged header"),
        ({"n_mapping_layers": 1.5}, "damaged header"),
        ({"mapping_width": 10**9}, "damaged header"),
        ({"mapping_width": 0}, "damaged header"),
        ({"w_dim": [512]}, "damaged header"),
        ({"mapping_lr_mul": 0}, "damaged header"),
        ({"mapping_lr_mul": float("nan")}, "damaged header"),
        ({"conv_clamp": "x" * 10**6}, "damaged header"),
        ({"conv_clamp": float("inf")}, "damaged header"),
        ({"architecture": ["skip"] * 10**5}, "damaged header"),
        ({"resolution": 10**4000}, "damaged header"),
        ({"resolution": 64.0, "channels": [1] * 5}, "damaged header"),
        ({"n_mapping_layers": 10**9}, "damaged header"),
        ({"resolution": 2**40, "channels": [1] * 39}, "damaged header"),
        ({"resolution": "large"}, "damaged header"),
        ({"unknown": 1}, "damaged header"),
    ],
)
def test_a_header_that_claims_an_enormous_network(changed, says, tiny_generator, refused, tmp_path):
    config = tiny_generator.config.to_dict() | changed
    header = checkpoint.Header("generator", config)
    checkpoint.save(tmp_path / "g.safetensors", header, tiny_generator.state_dict())
    refused(tmp_path / "g.safetensors", says)


def test_ten_gigabytes_in_a_pt(refused, tmp_path):
    tensor = torch.ones(1)
    four = b"K\x01"  # BININT1 1: the number of entries of the storage
    huge = b"\x8a\x05" + struct.pack("<q", TEN_GB // 4)[:5]

    torch.save({"g_ema": {"a": tensor.expand(TEN_GB)}}, tmp_path / "g.pt")
    refused(tmp_path / "g.pt", "a tensor of shape .* over a storage of 1 numbers")
    torch.save({"g_ema": {"a": tensor}}, tmp_path / "plain.pt")

    def enlarge(name, data):
        if not name.endswith("data.pkl"):
            return data
        at = data.index(four, data.index(b"cpu"))
        return data[:at] + huge + data[at + len(four) :]

    rezipped(tmp_path / "plain.pt", tmp_path / "g.pt", enlarge)
    refused(tmp_path / "g.pt", "a storage of 10,737,418,240 bytes where the file holds 4")
    (tmp_path / "g.pt").write_bytes(enlarge("data.pkl", old_container({"g_ema": {"a": tensor}})))
    refused(tmp_path / "g.pt", "larger than the file")


def test_many_views_of_one_storage(refused, tmp_path):
    storage = torch.ones(10**6)
    views = {str(i): storage[i:] for i in range(2000)}  # 8 GB to whoever copies them
    torch.save({"g_ema": views}, tmp_path / "g.pt")
    refused(tmp_path / "g.pt", "tensors of 7,99.* bytes in a file of")


def test_ten_gigabytes_in_an_nvidia_file(tiny_generator, refused, tmp_path):
    root = nvidia_files.network(tiny_generator)
    block = nvidia_files.module_at(root, "synthesis.b4").state
    block["_parameters"]["const"] = torch.ones(1).expand(TEN_GB, 4, 4)
    nvidia_files.dump({"G_ema": root}, tmp_path / "g.pkl")
    refused(tmp_path / "g.pkl", "over a storage of 1 numbers")
    block["_parameters"]["const"] = torch.ones(TEN_GB, 0, 0)
    nvidia_files.module_at(root, "synthesis.b4.conv1").state["_parameters"]["weight"] = torch.ones(
        TEN_GB, 0, 3, 3
    )
    nvidia_files.dump({"G_ema": root}, tmp_path / "g.pkl")
    refused(tmp_path / "g.pkl", "does not fit|cannot be built|whole number")


def test_names_from_a_file_cannot_write_to_the_terminal(refused, tmp_path):
    torch.save({"g_ema": {"\x1b[2Jstyle.\n" + "x" * 10**6: 1}}, tmp_path / "g.pt")
    assert "?[2Jstyle.?" in refused(tmp_path / "g.pt", "is not a named tensor")
    torch.save({"g_ema": {}, "\x1b[2J" + "x" * 10**6: 1}, tmp_path / "g.pt")
    refused(tmp_path / "g.pt", "not a rosinality")


def _shared(make, leaf, n):
    """A few objects that unfold to more than any machine could print."""
    for _ in range(n):
        leaf = make(leaf)
    return leaf


UNFOLDING = {
    "lists": _shared(lambda x: [x] * 4, ["ha"] * 10, 40),
    "tuples": _shared(lambda x: (x, x), ("ha",), 60),
    "dicts": _shared(lambda x: {"a": x, "b": x}, {}, 60),
    "mixed": _shared(lambda x: {"a": [x, (x,)]}, "ha", 60),
    "a number": 1 << 2_000_000,
}


@pytest.mark.parametrize("kind", UNFOLDING)
def test_what_unfolds_beyond_measure_is_refused_at_once(kind, tmp_path):
    bomb = UNFOLDING[kind]
    torch.save({"state_dict": {}, "opts": {"encoder_type": bomb}}, tmp_path / "type.pt")
    torch.save({"g_ema": {}, "args": bomb}, tmp_path / "args.pt")
    for name, load in (("type.pt", encoders.load_inverter), ("args.pt", load_generator)):
        with pytest.raises(CheckpointError, match="unfolded|a whole number of"):
            load(tmp_path / name)
    for attribute in ("c_dim", "img_channels", "img_resolution"):
        state = {"c_dim": 0, "img_channels": 3, "img_resolution": 64, attribute: bomb}
        nvidia_files.dump(
            {"G_ema": nvidia_files.Persistent("Generator", **state)}, tmp_path / "g.pkl"
        )
        with pytest.raises(CheckpointError, match="unfolded|a whole number of"):
            load_generator(tmp_path / "g.pkl")


def test_a_list_that_holds_itself_is_refused(tmp_path):
    own: list = []
    own.append(own)
    torch.save({"g_ema": {}, "args": own}, tmp_path / "g.pt")
    with pytest.raises(CheckpointError, match="holds itself"):
        load_generator(tmp_path / "g.pt")


@pytest.mark.parametrize(
    "twin", ["archive/DATA.PKL", "archive/Data.pkl", "ARCHIVE/data.pkl", "x/data.pkl"]
)
def test_a_second_pickle_that_torch_would_take_is_refused(twin, tmp_path):
    """torch finds members whatever their case; Python's zipfile does not."""
    bomb = pickle.dumps({"g_ema": Calls(bytearray, TEN_GB)}, 2)
    torch.save({"g_ema": {}}, tmp_path / "plain.pt")
    with zipfile.ZipFile(tmp_path / "plain.pt") as plain:
        members = [
            (m.filename.replace("plain/", "archive/"), plain.read(m)) for m in plain.infolist()
        ]
    for order in ([*members, (twin, bomb)], [(twin, bomb), *members]):
        with zipfile.ZipFile(tmp_path / "g.pt", "w", zipfile.ZIP_STORED) as both:
            for name, data in order:
                both.writestr(name, data)
        with pytest.raises(CheckpointError, match="was refused|not a readable"):
            load_generator(tmp_path / "g.pt")


def test_a_zip_in_front_of_a_zip_is_read_in_one_way_or_refused(tmp_path):
    """Two containers in one file: whichever is looked at is the one that is loaded."""
    torch.save({"g_ema": {}}, tmp_path / "one.pt")
    torch.save({"state_dict": {}}, tmp_path / "two.pt")
    one, two = ((tmp_path / f"{name}.pt").read_bytes() for name in ("one", "two"))
    for data in (one + two, b"#!/bin/sh\n" + one, one + b"\0" * 100):
        (tmp_path / "g.pt").write_bytes(data)
        with pytest.raises(CheckpointError):
            load_generator(tmp_path / "g.pt")
