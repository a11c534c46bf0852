"""`restyle models`, its page, and the commands that `restyle inspect` ends with."""

import argparse
import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest
import torch
from click.testing import CliRunner

from encoders.style_encoder import ENCODERS
from jobs.catalogue import CHECKPOINTS, markdown
from jobs.cli import cli

ROOT = Path(__file__).parent.parent.parent


def run(*words):
    result = CliRunner().invoke(cli, [*map(str, words)])
    assert result.exit_code == 0, result.output
    return result.output


def known(command):
    """That a printed command exists with its options."""
    name, *words = shlex.split(command)
    assert name == "restyle"
    of = cli
    while isinstance(of, click.Group):
        of = of.get_command(click.Context(of), words.pop(0))
    options = {name for one in of.get_params(click.Context(of)) for name in one.opts}
    return {word for word in words if word.startswith("--")} <= options


def commands(output):
    return [line for line in output.splitlines() if line.startswith("restyle ")]


def test_the_list_and_the_page_are_the_same_table():
    page = (ROOT / "docs" / "models.md").read_text()
    assert markdown() in page, "put the output of `restyle models --markdown` into docs/models.md"
    listed = run("models").splitlines()
    assert [line.split()[0] for line in listed[: len(CHECKPOINTS)]] == [c.name for c in CHECKPOINTS]


@pytest.mark.parametrize("one", CHECKPOINTS, ids=[one.name for one in CHECKPOINTS])
def test_each_is_shown_with_commands_that_exist(one):
    output = run("models", one.name)
    assert one.home in output
    assert one.licence in output
    for command in commands(output):
        assert known(command), command
    assert commands(output)


def test_flags_follow_from_what_a_file_is():
    [face] = [line for line in commands(run("models", "psp_ffhq_encode")) if " invert " in line]
    assert "--steps 1" in face
    assert "--align" not in face
    [car] = [line for line in commands(run("models", "e4e_cars_encode.pt")) if " invert " in line]
    assert "--steps 1 --align none" in car
    [toon] = [line for line in commands(run("models", "restyle_psp_toonify")) if " invert " in line]
    assert "--model restyle_psp_ffhq_encode.pt --then restyle_psp_toonify.pt --steps 2" in toon


def test_the_list_loads_no_torch():
    code = (
        "import sys; from jobs.cli import cli; cli(['models'], standalone_mode=False); "
        "print('torch' in sys.modules)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.splitlines()[-1] == "False"


@pytest.mark.parametrize(
    ("kind", "in_channels", "dataset", "flags"),
    [
        ("BackboneEncoder", 6, "ffhq_encode", ""),
        ("Encoder4Editing", 3, "horse_encode", "--steps 1 --align none"),
    ],
)
def test_inspect_ends_with_the_command(parity, tmp_path, kind, in_channels, dataset, flags):
    sys.path.insert(0, str(ROOT / "tests" / "encoders"))
    from published_files import encoder_shapes, generator_shapes

    assert kind in ENCODERS
    shapes = encoder_shapes(parity, kind, in_channels) | generator_shapes(parity)
    opts = argparse.Namespace(encoder_type=kind, dataset_type=dataset)
    path = tmp_path / "my model.pt"
    state = {key: torch.zeros(shape) for key, shape in shapes.items()}
    torch.save({"state_dict": state, "opts": opts, "latent_avg": torch.zeros(512)}, path)
    output = run("inspect", path)
    *_, command = commands(output)
    wanted = f"restyle invert photos/ --out latents/ --model '{path}' {flags}".strip()
    assert command == wanted
    assert "add --align none" not in output


def test_inspect_of_other_files(tiny_generator, tiny_inverter, tmp_path):
    from generators import Discriminator, DiscriminatorConfig, save_discriminator, save_generator

    save_generator(tmp_path / "g.safetensors", tiny_generator)
    save_discriminator(
        tmp_path / "d.safetensors", Discriminator(DiscriminatorConfig(32, channels=(8, 8, 8, 8)))
    )
    directions = ROOT / "generators" / "weights" / "directions" / "smile.safetensors"
    for path, says in (
        (tmp_path / "g.safetensors", "restyle train encoder"),
        (tmp_path / "d.safetensors", "--discriminator-from"),
        (directions, "restyle edit"),
        (tiny_inverter, f"restyle invert photos/ --out latents/ --model {tiny_inverter}"),
        ("demo", "restyle invert photos/ --out latents/ --model demo"),
    ):
        found = commands(run("inspect", path))
        assert any(line.startswith(says) or says in line for line in found), (path, found)
        assert all(known(line) for line in found)
    assert "add --align none" in run("inspect", tiny_inverter), "nothing tells what it draws"


def test_every_file_of_the_page_is_read_or_listed():
    """What the tables of checks name as published is in the catalogue, but for files that nothing lists."""
    names = {one.name for one in CHECKPOINTS}
    page = (ROOT / "docs" / "models.md").read_text()
    named = set(re.findall(r"`((?:restyle_|e4e_|psp_ffhq)[\w]+\.pt)`", page))
    assert named <= names
