"""Directions from every kind of file, from strangers, and out of a generator's weights."""

import zipfile

import numpy as np
import pytest
import torch

from generators import CheckpointError, StyleGAN3Config, StyleGAN3Generator, directions
from generators.files import checkpoint

N_STYLES, W_DIM = 8, 16


@pytest.fixture
def vector():
    return torch.randn(1, W_DIM, generator=torch.Generator().manual_seed(0))


def load(path, **options):
    return directions.load(path, N_STYLES, W_DIM, **options)


@pytest.mark.parametrize("shape", [(W_DIM,), (1, W_DIM), (1, 1, W_DIM)])
def test_one_style_vector_is_for_all_layers(tmp_path, vector, shape):
    """InterFaceGAN's boundaries, as torch and as numpy files."""
    torch.save(vector.reshape(shape), tmp_path / "smile.pt")
    np.save(tmp_path / "smile.npy", vector.reshape(shape).double().numpy())
    for name in ("smile.pt", "smile.npy"):
        found = load(tmp_path / name)
        assert found.dtype == torch.float32
        assert torch.equal(found, vector.expand(N_STYLES, W_DIM))


@pytest.mark.parametrize("shape", [(N_STYLES, W_DIM), (1, N_STYLES, W_DIM)])
def test_a_style_vector_for_each_layer(tmp_path, shape):
    vectors = torch.randn(shape)
    torch.save(vectors, tmp_path / "pose.pt")
    assert torch.equal(load(tmp_path / "pose.pt"), vectors.reshape(N_STYLES, W_DIM))


def test_a_file_saved_on_a_gpu(tmp_path, vector):
    """torch's pickle names the device of each storage; the published files say cuda:0."""
    torch.save(vector, tmp_path / "cpu.pt")
    with (
        zipfile.ZipFile(tmp_path / "cpu.pt") as old,
        zipfile.ZipFile(tmp_path / "cuda.pt", "w") as new,
    ):
        for member in old.infolist():
            data = old.read(member)
            if member.filename.endswith("data.pkl"):
                # BINUNICODE of the device's name, with its length before it
                assert data.count(b"X\x03\x00\x00\x00cpu") == 1
                data = data.replace(b"X\x03\x00\x00\x00cpu", b"X\x06\x00\x00\x00cuda:0")
            new.writestr(member, data)
    assert torch.equal(load(tmp_path / "cuda.pt"), vector.expand(N_STYLES, W_DIM))


def test_ganspace_counts_in_standard_deviations(tmp_path):
    comp, std = torch.randn(5, 1, W_DIM), torch.rand(5) + 0.5
    torch.save({"mean": torch.zeros(1, W_DIM), "comp": comp, "std": std}, tmp_path / "pca.pt")
    np.savez_compressed(
        tmp_path / "pca.npz", lat_comp=comp, lat_mean=np.zeros(W_DIM), lat_stdev=std, act_comp=comp
    )
    for name in ("pca.pt", "pca.npz"):
        found = load(tmp_path / name, component=3)
        torch.testing.assert_close(found, (comp[3] * std[3]).expand(N_STYLES, W_DIM))
        with pytest.raises(CheckpointError, match="holds 5 components; name one, from .*:0 to"):
            load(tmp_path / name)
        with pytest.raises(CheckpointError, match="holds 5 components"):
            load(tmp_path / name, component=5)


def test_our_own_file_says_how_it_came_about(tmp_path):
    vectors = torch.randn(N_STYLES, W_DIM)
    path = tmp_path / "smile.safetensors"
    directions.save(path, vectors, {"label": "smile", "accuracy": 0.9}, "learned")
    assert torch.equal(load(path), vectors)
    assert checkpoint.read_header(path).config["accuracy"] == 0.9


def test_refusals_say_what_is_wrong(tmp_path, vector, tiny_generator):
    from generators import save_generator

    torch.save(vector.repeat(3, 1), tmp_path / "other.pt")
    torch.save(vector * float("nan"), tmp_path / "nan.pt")
    torch.save({"state_dict": {}}, tmp_path / "model.pt")
    torch.save([vector], tmp_path / "list.pt")
    torch.save(vector, tmp_path / "one.pt")
    torch.save({"comp": vector, "mean": vector, "std": torch.ones(7)}, tmp_path / "uneven.pt")
    save_generator(tmp_path / "g.safetensors", tiny_generator)
    for name, component, says in (
        ("absent.pt", None, "no direction at"),
        ("other.pt", None, r"shape \[3, 16\], but these latents have 8 style vectors of 16"),
        ("nan.pt", None, "NaN or infinity"),
        ("model.pt", None, "state_dict, which is neither a direction nor GANSpace's"),
        ("list.pt", None, "holds a list, where a tensor is needed"),
        ("one.pt", 2, "holds one direction; leave out the component 2"),
        ("uneven.pt", 0, "standard deviation for each component"),
        ("g.safetensors", None, "is a file of kind generator, but the kind direction is needed"),
        ("notes.txt", None, "ends in none of .safetensors, .pt"),
    ):
        if name == "notes.txt":
            (tmp_path / name).write_text("no direction")
        with pytest.raises(CheckpointError, match=says):
            load(tmp_path / name, component=component)


class Hostile:
    """Runs code where it is unpickled."""

    def __reduce__(self):
        return (open, ("ran", "w"))


def test_nothing_in_a_file_is_executed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("bad.npy", np.array([Hostile()], dtype=object), allow_pickle=True)
    np.savez("bad.npz", comp=np.array([Hostile()], dtype=object), std=np.ones(1))
    torch.save(Hostile(), "bad.pt")
    for name in ("bad.npy", "bad.npz", "bad.pt"):
        with pytest.raises(CheckpointError):
            load(name, component=0)
    assert not (tmp_path / "ran").exists()


def test_a_small_file_cannot_ask_for_much_memory(tmp_path):
    np.save(tmp_path / "small.npy", np.zeros((1, W_DIM), np.float32))
    data = (tmp_path / "small.npy").read_bytes()
    claimed = data.replace(b"(1, 16), ", b"(9999999999, 16), ")[: len(data)]
    (tmp_path / "claims.npy").write_bytes(claimed)
    with pytest.raises(CheckpointError, match="not a readable numpy file"):
        load(tmp_path / "claims.npy")
    np.savez_compressed(tmp_path / "bomb.npz", comp=np.zeros(1 << 25, np.float32))
    assert (tmp_path / "bomb.npz").stat().st_size < 1 << 20
    with pytest.raises(CheckpointError, match="unpacks to more than"):
        load(tmp_path / "bomb.npz", component=0)


def test_sefa_finds_what_changes_the_modulation_most(tiny_generator):
    layers = range(2, 6)
    found = [directions.sefa(tiny_generator, i, layers) for i in range(3)]
    rows = torch.cat([tiny_generator.synthesis.convs[i].affine.weight for i in layers])
    rows = rows / rows.norm(dim=1, keepdim=True)
    changes = [(rows @ step[2]).norm().item() for step in found]
    others = torch.nn.functional.normalize(torch.randn(200, 16), dim=1) @ rows.T
    assert changes == sorted(changes, reverse=True)
    assert changes[0] > others.norm(dim=1).max()
    for step in found:
        assert step[2].norm().item() == pytest.approx(1)
        assert step[:2].abs().sum() == 0
        assert step[6:].abs().sum() == 0
    assert torch.dot(found[0][2], found[1][2]).abs() < 1e-5


def test_an_edit_is_a_sum_and_layers_limit_it(vector):
    step = vector.expand(N_STYLES, W_DIM)
    latents = torch.randn(3, N_STYLES, W_DIM)
    edited = directions.apply(
        latents, directions.at_layers(step, (1, 7)), torch.tensor([1.0, 2, -3])
    )
    torch.testing.assert_close(edited[2, 7], latents[2, 7] - 3 * vector[0])
    assert torch.equal(edited[:, 2:7], latents[:, 2:7])
    with pytest.raises(ValueError, match="0 to 7"):
        directions.at_layers(step, (8,))


def test_sefa_of_a_stylegan3_leaves_its_input_and_its_colours_out():
    torch.manual_seed(0)
    config = StyleGAN3Config.standard(16, channel_base=128, channel_max=8, z_dim=8, w_dim=8)
    generator = StyleGAN3Generator(config).requires_grad_(False)
    strongest = torch.nn.functional.normalize(torch.randn(8), dim=0)
    layer = generator.synthesis.layers[4]  # which the sixth style vector steers
    layer.affine.weight.copy_(torch.randn(8, 1) * strongest)
    found = directions.sefa(generator, 0, [5])
    assert abs(float(found[5] @ strongest)) > 0.9999
    assert not found[[4, 6]].any()
    for layers in ([0], [15], [0, 15]):
        with pytest.raises(ValueError, match="one of the layers 1 to 14"):
            directions.sefa(generator, 0, layers)
