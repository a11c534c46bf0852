"""dlib's face descriptor in torch, against dlib's own numbers; and files that are not its weights."""

from pathlib import Path

import numpy as np
import pytest
import torch

from encoders.metrics import dlib_face
from generators.files.checkpoint import CheckpointError
from pipeline.faces import detection

DATA = Path(__file__).parents[1] / "data" / "dlib_face" / "chips.npz"


@pytest.fixture(scope="module")
def data():
    """The published file."""
    return Path(detection.recogniser_path()).read_bytes()


@pytest.fixture(scope="module")
def network():
    return dlib_face.load_dlib_face(detection.recogniser_path())


@pytest.fixture(scope="module")
def stored():
    """Chips and dlib's descriptors of them."""
    with np.load(DATA) as file:
        return torch.from_numpy(file["chips"]), torch.from_numpy(file["descriptors"])


def test_stored_descriptors(network, stored):
    chips, descriptors = stored
    assert (network.describe(chips) - descriptors).abs().max() < 1e-6
    assert descriptors.abs().max() > 0.4


def test_a_chip_alone_is_as_in_a_batch(network, stored):
    chips, _ = stored
    together = network.describe(chips)
    for i in range(3):
        assert (network.describe(chips[i : i + 1]) - together[i]).abs().max() < 1e-6
    assert network.describe(chips[:0]).shape == (0, 128)


def test_precision_of_the_process_changes_nothing(network, stored):
    chips, _ = stored
    expected = network.describe(chips)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(network.describe(chips), expected)
    assert not any(parameter.requires_grad for parameter in network.parameters())


def test_similarity(network, stored):
    found = network.describe(stored[0])
    assert dlib_face.similarity(found, found).tolist() == pytest.approx([1] * 8, abs=1e-12)
    same, another = dlib_face.similarity(found[:1].expand(2, -1), found[[1, 4]]).tolist()
    assert same > 0.9 > 0.4 > another


@pytest.mark.parametrize(
    "wrong", [torch.zeros(1, 3, 150, 150, dtype=torch.uint8), torch.zeros(2, 150, 150, 3)]
)
def test_other_chips_are_refused(network, wrong):
    with pytest.raises(ValueError, match="chips must be .* uint8"):
        network.describe(wrong)


def changed(data, at, new):
    return data[:at] + new + data[at + len(new) :]


NAN = np.float32(np.nan).tobytes()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda data: b"", "it ends after 0 bytes"),
        (lambda data: data[:-1], "it ends after 22466065 bytes"),
        (lambda data: data[:400], "it ends after 400 bytes"),
        (lambda data: data + b"\0", "1 bytes are left after its last layer"),
        (lambda data: data + bytes(12 << 20), "more bytes than that file"),
        (lambda data: b"\x0f" + data[1:], "no integer at byte 0"),
        (lambda data: b"\x01\x02" + data[2:], "layout is another at byte 0"),
        (lambda data: data.replace(b"metric_2", b"metric_3", 1), "no layer loss_metric_2"),
        (lambda data: data.replace(b"con_4", b"con_5", 1), "no layer con_4"),
        (lambda data: changed(data, 1000, NAN * 2), "a weight before byte .* is not finite"),
        # A tensor that claims 2^62 values costs nothing.
        (lambda data: data.replace(b"\x02\x80\x12", b"\x08" + b"\x40" * 8, 1), "layout is another"),
        (lambda data: b"PK\x03\x04" + data, "there is no integer"),
    ],
)
def test_a_file_that_is_not_it(tmp_path, data, change, reason):
    path = tmp_path / "weights.dat"
    bad = change(data)
    assert bad != data
    path.write_bytes(bad)
    with pytest.raises(CheckpointError, match=f"is not a whole dlib_face.*{reason}") as caught:
        dlib_face.load_dlib_face(path)
    assert "\n" not in str(caught.value)


def test_no_file(tmp_path):
    with pytest.raises(CheckpointError, match="cannot be read"):
        dlib_face.load_dlib_face(tmp_path / "absent.dat")
    with pytest.raises(CheckpointError, match="cannot be read"):
        dlib_face.load_dlib_face(tmp_path)


def test_any_damaged_byte_of_the_layout_is_a_sentence(tmp_path, data):
    """Bytes before the first weights, one after the other: refused, or of no meaning to the network."""
    path = tmp_path / "weights.dat"
    n_read = 0
    for at in range(0, 420, 3):
        path.write_bytes(changed(data[:450], at, bytes([data[at] ^ 0xFF])))
        with pytest.raises(CheckpointError):
            dlib_face.load_dlib_face(path)
        n_read += 1
    assert n_read == 140
