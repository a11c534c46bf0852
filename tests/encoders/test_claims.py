"""Files of inverters that claim gigantic networks: one sentence, at once, from all that read them."""

import json
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from encoders import inspection, inverter_file, published
from encoders.restyle import ReStyle
from encoders.unet import UNet, UNetConfig
from generators import CheckpointError, claims, load_generator
from generators.files import checkpoint

sys.path.append(str(Path(__file__).parent.parent / "generators"))
import memory

BILLION = 10**9


@pytest.fixture
def refused(tmp_path):
    """Inspect and load a file; demand a clear refusal of both, at once and in little memory."""

    def read(path, says):
        texts = []
        for ask in (inspection.describe, inverter_file.load_inverter):
            start = time.monotonic()
            with memory.peak() as used, pytest.raises(CheckpointError, match=says) as error:
                ask(path)
            assert time.monotonic() - start < 10
            assert used() < 150 << 20
            assert len(str(error.value)) < 1100
            texts.append(str(error.value))
        return texts

    return read


@pytest.fixture
def changed(tiny_generator, tmp_path):
    """Save an inverter that holds its generator, with another config."""
    encoder = UNet(UNetConfig(resolution=32, n_styles=8, w_dim=16, widths=(16, 16, 24, 32)))
    model = ReStyle(encoder, tiny_generator, torch.zeros(16), (32, 32))
    inverter_file.save_inverter(tmp_path / "whole.safetensors", model)

    def save(change):
        with safe_open(tmp_path / "whole.safetensors", "pt") as file:
            record = json.loads(file.metadata()["restyle"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        change(record)
        path = tmp_path / "m.safetensors"
        save_file(tensors, path, metadata={"restyle": json.dumps(record)})
        return path

    return save


def encoder_claims(**claimed):
    return lambda record: record["config"]["encoder"].update(claimed)


def config_claims(**claimed):
    return lambda record: record["config"].update(claimed)


def generator_claims(**claimed):
    return lambda record: record["config"]["generator"].update(claimed)


CLAIMS = {
    "styles": encoder_claims(n_styles=BILLION),
    "some styles": encoder_claims(n_styles=100),
    "levels": encoder_claims(n_levels=BILLION),
    "w_dim": encoder_claims(w_dim=BILLION),
    "widths": encoder_claims(widths=[BILLION] * 4),
    "many widths": encoder_claims(widths=[8] * 10_000),
    "no widths": encoder_claims(widths=[]),
    "head channels": encoder_claims(head_channels=BILLION),
    "groups": encoder_claims(n_groups=0),
    "resolution": encoder_claims(resolution=2**4000),
    "another type": config_claims(encoder={"type": "GradualStyleEncoder", "n_styles": BILLION}),
    "w for all": config_claims(encoder={"type": "SingleStyleCodeEncoder", "n_styles": BILLION}),
    "type": config_claims(encoder={"type": ["UNet"], "n_styles": 8}),
    "no type": config_claims(encoder={"n_styles": 8}),
    "input": config_claims(input_size=[BILLION, BILLION]),
    "large input": config_claims(input_size=[8192, 8192]),
    "input of nothing": config_claims(input_size=[0, 0]),
    "input of one": config_claims(input_size=[64]),
    "view": config_claims(view={"rows": [0, BILLION]}),
    "view of infinity": config_claims(view={"rows": [0, float("inf")]}),
    "view of a list": config_claims(view=[1]),
    "generator": generator_claims(resolution=BILLION),
    "channels": generator_claims(channels=[BILLION] * 4),
    "mapping": generator_claims(n_mapping_layers=BILLION),
    "generator of nothing": config_claims(generator=None),
    "config": lambda record: record.update(config=[1]),
    "kind": lambda record: record.update(kind=["inverter"]),
    "another kind": lambda record: record.update(kind="x" * BILLION.bit_length()),
    "version": lambda record: record.update(format_version="1"),
}


@pytest.mark.parametrize("claim", CLAIMS.values(), ids=CLAIMS)
def test_a_claim_is_judged_by_the_tensors(claim, changed, refused):
    refused(
        changed(claim), "damaged header|does not fit|cannot be built|made for|kind|beyond|predicts"
    )


def test_a_style_encoder_that_claims_more_than_the_file_holds(refused, tmp_path):
    with safe_open(inverter_file.demo_path(), "pt") as file:
        reference = json.loads(file.metadata()["restyle"])["config"]["generator_reference"]
        average = {"latent_avg": file.get_tensor("latent_avg")}
    for kind in ("GradualStyleEncoder", "BackboneEncoder", "SingleStyleCodeEncoder"):
        for n_styles in (BILLION, 100):
            encoder = {"type": kind, "n_styles": n_styles}
            config = {"encoder": encoder, "input_size": [64, 64], "generator_reference": reference}
            header = json.dumps({"kind": "inverter", "config": config})
            save_file(average, tmp_path / "m.safetensors", metadata={"restyle": header})
            refused(tmp_path / "m.safetensors", "damaged header|does not fit|cannot be built")


def test_a_layer_of_no_entries_claims_no_styles(tiny_generator):
    state = {"linear.weight": torch.empty(512 * BILLION, 0)}
    assert published._n_styles(state, tiny_generator.config) == tiny_generator.n_styles
    assert published._n_styles({f"styles.{'9' * 5000}.x": 0}, tiny_generator.config) == 8


def test_a_direction_whose_header_is_none(tmp_path):
    for config in ([1], {"a": [[1] * 1000] * 1000}):
        header = json.dumps({"kind": "direction", "config": config})
        tensors = {"direction": torch.zeros(8, 16)}
        save_file(tensors, tmp_path / "d.safetensors", metadata={"restyle": header})
        if isinstance(config, list):
            with pytest.raises(CheckpointError, match="damaged header"):
                inspection.describe(tmp_path / "d.safetensors")
        else:
            assert len(inspection.describe(tmp_path / "d.safetensors")["a"]) < 400


def test_layers_are_counted_while_they_are_made():
    def endless():
        return nn.Sequential(*(nn.Linear(1, 1) for _ in range(BILLION)))

    def short():
        layers = nn.ModuleList()
        for _ in range(BILLION):
            layers.append(nn.ReLU())
        return layers

    for make in (endless, short):
        start = time.monotonic()
        with pytest.raises(CheckpointError, match="far more tensors than the 3 of the file"):
            checkpoint.restore(make, {str(i): torch.zeros(1) for i in range(3)}, "f")
        assert time.monotonic() - start < 5
    nn.Linear(1, 1)  # the hooks are gone
    with claims.at_most(0):
        load_generator("demo")


def test_what_is_right_is_still_read(changed):
    path = changed(lambda record: None)
    assert inspection.describe(path)["styles"] == "8 of 16"
    assert inverter_file.load_inverter(path).generator.n_styles == 8
