"""Latents in other forms: the same numbers, every row once, under names that cannot leave the folder."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from pipeline import LatentDataset
from pipeline.errors import ConfigError
from pipeline.faces import images
from pipeline.latents import export
from pipeline.shards import reader

OK = [i for i in range(11) if i % 5 != 4]


def place(key, **more):
    return {"key": key, "shard": "s", "sample_index": 3, "face": 0, **more}


def test_restyles_dictionary_holds_every_step(write_latents, tmp_path):
    rows = export.open_rows(write_latents(latents="all", steps=3), None)
    exported = export.to_npy(rows, str(tmp_path / "deep" / "latents.npy"))
    assert (exported.n_rows, exported.paths) == (9, [tmp_path / "deep" / "latents.npy"])
    found = np.load(tmp_path / "deep" / "latents.npy", allow_pickle=True).item()
    assert list(found) == [f"k{i}" for i in OK]
    for i in OK:
        np.testing.assert_array_equal(found[f"k{i}"], np.full((3, 4, 5), i, np.float32))
        found[f"k{i}"][0] = 0  # as writeable as ReStyle's
    # Names that each NumPy has; the module of NumPy 2's own pickles is not there in ReStyle's.
    pickled = (tmp_path / "deep" / "latents.npy").read_bytes()
    assert b"numpy._core" not in pickled
    assert pickled.startswith(b"\x93NUMPY\x01\x00")
    last = export.open_rows(write_latents("last", latent_dtype="float16"), "mse < 0.15")
    export.to_npy(last, str(tmp_path / "last.npy"))
    found = np.load(tmp_path / "last.npy", allow_pickle=True).item()
    assert {name: (v.shape, str(v.dtype)) for name, v in found.items()} == {
        "k0": ((1, 4, 5), "float32"),
        "k1": ((1, 4, 5), "float32"),
    }


def test_a_file_each_image(write_latents, tmp_path):
    told = []
    rows = export.open_rows(write_latents(), None)
    export.to_pt(rows, str(tmp_path / "pt"), told.append)
    assert sum(told) == 9
    assert sorted(p.name for p in (tmp_path / "pt").iterdir()) == sorted(f"k{i}.pt" for i in OK)
    tensor = torch.load(tmp_path / "pt" / "k7.pt", weights_only=True)
    assert torch.equal(tensor, torch.full((1, 4, 5), 7.0))
    before = (tmp_path / "pt" / "k7.pt").read_bytes()
    export.to_pt(rows, str(tmp_path / "again"))
    assert (tmp_path / "again" / "k7.pt").read_bytes() == before


def test_shards_of_pairs_are_samples_for_our_reader_and_webdataset(write_latents, tmp_path):
    import webdataset

    told = []
    rows = export.open_rows(write_latents(), None)
    exported = export.to_pairs(rows, str(tmp_path / "p" / "%03d.tar"), 4, told.append)
    assert [p.name for p in exported.paths] == ["000.tar", "001.tar", "002.tar"]
    assert sum(told) == exported.n_rows == 9
    fields = frozenset({"npy", "json"})
    samples = [s for path in exported.paths for s in reader.samples(str(path), fields)]
    assert [s.key for s in samples] == [f"k{i}" for i in OK]
    assert images.decode(samples[0].image).shape == (2, 3, 3)
    said = json.loads(samples[5].fields["json"])
    assert said == {
        "mse": pytest.approx(0.6), "identity": pytest.approx(0.06), "smile": 3.0, "cls": 6,
        "txt": "text 6",
    }  # fmt: skip
    pairs = webdataset.WebDataset(str(exported.paths[1]), shardshuffle=False).decode()
    for pair, i in zip(pairs, OK[4:8], strict=True):
        np.testing.assert_array_equal(pair["npy"], np.full((4, 5), i, np.float32))
    assert not list(tmp_path.rglob("*.part"))


def test_a_label_that_did_not_fit_its_column_is_not_lost():
    import pyarrow as pa

    from pipeline.latents.columns import decoded

    smile = pa.array([None], pa.float64())
    table = pa.table({"label_smile": smile, "label_json": ['{"smile": "yes", "box": [1]}']})
    said = export._said(decoded(table, 1), 0, table.column_names)
    assert said == {"smile": "yes", "box": [1]}


def test_what_an_edited_folder_holds(write_latents, tmp_path):
    """The picture of a pair is the edited one; a name says which edit."""
    source = Path(write_latents(), "0.parquet")
    table = pq.read_table(source)
    red, blue = (
        images.encode_png(np.full((2, 2, 3), c, np.uint8)) for c in ([255, 0, 0], [0, 0, 255])
    )
    n = len(table)
    columns = {
        "direction": pa.array(["smile"] * n), "strength": pa.array([-1.5] * n, pa.float32()),
        "aligned_image": pa.array([red] * n), "reconstruction": pa.array([blue] * n),
        # A label that is named like a metric, and a .json that held no object.
        "label_mse": pa.array(["x"] * n), "label_json": pa.array(["[1, 2]"] * n),
    }  # fmt: skip
    table = table.drop_columns([name for name in columns if name in table.column_names])
    for name, values in columns.items():
        table = table.append_column(name, values)
    pq.write_table(table, tmp_path / "edited.parquet")
    rows = export.open_rows(str(tmp_path / "edited.parquet"), "strength < 0")
    export.to_pairs(rows, str(tmp_path / "pairs.tar"), 100)
    fields = frozenset({"json"})
    samples = list(reader.samples(str(tmp_path / "pairs.tar"), fields))
    assert [s.key for s in samples] == [f"k{i}_smile-1_5" for i in (0, 1, 2, 3, 5)]
    assert samples[0].image == blue
    said = json.loads(samples[1].fields["json"])
    assert said == {
        "json": [1, 2], "mse": pytest.approx(0.1), "identity": pytest.approx(0.01), "smile": 0.5,
        "cls": 1, "txt": "text 1", "direction": "smile", "strength": -1.5, "label_mse": "x",
    }  # fmt: skip
    assert export.to_npy(rows, str(tmp_path / "edited.npy")).n_rows == 5
    assert export.to_pt(rows, str(tmp_path / "pt")).n_rows == 5


def test_what_is_there_is_not_overwritten(write_latents, tmp_path):
    rows = export.open_rows(write_latents(), None)
    for name in ("latents.npy", "001.tar", "pt/own.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("precious")
    for to, path in (
        (export.to_npy, "latents.npy"),
        (export.to_pt, "pt"),
        (lambda rows, out: export.to_pairs(rows, out, 5), "%03d.tar"),
    ):
        with pytest.raises(ConfigError, match="already exists; delete it, or choose another --out"):
            to(rows, str(tmp_path / path))
    found = [p.read_text() for p in tmp_path.rglob("*") if p.suffix in (".npy", ".tar", ".txt")]
    assert found == ["precious"] * 3
    assert not (tmp_path / "000.tar").exists()


def test_what_cannot_be_exported_is_refused(write_latents, tmp_path):
    folder = write_latents()
    with pytest.raises(ConfigError, match=r"has no successfully inverted rows and mse > 7"):
        export.open_rows(folder, "mse > 7")
    rows = export.open_rows(folder, None)
    with pytest.raises(ConfigError, match="must end in .npy"):
        export.to_npy(rows, str(tmp_path / "latents.pt"))
    with pytest.raises(ConfigError, match="must hold one number"):
        export.to_pairs(rows, str(tmp_path / "all.tar"), 2)
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="cannot write"):
        export.to_pt(rows, str(tmp_path / "file"))
    bare = export.open_rows(write_latents("bare", save_images=False), None)
    with pytest.raises(ConfigError, match="invert with --save-images"):
        export.to_pairs(bare, str(tmp_path / "%d.tar"), 2)


def test_the_command(write_latents, tmp_path):
    from click.testing import CliRunner

    from jobs.cli import cli

    def export(*words):
        return CliRunner().invoke(cli, ["export", write_latents(), *words])

    out = tmp_path / "latents.npy"
    result = export("--to", "npy", "--out", str(out), "--where", "label_cls >= 5")
    assert result.exit_code == 0, result.output
    assert f"5 rows in {out}" in result.output
    assert len(np.load(out, allow_pickle=True).item()) == 5
    result = export("--to", "pairs", "--out", str(tmp_path / "%d.tar"), "--samples", "5")
    assert f"9 rows in {tmp_path / '0.tar'} and 1 more" in result.output
    result = export("--to", "pt", "--out", "s3://bucket/pt")
    assert isinstance(result.exception, ConfigError)
    assert len(LatentDataset(write_latents())) == 11


def test_a_filter_stays_in_its_place_among_the_others(write_latents):
    """Rows that failed are never exported, whatever the user's filter says."""
    folder = write_latents()
    with pytest.raises(ConfigError, match="cannot be read"):
        export.open_rows(folder, "mse < 9) or (status != 'ok'")
    with pytest.raises(ConfigError, match="no successfully inverted rows"):
        export.open_rows(folder, "status != 'ok' or status != 'ok'")
    assert len(export.open_rows(folder, "mse < 9 # all")) == 9
