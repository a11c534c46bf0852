"""Latent folders as `restyle invert` writes them, made without Ray."""

import base64
import json
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest


@pytest.fixture(scope="session")
def make_latents(tiny_inverter):
    """Write a folder of latents of the small inverter; returns what is in it."""
    from encoders import load_inverter
    from pipeline.config import FOOTER_KEY, RunConfig, fingerprint
    from pipeline.latents.schema import nested_array, schema
    from pipeline.models import checkpoint_hashes

    model = load_inverter(tiny_inverter)
    n_styles, w_dim = model.generator.n_styles, model.generator.w_dim
    hashes = checkpoint_hashes(model)

    def make(folder, n_shards=2, n_rows=6, labels=None, latents=None, dtype="float32", quad=None):
        config = RunConfig(model=str(tiny_inverter), metrics=("mse",), steps=2, latent_dtype=dtype)
        settings = {**config.settings(), **hashes}
        columns = schema(config, n_styles, w_dim)
        folder.mkdir(exist_ok=True)
        if latents is None:
            source = np.random.default_rng(0)
            latents = source.normal(size=(n_shards * n_rows, n_styles, w_dim)).astype(np.float32)
        labels = labels or {}
        for s in range(n_shards):
            rows = slice(s * n_rows, (s + 1) * n_rows)
            # The last row of each shard failed.
            is_ok = [i < n_rows - 1 for i in range(n_rows)]
            values = {
                "key": [f"{s}/{i}" for i in range(n_rows)],
                "shard": [str(folder.parent / f"{s:03}.tar")] * n_rows,
                "sample_index": range(n_rows),
                "face": [0 if ok else -1 for ok in is_ok],
                "n_faces": [int(ok) for ok in is_ok],
                "status": ["ok" if ok else "no_face" for ok in is_ok],
                "error": [None if ok else "nobody" for ok in is_ok],
                "mse": [[0.2, 0.1] if ok else None for ok in is_ok],
                "width": [80] * n_rows,
                "height": [60] * n_rows,
            }
            given = [v if ok else None for v, ok in zip(latents[rows], is_ok, strict=True)]
            quads = None if quad is None else [quad if ok else None for ok in is_ok]
            arrays, fields = [], []
            for column in columns:
                if column.name == "latent":
                    array = nested_array(given, column)
                elif column.name == "quad" and quads is not None:
                    array = nested_array(quads, column)
                elif column.name in values:
                    array = pa.array(list(values[column.name]), column.type)
                else:
                    continue
                arrays.append(array)
                fields.append(column)
            for name, label in labels.items():
                arrays.append(pa.array(label[rows]))
                fields.append(pa.field(f"label_{name}", arrays[-1].type))
            record = {
                "fingerprint": fingerprint(settings),
                "identity": settings,
                "model": str(tiny_inverter),
                "then": None,
                "generator": None,
                "shard": str(folder.parent / f"{s:03}.tar"),
                "n_samples": n_rows,
                "n_by_status": {"no_face": 1, "ok": n_rows - 1},
                "latent_avg": base64.b64encode(bytes(4 * n_styles * w_dim)).decode(),
                "latent_avg_shape": [n_styles, w_dim],
                "n_rows": n_rows,
            }
            table = pa.table(arrays, schema=pa.schema(fields))
            table = table.replace_schema_metadata({FOOTER_KEY: json.dumps(record)})
            name = f"{s:03}.{s:016x}.{'0' * 8}.parquet"
            pq.write_table(table, folder / name, row_group_size=max(4, n_rows // 3))
        return SimpleNamespace(
            path=str(folder), latents=latents, shape=(n_styles, w_dim), model=model
        )

    return make


@pytest.fixture
def make_edited(tmp_path):
    """Edit a folder along a random direction as `restyle edit` does, without Ray; returns the new folder."""
    from dataclasses import replace

    import torch

    from generators import directions
    from pipeline.config import ClusterConfig
    from pipeline.editing.actor import EditorActor
    from pipeline.editing.edit import EditConfig, plan_edit
    from pipeline.engine.local import LocalHost
    from pipeline.engine.run_folder import RunFolder
    from pipeline.engine.tasks import InThisProcess

    def make(latents, out, strengths=(2.0,), **settings):
        path = tmp_path / "d.safetensors"
        direction = np.random.default_rng(1).normal(size=latents.shape).astype(np.float32)
        directions.save(path, torch.from_numpy(direction), {}, "")
        config = EditConfig(directions=(str(path),), strengths=strengths, **settings)
        how = ClusterConfig(gpus_per_actor=0)
        plan = plan_edit(latents.path, str(out), config, how, dry_run=True)
        RunFolder(plan.out).write_run_record(plan.settings, plan.tasks, overwrite=False)
        workers = replace(plan.workers, n_threads=torch.get_num_threads())
        editor = EditorActor(workers, LocalHost(InThisProcess()))
        editor.load()
        for task in plan.pending:
            editor.process(task)
        return str(out)

    return make
