"""A folder for the Hugging Face Hub: read by `datasets` itself, with a card that no text breaks."""

import json
import re
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from jobs.cli import cli
from pipeline.errors import ConfigError
from pipeline.latents import card, export, hub

OK = [i for i in range(11) if i % 5 != 4]
HOSTILE = "x\n---\nlicense: mit\n---\n# <script>alert(1)</script> [click](javascript:1) | `a` ![](http://e.com/x)"


def test_datasets_opens_it_with_pictures(write_latents, tmp_path, monkeypatch):
    datasets = pytest.importorskip("datasets")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    told = []
    rows = export.open_rows(write_latents(latents="all"), None)
    exported = hub.to_hub(rows, str(tmp_path / "hub"), 4, progress=told.append)
    assert [path.name for path in exported.paths] == [
        f"train-{i:05}-of-00003.parquet" for i in range(3)
    ]
    assert exported.n_rows == sum(told) == 9
    found = datasets.load_dataset(str(tmp_path / "hub"), split="train", cache_dir=tmp_path / "c")
    assert found["key"] == [f"k{i}" for i in OK]
    assert {"status", "error"}.isdisjoint(found.column_names)
    assert found[0]["aligned_image"].size == found[8]["reconstruction"].size == (3, 2)
    latents = found.with_format("numpy", columns=["latent"])[:]["latent"]
    np.testing.assert_array_equal(latents[:, 0, 0], OK)
    assert np.asarray(found[1]["latents_by_step"]).shape == (2, 4, 5)
    assert found[3]["label_smile"] == 1.5
    picture = pq.read_table(exported.paths[0])["aligned_image"][1].as_py()
    assert picture["path"] == "k1.png"


def test_without_pictures_and_with_a_filter(write_latents, tmp_path):
    rows = export.open_rows(write_latents(save_images=False), "mse < 0.35")
    hub.to_hub(rows, str(tmp_path / "hub"), 100, "mse < 0.35")
    text = (tmp_path / "hub" / "README.md").read_text()
    assert "4 latents of 4 x 5 numbers" in text
    assert r"They are those with mse &lt; 0\.35." in text
    assert "PIL" not in text
    assert "| mse | 1 | 0.15 |" in text  # medians of the rows that are here
    assert re.search(r"\| no\\_face \| 2 \|\n\| ok \| 9 \|", text)
    with pytest.raises(ConfigError, match="already exists"):
        hub.to_hub(rows, str(tmp_path / "hub"), 100)


def test_no_path_of_this_machine_is_published(write_latents, tmp_path):
    folder = Path(write_latents())
    rows = export.open_rows(str(folder), None)
    rows.footer["model"] = "/home/ann/secret/psp.pt"
    exported = hub.to_hub(rows, str(tmp_path / "hub"), 100)
    shards = pq.read_table(exported.paths[0])["shard"].to_pylist()
    assert set(shards) == {"0.tar", "1.tar"}
    for path in (tmp_path / "hub").rglob("*.*"):
        assert b"secret" not in path.read_bytes()
    assert json.loads((tmp_path / "hub" / "restyle.json").read_text())["model"] == "psp.pt"


def test_a_strangers_text_is_text():
    yaml = pytest.importorskip("yaml")
    footer = {
        "model": f"m/{HOSTILE}", "fingerprint": HOSTILE, "identity": {HOSTILE: HOSTILE, "steps": 5},
        "versions": {"torch": HOSTILE},
    }  # fmt: skip
    columns = ["key", "latent", f"label_{HOSTILE}", "aligned_image"]
    story = card.Story(footer, {HOSTILE: 3}, 7, HOSTILE, columns, (4, 5), {"mse": (1.0, 0.5)})
    text = card.card(story)
    _, front, body = text.split("---\n", 2)
    said = yaml.safe_load(front)
    assert said["license"] == "unknown"
    assert said["configs"][0]["data_files"] == [{"split": "train", "path": "data/*.parquet"}]
    assert not re.search(r"<script|(?<!\\)\[click|(?<!\\)!\[|^---$|^license:", body, re.MULTILINE)
    headings = [line for line in body.splitlines() if line.startswith("#")]
    assert headings == [
        "# StyleGAN latents", "## Columns", "## How they were made", "## Quality", "## Licence"
    ]  # fmt: skip
    # Every line of a table has the cells of its head.
    for line in re.findall(r"^\|.*", body, re.MULTILINE):
        assert len(re.findall(r"(?<!\\)\|", line)) in (3, 4), line


def test_the_command_says_how_to_upload(write_latents, tmp_path):
    out = str(tmp_path / "my hub")
    result = CliRunner().invoke(cli, ["export", write_latents(), "--to", "hf", "--out", out])
    assert result.exit_code == 0, result.output
    assert f"hf upload USER/NAME '{out}' . --repo-type dataset --private" in result.output
