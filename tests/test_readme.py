"""The README's code runs and its commands exist."""

import re
from pathlib import Path

import click
import pytest

from jobs.cli import cli

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


@pytest.fixture
def latents(tmp_path):
    """A small latent data set in ``latents/`` of the working folder."""
    import numpy as np
    from latent_folders import failed, inverted, write_file

    from pipeline.config import DEFAULT_METRICS

    for shard in range(2):
        rows = [
            inverted(
                i,
                f"{shard}/{i}",
                np.full((2, 4, 5), i, np.float32),
                {name: [0.5, 0.1 * i] for name in DEFAULT_METRICS},
            )
            for i in range(3)
        ]
        write_file(tmp_path / "latents", f"{shard}.parquet", [*rows, failed(3, f"{shard}/3")])
    return tmp_path


def run(block, folder, monkeypatch):
    monkeypatch.chdir(folder)
    names = {}
    exec(compile(block, "README.md", "exec"), names)
    return names


def block_with(word):
    [block] = [b for b in BLOCKS if word in b]
    return block


def test_pyarrow(latents, monkeypatch):
    table = run(block_with("pyarrow"), latents, monkeypatch)["table"]
    assert table.num_rows == 8
    assert table["mse"][1].as_py() == pytest.approx([0.5, 0.1])


def test_duckdb(latents, monkeypatch):
    best = run(block_with("duckdb"), latents, monkeypatch)["best"]
    assert [key for key, _ in best[:2]] == ["0/0", "1/0"] or [key for key, _ in best[:2]] == [
        "1/0",
        "0/0",
    ]
    assert len(best) == 6


def test_hugging_face_datasets(latents, monkeypatch):
    monkeypatch.setenv("HF_HOME", str(latents / "cache"))
    rows = run(block_with("load_dataset"), latents, monkeypatch)["rows"]
    assert len(rows) == 8
    latent = rows[2]["latent"]
    assert (len(latent), len(latent[0])) == (4, 5)
    assert latent[3][4] == 2.0


def test_latent_dataset(latents, monkeypatch):
    names = run(block_with("LatentDataset"), latents, monkeypatch)
    assert names["w_plus"].shape == (6, 4, 5)
    assert names["first"]["key"] == "0/0"


def test_model(tmp_path, monkeypatch):
    names = run(block_with("load_inverter"), tmp_path, monkeypatch)
    assert names["result"].latents.shape[0] == 5


def test_one_photo(tmp_path, monkeypatch):
    from importlib.resources import files

    from PIL import Image

    photo = files("pipeline.portraits") / "astronaut.jpg"
    (tmp_path / "photo.jpg").write_bytes(photo.read_bytes())
    names = run(block_with("Inverter("), tmp_path, monkeypatch)
    assert len(names["face"].images) == 5
    with Image.open(tmp_path / "smiling.jpg") as pasted, Image.open(photo) as before:
        assert pasted.size == before.size
    assert (tmp_path / "smiling.png").exists()


def test_drawing_with_stylegan3(tmp_path, monkeypatch):
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs/models.md").read_text(), re.DOTALL)
    [block] = [b for b in blocks if "StyleGAN3Generator" in b]
    names = run(block, tmp_path, monkeypatch)
    assert names["image"].shape == (1, 3, 32, 32)


@pytest.mark.parametrize(
    "page", ["README.md", "docs/training.md", "docs/reading.md", "docs/editing.md"]
)
def test_every_command_and_option_exists(page):
    lines = [
        line.split("#")[0]
        for block in re.findall(r"```sh\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)
        for line in block.splitlines()
        if line.startswith("restyle ")
    ]
    assert lines
    for line in lines:
        command, words = cli, line.split()[1:]
        while isinstance(command, click.Group):
            command = command.get_command(click.Context(command), words.pop(0))
        parameters = command.get_params(click.Context(command))
        known = {name for parameter in parameters for name in parameter.opts}
        assert set(re.findall(r"--[a-z-]+", line)) <= known, line


def test_files_that_it_shows_exist():
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert target.startswith("http") or (ROOT / target).exists(), target
