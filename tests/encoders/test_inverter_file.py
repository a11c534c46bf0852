"""Inverter files, ours and published: what is written comes back; what is wrong is said."""

import argparse
import os
import subprocess
import sys

import pytest
import torch
from published_files import encoder_shapes, generator_shapes

import encoders.inverter_file as inverter_file
from encoders import ReStyle, UNet, UNetConfig, load_inverter, save_inverter
from generators import CheckpointError, Generator, GeneratorConfig, save_generator
from generators.files import checkpoint

UNET = UNetConfig(resolution=32, n_styles=8, w_dim=16, widths=(16, 16, 24, 32))


@pytest.fixture
def model(tiny_generator):
    torch.manual_seed(1)
    return ReStyle(UNet(UNET).eval(), tiny_generator, torch.randn(8, 16), (32, 32))


@pytest.fixture(scope="module")
def published_state(parity):
    """A published encoder for an 8 px generator: four heads instead of eighteen, the same names."""
    shapes = encoder_shapes(parity, "BackboneEncoder", 6) | generator_shapes(parity)
    return parity.fill.from_shapes(shapes)


def write_pt(path, state, opts=None, **others):
    opts = {"encoder_type": "BackboneEncoder"} if opts is None else opts
    torch.save({"state_dict": state, "opts": opts, **others}, path)
    return path


def given(n=2, size=32):
    return torch.randn(n, 3, size, size, generator=torch.Generator().manual_seed(2)).clamp(-1, 1)


@pytest.mark.parametrize("embedded", [True, False])
def test_round_trip(model, tmp_path, embedded):
    save_generator(tmp_path / "g.safetensors", model.generator)
    name = None if embedded else str(tmp_path / "g.safetensors")
    save_inverter(tmp_path / "m.safetensors", model, generator_name=name, notes="tiny")
    again = load_inverter(tmp_path / "m.safetensors")
    assert again.encoder.config == UNET
    assert not any(p.requires_grad for p in again.parameters())
    assert not again.training
    expected = model.invert(given())
    assert torch.equal(again.invert(given()).latents, expected.latents)
    assert torch.equal(again.invert(given()).images, expected.images)
    assert checkpoint.read_header(tmp_path / "m.safetensors").notes == "tiny"


def test_precision_and_device_are_passed_on(model, tmp_path):
    save_inverter(tmp_path / "m.safetensors", model)
    again = load_inverter(tmp_path / "m.safetensors", device="cpu", precision="bf16")
    assert again.networks().encode.stem.weight.dtype == torch.bfloat16
    assert again.encoder.stem.weight.dtype == torch.float32
    assert again.generator.synthesis.compute_dtype == torch.bfloat16
    assert again.latent_avg.dtype == torch.float32
    with pytest.raises(ValueError, match="fp32, tf32, bf16, fp16, not 'fp8'"):
        load_inverter(tmp_path / "m.safetensors", precision="fp8")


def test_float16_is_refused_where_it_cannot_be_computed(model, tmp_path, monkeypatch):
    def refuse(*_):
        raise RuntimeError("not implemented for 'Half'")

    save_inverter(tmp_path / "m.safetensors", model)
    monkeypatch.setattr(inverter_file.F, "conv2d", refuse)
    with pytest.raises(ValueError, match="cannot convolve in float16; use bf16 or fp32"):
        load_inverter(tmp_path / "m.safetensors", precision="fp16")


def test_another_generator_of_the_same_shape_takes_its_place(model, tmp_path):
    save_inverter(tmp_path / "m.safetensors", model)
    torch.manual_seed(9)
    other = Generator(model.generator.config)
    save_generator(tmp_path / "g.safetensors", other)
    again = load_inverter(tmp_path / "m.safetensors", generator=tmp_path / "g.safetensors")
    assert torch.equal(again.draw(model.latent_avg[None]), other.synthesis(model.latent_avg[None]))


def test_a_generator_that_does_not_fit_is_refused(model, tmp_path):
    save_inverter(tmp_path / "m.safetensors", model)
    config = GeneratorConfig(resolution=16, channels=(8, 8, 8), z_dim=16, w_dim=16)
    save_generator(tmp_path / "g.safetensors", Generator(config))
    says = (
        r"m\.safetensors predicts 8 style vectors of 16, but the generator .*g\.safetensors takes 6"
    )
    with pytest.raises(CheckpointError, match=says):
        load_inverter(tmp_path / "m.safetensors", generator=tmp_path / "g.safetensors")


def test_a_generator_that_changed_since_is_refused(model, tmp_path):
    save_generator(tmp_path / "g.safetensors", model.generator)
    name = str(tmp_path / "g.safetensors")
    save_inverter(tmp_path / "m.safetensors", model, generator_name=name)
    model.generator.latent_avg.add_(1)
    save_generator(tmp_path / "g.safetensors", model.generator)
    with pytest.raises(
        CheckpointError, match="trained with another generator than .*g.safetensors"
    ):
        load_inverter(tmp_path / "m.safetensors")


def test_an_encoder_of_another_kind_is_not_saved(model, tmp_path):
    model.encoder = torch.nn.Identity()
    with pytest.raises(TypeError, match="cannot save a Identity"):
        save_inverter(tmp_path / "m.safetensors", model)


@pytest.mark.slow
def test_a_published_file_becomes_ours_and_stays_the_same(published_state, parity, tmp_path):
    average = 0.5 * parity.fill.normal("latent_avg", (4, 512))
    opts = argparse.Namespace(encoder_type="ProgressiveBackboneEncoder")
    write_pt(tmp_path / "m.pt", published_state, opts, latent_avg=average)
    model = load_inverter(tmp_path / "m.pt")
    assert model.input_size == (256, 256)
    assert torch.equal(model.latent_avg, average)
    save_inverter(tmp_path / "m.safetensors", model, source="0" * 64)
    again = load_inverter(tmp_path / "m.safetensors")
    assert again.encoder.config.type == "ProgressiveBackboneEncoder"
    for (name, a), (_, b) in zip(
        model.state_dict().items(), again.state_dict().items(), strict=True
    ):
        assert torch.equal(a, b), name
    # What the fingerprint of a run covers: the tensors, whatever their container.
    hashes = [checkpoint.tensors_sha256(m.state_dict()) for m in (model, again)]
    assert hashes[0] == hashes[1]


@pytest.mark.parametrize("shape", [(512,), (1, 512), None])
def test_other_forms_of_the_published_average(published_state, tmp_path, shape):
    average = None if shape is None else torch.randn(shape)
    write_pt(tmp_path / "m.pt", published_state, latent_avg=average)
    if shape is None:
        with pytest.warns(UserWarning, match="no latent_avg; computed it from 10,000 samples"):
            model = load_inverter(tmp_path / "m.pt")
        assert model.latent_avg.abs().sum() > 0
        assert torch.equal(model.latent_avg[0], model.latent_avg[3])
    else:
        model = load_inverter(tmp_path / "m.pt")
        assert torch.equal(model.latent_avg, average.reshape(1, 512).expand(4, 512))


def test_every_wrong_tensor_of_a_published_file_is_named(published_state, tmp_path, monkeypatch):
    # One number, seen at every shape: nothing of 400 MB is written and read eight times.
    state = {k: torch.zeros(()).expand(v.shape) for k, v in published_state.items()}
    (tmp_path / "m.pt").touch()

    def refused(says, **changes):
        changed = state | {k.replace("__", "."): v for k, v in changes.items()}
        changed = {k: v for k, v in changed.items() if v is not None}
        content = {
            "state_dict": changed,
            "opts": {"encoder_type": "BackboneEncoder"},
            "latent_avg": torch.zeros(512),
        }
        monkeypatch.setattr(checkpoint, "load_pt", lambda _: content)
        with pytest.raises(CheckpointError, match=says) as error:
            load_inverter(tmp_path / "m.pt")
        assert "\n" not in str(error.value)

    block = "encoder.body.7.res_layer.1.weight"
    refused(r"missing body\.7\.res_layer\.1\.weight", **{block: None})
    refused(r"body\.7\.res_layer\.1\.weight has shape \[3\], needs \[", **{block: torch.zeros(3)})
    refused(r"missing styles\.2\.linear\.bias", **{"encoder.styles.2.linear.bias": None})
    refused(r"unexpected body\.99\.x", **{"encoder.body.99.x": torch.zeros(1)})
    refused(r"unexpected discriminator\.x", **{"discriminator.x": torch.zeros(1)})
    refused(r"unexpected encoder\.body\.note", **{"encoder.body.note": "text"})
    refused(r"missing noises\.noise_1", **{"decoder.noises.noise_1": None})
    three = torch.zeros(64, 3, 3, 3)
    refused(r"input_layer\.0\.weight has shape", **{"encoder.input_layer.0.weight": three})


class Hostile:
    def __reduce__(self):
        return os.system, ("touch hostile_was_here",)


def test_hostile_and_broken_files_end_in_one_sentence(model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save_inverter("m.safetensors", model)
    (tmp_path / "short.safetensors").write_bytes((tmp_path / "m.safetensors").read_bytes()[:5000])
    save_generator("g.safetensors", model.generator)
    torch.save({"state_dict": {}, "opts": Hostile()}, "hostile.pt")
    torch.save({"g_ema": {}}, "generator.pt")
    torch.save({"state_dict": {}, "opts": {"encoder_type": "Encoder9"}}, "type.pt")
    torch.save({"state_dict": {}, "opts": None}, "opts.pt")
    (tmp_path / "model.bin").write_bytes(b"x")
    header, tensors = checkpoint.load("m.safetensors", "inverter")
    broken = checkpoint.Header("inverter", header.config | {"encoder": {"type": "UNet", "x": 1}})
    checkpoint.save("header.safetensors", broken, tensors)
    broken = checkpoint.Header("inverter", {"encoder": header.config["encoder"]})
    checkpoint.save("partial.safetensors", broken, tensors)
    checkpoint.save("average.safetensors", header, tensors | {"latent_avg": torch.zeros(3)})
    del tensors["encoder.stem.bias"]
    checkpoint.save("missing.safetensors", header, tensors)
    for name, says in {
        "absent.pt": "no checkpoint at",
        "short.safetensors": "truncated",
        "g.safetensors": "of kind generator, but the kind inverter is needed",
        "hostile.pt": "refused",
        "generator.pt": "no state_dict.*it is a generator file",
        "type.pt": "encoder type 'Encoder9'; the known types are BackboneEncoder, ",
        "opts.pt": "no encoder_type in its opts",
        "model.bin": "neither .safetensors nor .pt",
        "header.safetensors": "damaged header.*'x'",
        "partial.safetensors": "damaged header.*'input_size'",
        "average.safetensors": r"latent_avg of shape \[3\], needs \[8, 16\] or \[16\]",
        "missing.safetensors": "missing stem.bias",
    }.items():
        with pytest.raises(CheckpointError, match=says) as error:
            load_inverter(name)
        assert "\n" not in str(error.value)
    assert not os.path.exists("hostile_was_here")


@pytest.mark.slow
def test_loading_does_not_load_the_compiler_of_torch():
    code = "import sys, encoders; encoders.load_inverter('demo'); print(*sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert b"torch" in out.stdout.split()
    assert b"torch._dynamo" not in out.stdout.split()
