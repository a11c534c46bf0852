"""Every block of docs/reading.md runs, in every reader people use, and finds the same latents."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

PAGE = (Path(__file__).parents[3] / "docs" / "reading.md").read_text()
# Of each heading the block below it, where it has one.
SECTIONS = {
    section.partition("\n")[0]: block
    for section in re.split(r"^## ", PAGE, flags=re.MULTILINE)[1:]
    for block in re.findall(r"```python\n(.*?)```", section, re.DOTALL)[:1]
}
WANTED = np.arange(6).reshape(-1, 1, 1) * np.ones((1, 4, 5))


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Run a section's block beside ``latents/``: two shards of three faces and a failure each."""
    from latent_folders import failed, inverted, write_file

    from pipeline.config import RunConfig

    labels = {"label_smile": "double", "label_json": "string"}
    config = RunConfig(steps=2, keep_fields=("json",), labels=labels)
    folder = str(tmp_path / "latents")
    for shard in range(2):
        rows = []
        for i in range(3):
            metrics = {name: [0.5, 0.6 + 0.1 * i] for name in config.metrics}
            latents = np.full((2, 4, 5), 3 * shard + i, np.float32)
            smile = {"label_smile": i / 2}
            rows.append(inverted(i, f"{shard}/{i}", latents, metrics, labels=smile))
        rows.append(failed(3, f"{shard}/3"))
        record = {"latent_avg": "AACAPwAAAEA=", "latent_avg_shape": [2]}
        write_file(folder, f"{shard}.parquet", rows, config, **record)
    (tmp_path / "latents" / "_run" / "settings.json").write_text(json.dumps({"steps": 2}))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))

    def start(section):
        names = {"__name__": "__main__"}  # functions that Ray sends away are taken along
        exec(compile(SECTIONS[section], section, "exec"), names)
        return names

    return start


def test_latent_dataset(run):
    names = run("For torch: LatentDataset")
    np.testing.assert_array_equal(names["w_plus"], WANTED)
    assert names["row"]["key"] == "0/0"
    assert names["table"].to_pydict()["label_smile"] == [0, 0.5, 1, 0, 0.5, 1]
    assert names["average"].tolist() == [1, 2]
    assert names["batch"]["latent"].shape[1:] == (4, 5)


@pytest.mark.parametrize("section", ["pyarrow", "pandas", "polars", "Hugging Face datasets"])
def test_readers_find_the_latents(run, section):
    found = np.asarray(run(section)["w_plus"])
    np.testing.assert_array_equal(found[found[:, 0, 0].argsort()], WANTED)
    assert found.dtype == np.float32


@pytest.mark.parametrize("section", ["pandas", "polars"])
def test_frames_have_the_metrics(run, section):
    errors = sorted(run(section)["frame"]["error"].to_list())
    np.testing.assert_allclose(errors, [0.6, 0.6, 0.7, 0.7, 0.8, 0.8], rtol=1e-6)


def test_duckdb(run):
    best = run("DuckDB")["best"]
    assert sorted(best["key"][:2]) == ["0/0", "1/0"]
    assert len(best) == 6
    key, style = best["key"][0], best["first_style"][0]
    np.testing.assert_array_equal(style, [3 * int(key[0])] * 5)


@pytest.mark.ray
@pytest.mark.slow
def test_ray_data(run, cluster, tmp_path, monkeypatch):
    import ray

    # Workers of a cluster have another working directory.
    block = SECTIONS["Ray Data"].replace("latents/", f"{tmp_path}/latents/")
    monkeypatch.setitem(SECTIONS, "Ray Data", block)
    ray.init(address=cluster, log_to_driver=False)
    try:
        table = run("Ray Data")["table"].sort_values("norm")
    finally:
        ray.shutdown()
    np.testing.assert_allclose(table["norm"], np.arange(6) * np.sqrt(20), rtol=1e-6)
    assert table["key"].tolist()[:3] == ["0/0", "0/1", "0/2"]


def test_the_footer(run):
    assert run("The footer")["record"]["shard"] in ("0.tar", "1.tar")


def test_hugging_face_reads_a_whole_folder_and_shows_pictures(tmp_path, monkeypatch, photo):
    datasets = pytest.importorskip("datasets")
    from latent_folders import inverted, write_file

    from pipeline.config import RunConfig
    from pipeline.engine.run_folder import CARD, RunFolder

    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
    config = RunConfig(steps=1, save_images=True, metrics=())
    folder = tmp_path / "latents"
    RunFolder(str(folder)).write_run_record(config.settings(), [], overwrite=False)
    for shard in range(2):
        rows = [inverted(i, f"{shard}/{i}", np.zeros((1, 4, 5), np.float32)) for i in range(2)]
        for row in rows:
            row.aligned_image = row.reconstruction = photo()
        write_file(folder, f"{shard}.parquet", rows, config)
    found = datasets.load_dataset(str(folder), split="train", cache_dir=str(tmp_path / "c"))
    assert found["key"] == ["0/0", "0/1", "1/0", "1/1"]
    found = found.cast_column("reconstruction", datasets.Image())
    assert found[0]["reconstruction"].size == (80, 60)
    (folder / CARD).write_text("mine: 1")
    RunFolder(str(folder)).write_run_record(config.settings(), [], overwrite=False)
    assert (folder / CARD).read_text() == "mine: 1"
