"""A folder of latents as a stranger would send it, made from $PROJ/demo: stranger.py OUT SHARD_URL [PATCH].

PATCH is JSON that is laid over the footer, or RAW followed by what stands in the footer's place.
"""

import json
import os
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq


def laid_over(record, patch):
    """`record`, changed in place, dictionary by dictionary."""
    for key, value in patch.items():
        record[key] = laid_over(record.get(key, {}), value) if isinstance(value, dict) else value
    return record


def main():
    out, url, *rest = sys.argv[1:]
    source = min(Path(os.environ["PROJ"], "demo", "latents").glob("*.parquet"))
    table = pq.read_table(source).slice(0, 4)
    record = json.loads(pq.read_metadata(source).metadata[b"restyle"])
    if url:
        at = table.schema.get_field_index("shard")
        field = table.schema.field(at)
        table = table.set_column(at, field, pa.array([url] * len(table), field.type))
        record["shard"] = url
    record |= {"n_samples": len(table), "n_rows": len(table), "n_by_status": {"ok": len(table)}}
    patch = rest[0] if rest else "{}"
    is_raw = patch.startswith("RAW")
    footer = patch[3:] if is_raw else json.dumps(laid_over(record, json.loads(patch)))
    os.makedirs(out)
    with pq.ParquetWriter(Path(out, source.name), table.schema.remove_metadata()) as writer:
        writer.write_table(table.replace_schema_metadata())
        writer.add_key_value_metadata({"restyle": footer})


if __name__ == "__main__":
    main()
