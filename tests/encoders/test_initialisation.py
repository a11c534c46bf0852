"""Encoders that begin with the weights of a published classifier."""

import pytest
import torch

from encoders.backbones import RESNET34_STAGES, IRBackbone, ResNet34
from encoders.restyle import SinglePass
from encoders.training.initialisation import (
    initialise_ir_se50,
    initialise_resnet34,
    input_size,
    new_model,
)
from encoders.training.trainer import EncoderTrainConfig
from encoders.view import CARS, EVERYTHING
from generators import CheckpointError, Generator, GeneratorConfig


@pytest.fixture(scope="module")
def resnet34(parity):
    """ResNet-34's state dict with torchvision's names: three input channels, and a classifier."""
    own = {n: t for n, t in ResNet34(3).state_dict().items() if not n.startswith("relu.")}
    first = {0: "layer1.0", 3: "layer2.0"}
    names = [f"layer{s}.{i}" for s, (n, _) in enumerate(RESNET34_STAGES, 1) for i in range(n)]
    assert names[0] == first[0]
    assert names[3] == first[3]
    theirs = {}
    for name, tensor in own.items():
        part, _, rest = name.partition(".")
        number, _, tail = rest.partition(".")
        theirs[f"{names[int(number)]}.{tail}" if part == "body" else name] = tensor
    return parity.fill.fill(theirs) | {"fc.weight": torch.zeros(9, 9), "fc.bias": torch.zeros(9)}


def test_ir_se50_takes_arcfaces_weights(arcface_file):
    torch.manual_seed(0)
    backbone = IRBackbone()
    initialise_ir_se50(backbone, arcface_file)
    published = torch.load(arcface_file)
    first = backbone.input_layer[0].weight
    assert torch.equal(first[:, :3], published["input_layer.0.weight"])
    assert first[:, 3:].std().item() == pytest.approx(1.0, abs=0.1), (
        "as published: random, unit variance"
    )
    assert torch.equal(
        backbone.body[23].res_layer[1].weight, published["body.23.res_layer.1.weight"]
    )
    rest = {n: t for n, t in backbone.state_dict().items() if n != "input_layer.0.weight"}
    assert all(torch.equal(t, published[n]) for n, t in rest.items())


def test_resnet34_takes_torchvisions_weights(resnet34, tmp_path):
    torch.save(resnet34, tmp_path / "resnet34.pth")
    backbone = ResNet34()
    initialise_resnet34(backbone, tmp_path / "resnet34.pth")
    assert torch.equal(backbone.conv1.weight[:, :3], resnet34["conv1.weight"])
    assert torch.equal(
        backbone.body[3].downsample[0].weight, resnet34["layer2.0.downsample.0.weight"]
    )
    assert torch.equal(backbone.body[15].conv2.weight, resnet34["layer4.2.conv2.weight"])
    assert torch.equal(backbone.bn1.running_var, resnet34["bn1.running_var"])
    assert backbone.relu.weight.tolist() == [0.25] * 64
    single = ResNet34(3)
    initialise_resnet34(single, tmp_path / "resnet34.pth")
    assert torch.equal(single.conv1.weight, resnet34["conv1.weight"])


def test_other_files_are_named(resnet34, arcface_file, tmp_path):
    torch.save(resnet34, tmp_path / "resnet34.pth")
    with pytest.raises(CheckpointError, match="is not a face embedding; pass model_ir_se50.pth"):
        initialise_ir_se50(IRBackbone(), tmp_path / "resnet34.pth")
    with pytest.raises(CheckpointError, match="is not a ResNet-34; pass torchvision's"):
        initialise_resnet34(ResNet34(), arcface_file)
    less = {name: t for name, t in resnet34.items() if name != "layer3.5.bn2.bias"}
    torch.save(less, tmp_path / "less.pth")
    with pytest.raises(CheckpointError, match=r"missing body\.12\.bn2\.bias"):
        initialise_resnet34(ResNet34(), tmp_path / "less.pth")
    torch.save(resnet34 | {"conv1.weight": torch.zeros(64, 4, 7, 7)}, tmp_path / "four.pth")
    with pytest.raises(CheckpointError, match=r"conv1.weight has shape \[64, 4, 7, 7\], needs"):
        initialise_resnet34(ResNet34(), tmp_path / "four.pth")


def test_the_encoder_sees_the_published_sizes():
    assert input_size(EVERYTHING, 1024, 256) == (256, 256)
    assert input_size(CARS, 512, 256) == (192, 256)
    assert input_size(EVERYTHING, 64, 256) == (64, 64)


def test_the_same_seed_makes_the_same_encoder_and_leaves_torchs_numbers(tiny_generator):
    config = EncoderTrainConfig(widths=(8, 8, 8), seed=5)
    torch.manual_seed(1)
    first = new_model(config, tiny_generator)
    drawn = torch.rand(1)
    second = new_model(config, tiny_generator)
    torch.manual_seed(1)
    assert torch.equal(torch.rand(1), drawn)
    pairs = zip(first.encoder.parameters(), second.encoder.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    assert all(p.requires_grad for p in first.encoder.parameters())
    assert not any(p.requires_grad for p in first.generator.parameters())


def test_an_encoder_goes_on_from_an_inverter_file(make_inverter):
    path = make_inverter(3)
    from encoders import load_inverter

    saved = load_inverter(path)
    config = EncoderTrainConfig(start_from=str(path))
    model = new_model(config, saved.generator)
    pairs = zip(model.encoder.parameters(), saved.encoder.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    assert all(p.requires_grad for p in model.encoder.parameters())
    with pytest.raises(ValueError, match="holds an encoder with 6 input channels"):
        new_model(EncoderTrainConfig(start_from=str(path), single_pass=True), saved.generator)


def test_a_start_for_another_generator_is_refused(make_inverter, tiny_generator):
    config = EncoderTrainConfig(start_from=str(make_inverter(3)))
    with pytest.raises(CheckpointError, match="predicts 10 style vectors of 16, but the generator"):
        new_model(config, tiny_generator)


def test_a_single_pass_encoder_sees_the_image_alone(tiny_generator):
    config = EncoderTrainConfig(widths=(8, 8, 8), single_pass=True)
    model = new_model(config, tiny_generator)
    assert isinstance(model, SinglePass)
    assert model.encoder.config.in_channels == 3


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("BackboneEncoder", r"needs --backbone-weights: model_ir_se50.pth \(ArcFace.*or `random`"),
        ("ResNetBackboneEncoder", "needs --backbone-weights: torchvision's resnet34"),
    ],
)
def test_a_published_encoder_asks_for_the_file_it_begins_with(kind, says):
    shape = GeneratorConfig(8, (4, 4), z_dim=8, w_dim=512, n_mapping_layers=1)
    with pytest.raises(CheckpointError, match=says):
        new_model(EncoderTrainConfig(encoder=kind), Generator(shape))


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"encoder": "resnet"}, "encoder must be one of unet, BackboneEncoder"),
        ({"encoder": "BackboneEncoder"}, "predicts style vectors of 512, .* takes 16; pass `unet`"),
        ({"encoder": "Encoder4Editing"}, "Encoder4Editing is trained with single_pass"),
        ({"encoder": "BackboneEncoder", "single_pass": True}, "is trained without single_pass"),
        ({"progressive_start": 5}, "the encoder must be ProgressiveBackboneEncoder"),
        ({"view_rows": (4, 28)}, "the U-Net sees square pictures, not 32x24"),
        ({"view_rows": (4,)}, "view_rows must be a first pixel and an end"),
        ({"view_rows": (4, 40)}, "reaches beyond an image of 32 px"),
        ({"precision": "fp16"}, "precision must be one of fp32, bf16, not 'fp16'"),
        ({"n_steps": 0}, "n_steps must be at least 1, not 0"),
        ({"disturb": 2.0}, "disturb is a share from 0 to 1, not 2.0"),
        ({"disturb": 0.6, "strange": 0.5}, "at most 1 together"),
        ({"accumulate": 17}, "a batch of 16 has no 17 parts"),
    ],
)
def test_settings_that_cannot_be_are_named(settings, says, tiny_generator):
    with pytest.raises(ValueError, match=says):
        new_model(EncoderTrainConfig(**{"widths": (8, 8, 8), **settings}), tiny_generator)
