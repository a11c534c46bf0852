"""The JSON that a Parquet file of ours holds in its footer."""

from __future__ import annotations

import io
import json
from pathlib import Path
from random import Random

import pyarrow.parquet as pq

from benchmarks.fuzz import folders
from benchmarks.fuzz.damage import json_damaged
from benchmarks.fuzz.folders import Files
from benchmarks.fuzz.kinds import Kind

KEY = b"restyle"


def _write(draw: Random, given: Path, made: dict[str, Files]) -> None:
    files = folders.chosen(draw, made)
    folders.without_record(files, draw)
    changed = folders.a_parquet(draw, files)
    is_one = draw.random() < 0.3  # else the same in all files, so that they belong together
    chance = draw.random()
    for name in [name for name in files if name.endswith(".parquet")]:
        if name == changed or not is_one:
            files[name] = _with_footer(Random(chance), files[name])
    folders.put(files, given / "lat")


def _with_footer(draw: Random, data: bytes) -> bytes:
    table = pq.read_table(io.BytesIO(data))
    record = json.loads(pq.read_metadata(io.BytesIO(data)).metadata[KEY])
    text = json_damaged(draw, record).encode(errors="surrogatepass")
    out = io.BytesIO()
    with pq.ParquetWriter(out, table.schema.remove_metadata()) as writer:
        writer.write_table(table.replace_schema_metadata())
        writer.add_key_value_metadata({KEY: text})
    return out.getvalue()


KIND = Kind("footers", folders.originals, _write, folders.words, folders.READERS)
