"""Every published encoder type, from files with the published key names."""

import pytest
import torch
from published_files import N_STYLES, encoder_shapes, generator_shapes

from encoders import heads, load_inverter, published, save_inverter
from encoders.metrics import distances
from encoders.restyle import ReStyle, SinglePass
from encoders.style_encoder import ENCODERS
from encoders.view import CARS
from generators import CheckpointError, Generator, GeneratorConfig, load_generator, save_generator
from generators.files import checkpoint

KINDS = [(kind, n) for kind, design in ENCODERS.items() for n in design.in_channels]
IN_W = ("BackboneEncoderUsingLastLayerIntoW", "SingleStyleCodeEncoder")


@pytest.fixture(scope="module")
def filled(parity):
    """A function from shapes to weights; what was drawn before is not drawn again."""
    known = {}

    def state(shapes):
        fresh = {key: s for key, s in shapes.items() if (key, *s) not in known}
        known.update({(k, *t.shape): t for k, t in parity.fill.from_shapes(fresh).items()})
        return {key: known[(key, *shape)] for key, shape in shapes.items()}

    return state


@pytest.fixture
def make(parity, filled):
    """The content of a published file for a small generator."""

    def content(kind, in_channels, n_styles=N_STYLES, n_blocks=2, average=None, **opts):
        shapes = encoder_shapes(parity, kind, in_channels, n_styles)
        return {
            "state_dict": filled(shapes | generator_shapes(parity, n_blocks)),
            "opts": {"encoder_type": kind, **opts},
            "latent_avg": parity.fill.normal("a", (512,)) if average is None else average,
        }

    return content


@pytest.fixture
def write(make, tmp_path):
    """Write such a file; returns its path."""

    def file(*arguments, **settings):
        torch.save(make(*arguments, **settings), tmp_path / "m.pt")
        return tmp_path / "m.pt"

    return file


def given(n=2, size=64):
    return torch.randn(n, 3, size, size, generator=torch.Generator().manual_seed(2)).clamp(-1, 1)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "in_channels"), KINDS)
def test_every_type_loads_strictly_and_runs(write, tmp_path, kind, in_channels):
    model = load_inverter(write(kind, in_channels))
    assert type(model) is (ReStyle if in_channels == 6 else SinglePass)
    model.input_size = (64, 64)  # a quarter of the published one, for speed
    latents = model.invert(given(), n_steps=1).latents[0] - model.latent_avg
    assert latents.shape == (2, N_STYLES, 512)
    assert latents.isfinite().all()
    assert (latents[0] - latents[1]).abs().max() > 1e-4
    assert torch.equal(latents[:, 0], latents[:, 1]) == (kind in IN_W)
    if in_channels == 3:
        with pytest.raises(ValueError, match="has one step, not 2; pass n_steps=1"):
            model.invert(given(), n_steps=2)
    save_inverter(tmp_path / "ours.safetensors", model)
    again = load_inverter(tmp_path / "ours.safetensors")
    assert type(again) is type(model)
    assert again.encoder.config == model.encoder.config
    assert torch.equal(again.invert(given(), n_steps=1).latents[0] - again.latent_avg, latents)


@pytest.mark.slow
def test_the_prefix_of_data_parallel_is_taken_off(make, tmp_path):
    content = make("BackboneEncoderUsingLastLayerIntoW", 3)
    state = content["state_dict"]
    torch.save(content, tmp_path / "plain.pt")
    torch.save(
        {**content, "state_dict": {f"module.{name}": t for name, t in state.items()}},
        tmp_path / "wrapped.pt",
    )
    plain, wrapped = (load_inverter(tmp_path / f"{n}.pt") for n in ("plain", "wrapped"))
    assert list(wrapped.state_dict()) == list(plain.state_dict())
    for name, tensor in wrapped.state_dict().items():
        assert torch.equal(tensor, plain.state_dict()[name])


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_is_within_40_db(write, precision):
    path = write("Encoder4Editing", 3)
    full, half = (load_inverter(path, precision=p) for p in ("fp32", precision))
    full.input_size = half.input_size = (64, 64)
    a, b = (model.invert(given(), n_steps=1).images for model in (full, half))
    assert not torch.equal(a, b)
    assert distances.psnr(a, b).min() > 40


@pytest.mark.slow
def test_an_offset_encoder_adds_to_what_the_pyramid_says():
    shapes = (2, 64, 32, 24), (2, 128, 16, 12), (2, 256, 8, 6), (2, 512, 4, 3)
    maps = [torch.randn(shape) for shape in shapes]
    pyramid, offsets = heads.Pyramid(9), heads.ProgressivePyramid(9)
    offsets.load_state_dict(pyramid.state_dict())
    with torch.inference_mode():
        plain, summed = pyramid(maps), offsets(maps)
        torch.testing.assert_close(summed[:, 0], plain[:, 0])
        torch.testing.assert_close(summed[:, 1:], plain[:, :1] + plain[:, 1:])
        offsets.stage = 4
        assert torch.equal(offsets(maps)[:, 5:], plain[:, :1].expand(-1, 4, -1))


def test_the_pyramid_adds_each_coarser_map_to_the_finer_one():
    coarse, middle = torch.randn(1, 512, 2, 2), torch.randn(1, 256, 4, 4)
    fine = torch.randn(1, 128, 7, 7)
    pyramid = heads.Pyramid(8)
    seen = []
    for i in (0, 3, 7):
        pyramid.styles[i].register_forward_pre_hook(lambda _, x: seen.append(x[0]))
    with torch.inference_mode():
        pyramid([torch.zeros(1), fine, middle, coarse])
    assert torch.equal(seen[0], coarse)
    # With corners aligned, they are the sum of the corners.
    expected = pyramid.latlayer1(middle)[..., ::3, ::3] + coarse
    torch.testing.assert_close(seen[1][..., ::3, ::3], expected)
    expected = pyramid.latlayer2(fine)[..., ::6, ::6] + expected
    torch.testing.assert_close(seen[2][..., ::6, ::6], expected)


@pytest.mark.slow
@pytest.mark.parametrize(("flag", "scale"), [(True, 1.0), (False, 0.0)])
def test_the_average_is_added_where_the_settings_say_so(write, flag, scale):
    average = torch.randn(1, 512)  # as a pSp model that was trained in W has it
    settings = {"start_from_latent_avg": flag, "learn_in_w": True, "average": average}
    model = load_inverter(write("BackboneEncoderUsingLastLayerIntoW", 3, **settings))
    assert torch.equal(model.latent_avg, scale * average.expand(N_STYLES, -1))
    # ReStyle starts at the average whatever the flag.
    model = load_inverter(write("ResNetBackboneEncoder", 6, **settings))
    assert torch.equal(model.latent_avg[1], average[0])


def test_styles_that_the_generator_does_not_take_are_left_out(make, write, parity):
    # The first encoders predict 18 styles whatever the generator.
    average = torch.randn(18, 512)
    path = write("BackboneEncoderUsingLastLayerIntoWPlus", 3, n_styles=18, average=average)
    model = load_inverter(path)
    assert model.encoder.config.n_styles == N_STYLES
    assert torch.equal(model.latent_avg, average[:N_STYLES])
    linear = torch.load(path)["state_dict"]["encoder.linear.weight"]
    assert torch.equal(model.encoder.heads.linear.weight, linear[: N_STYLES * 512])
    shapes = encoder_shapes(parity, "BackboneEncoder", 6, 18) | generator_shapes(parity)
    state = {k: torch.empty(shape, device="meta") for k, shape in shapes.items()}
    content = {"state_dict": state, "opts": {"encoder_type": "BackboneEncoder"}}
    assert published.describe(content, "m.pt").encoder.n_styles == N_STYLES
    # Any other number is an encoder of another generator.
    with pytest.raises(CheckpointError, match="predicts 6 style vectors of 512, but the generator"):
        load_inverter(write("BackboneEncoderUsingLastLayerIntoWPlus", 3, n_styles=6))


@pytest.mark.parametrize("kind", [["BackboneEncoder"], {}, 3, "BackboneEncoder "])
def test_an_odd_encoder_type_is_an_error(make, kind):
    content = make("ResNetBackboneEncoder", 6)
    content["opts"] = {"encoder_type": kind, "n_iters_per_batch": "many"}
    with pytest.raises(CheckpointError, match="the known types are"):
        published.describe(content, "m.pt")


def test_an_odd_number_of_steps_is_taken_for_the_usual_one(make):
    content = make("ResNetBackboneEncoder", 6, n_iters_per_batch="many")
    assert published.describe(content, "m.pt").n_steps == 5


def test_an_encoder_of_label_maps_is_refused(make, write):
    says = r"takes pictures with 19 channels \(label maps or sketches\), not photos, which have 3"
    with pytest.raises(CheckpointError, match=says):
        published.describe(make("GradualStyleEncoder", 19, label_nc=19), "m.pt")
    with pytest.raises(CheckpointError, match=r"input_layer.0.weight has shape \[64, 3, 3, 3\]"):
        load_inverter(write("ProgressiveBackboneEncoder", 3))


def test_a_missing_tensor_of_a_pyramid_is_named(make, tmp_path):
    content = make("Encoder4Editing", 3)
    del content["state_dict"]["encoder.latlayer2.bias"]
    content["state_dict"]["encoder.styles.note.x"] = torch.zeros(1)
    torch.save(content, tmp_path / "m.pt")
    with pytest.raises(CheckpointError, match=r"missing latlayer2.bias; unexpected styles.note.x"):
        load_inverter(tmp_path / "m.pt")


@pytest.mark.parametrize(
    ("dataset_type", "n_blocks", "resolution", "shown"),
    [
        ("ffhq_encode", 9, 1024, (1024, 1024)),  # toonify too
        ("afhq_wild_encode", 8, 512, (512, 512)),
        ("cars_encode", 8, 512, (384, 512)),
        ("church_encode", 7, 256, (256, 256)),
        ("horse_encode", 7, 256, (256, 256)),
    ],
)
def test_domains(parity, dataset_type, n_blocks, resolution, shown):
    shapes = encoder_shapes(parity, "ResNetBackboneEncoder", 6, 14)
    shapes |= generator_shapes(parity, n_blocks)
    content = {
        "state_dict": {k: torch.empty(shape, device="meta") for k, shape in shapes.items()},
        "opts": {"encoder_type": "ResNetBackboneEncoder", "dataset_type": dataset_type},
    }
    found = published.describe(content, "m.pt")
    assert found.generator.resolution == resolution
    assert found.view.size(resolution) == shown
    # Half or a quarter of the picture, whole blocks of which are averaged.
    assert found.input_size == ((192, 256) if dataset_type == "cars_encode" else (256, 256))


@pytest.mark.slow
def test_another_generator_file_is_checked_for_fit_and_draws(make, write, filled, parity, tmp_path):
    path = write("ResNetBackboneEncoder", 6)
    decoder = filled(generator_shapes(parity))
    other = {k.removeprefix("decoder."): t.flip(0) for k, t in decoder.items() if t.ndim}
    torch.save({"g_ema": other, "latent_avg": torch.zeros(512)}, tmp_path / "g.pt")
    own, paired = load_inverter(path), load_inverter(path, generator=tmp_path / "g.pt")
    # Where to start belongs to the encoder, what is drawn to the generator.
    assert torch.equal(own.latent_avg, paired.latent_avg)
    drawn = paired.draw(own.latent_avg[None])
    assert torch.equal(drawn, load_generator(tmp_path / "g.pt").synthesis(own.latent_avg[None]))
    assert (drawn - own.draw(own.latent_avg[None])).abs().max() > 0.1
    narrow = GeneratorConfig(resolution=8, channels=(8, 8), z_dim=16, w_dim=16)
    save_generator(tmp_path / "narrow.safetensors", Generator(narrow))
    says = r"m\.pt predicts 4 style vectors of 512, .*narrow\.safetensors takes 4 of 16 \(8 px\)"
    with pytest.raises(CheckpointError, match=says):
        load_inverter(path, generator=tmp_path / "narrow.safetensors")


@pytest.mark.slow
def test_cars_are_shown_without_their_padding(write, tmp_path):
    path = write("SingleStyleCodeEncoder", 3, n_blocks=8, dataset_type="cars_encode")
    model = load_inverter(path)
    assert model.input_size == (192, 256)
    assert model.view == CARS
    latents = model.latent_avg[None]
    whole = model.generator.synthesis(latents)
    assert torch.equal(model.draw(latents), whole[:, :, 64:448])
    save_inverter(tmp_path / "ours.safetensors", model)
    path.unlink()
    again = load_inverter(tmp_path / "ours.safetensors")
    assert (again.view, again.input_size) == (CARS, (192, 256))
    header, tensors = checkpoint.load(tmp_path / "ours.safetensors", "inverter")
    header.config["view"] = {"rows": [64, 1000]}
    checkpoint.save(tmp_path / "wide.safetensors", header, tensors)
    with pytest.raises(CheckpointError, match="reaches beyond an image of 512 px"):
        load_inverter(tmp_path / "wide.safetensors")
