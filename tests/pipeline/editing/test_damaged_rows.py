"""Rows of a stranger beside a sound footer: latents, quads and gaps that nothing of ours writes."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline import report
from pipeline.editing.interpolation import PathConfig, interpolate
from pipeline.editing.render import RenderConfig, render
from pipeline.errors import ConfigError
from pipeline.latents import export

QUAD = np.array([[20, 10], [20, 50], [60, 50], [60, 10]], np.float32)


@pytest.fixture
def latents(make_latents, tmp_path, monkeypatch, write_tar, photo):
    monkeypatch.chdir(tmp_path)
    write_tar(tmp_path / "000.tar", [(f"0/{i}.png", photo(i)) for i in range(6)])
    return make_latents(tmp_path / "latents", n_shards=1, quad=QUAD)


def change(made, name, value):
    """Put a value into the second row."""
    [path] = Path(made.path).glob("*.parquet")
    table, footer = pq.read_table(path), pq.read_metadata(path).metadata[b"restyle"]
    values = table[name].to_pylist()
    values[1] = value(values[1])
    place = table.schema.get_field_index(name)
    type_ = (
        pa.list_(pa.list_(pa.float32()))
        if name in ("latent", "quad")
        else table.schema.field(name).type
    )
    table = table.set_column(place, name, pa.array(values, type_))
    pq.write_table(table.replace_schema_metadata({b"restyle": footer}), path)


def draw(made, **settings):
    return render(made.path, "out", RenderConfig(**settings), lambda n: None)


@pytest.mark.parametrize(
    "value",
    [lambda v: v[:-1], lambda v: [row[:-1] for row in v], lambda v: [], lambda v: [None, *v[1:]]],
)
def test_a_latent_of_another_shape(latents, value):
    change(latents, "latent", value)
    says = "is not for this generator|of another shape|of different shapes|has a gap"
    with pytest.raises(ConfigError, match=says):
        draw(latents)
    with pytest.raises(ConfigError, match=says):
        interpolate(latents.path, "out.webp", PathConfig(("0/0", "0/1"), steps=1))
    with pytest.raises(ConfigError, match=says):
        export.to_npy(export.open_rows(latents.path, None), "out.npy")


@pytest.mark.parametrize(
    "value",
    [
        lambda v: None,
        lambda v: v[:-1],
        lambda v: [[float("nan")] * 2] * 4,
        lambda v: [[float("inf")] * 2] * 4,
        lambda v: [[1.0, 1.0]] * 4,
        lambda v: [[1.0]] * 4,
    ],
)
def test_a_quad_that_is_none(latents, value):
    change(latents, "quad", value)
    with pytest.raises(ConfigError, match="where its face was|cannot be pasted back|another shape"):
        draw(latents, paste_back="replace")


def test_a_row_without_a_key(latents):
    change(latents, "key", lambda _: None)
    for read in (draw, lambda made: report.write(made.path, "r.html")):
        with pytest.raises(ConfigError, match="gaps in its column key|was not written by"):
            read(latents)
