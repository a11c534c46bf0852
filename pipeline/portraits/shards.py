"""Rendered portraits as WebDataset shards: the picture, its normals and what is in it."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
import webdataset

from generators.files import atomic
from pipeline.errors import ConfigError
from pipeline.faces.images import encode_png, to_u8
from pipeline.portraits.framing import View
from pipeline.portraits.labels import attributes
from pipeline.portraits.parameters import sample
from pipeline.portraits.rendering import render
from pipeline.shards.packing import shard_name

CHUNK = 64  # rendered at once
# Seeds of two shards differ by one, those of two data sets by this.
SEED_STRIDE = 1_000_000
PER_SHARD = 2000  # samples, unless a number is given


def write(
    pattern: str,
    n: int,
    *,
    size: int,
    view: View,
    seed: int,
    per_shard: int,
    progress: Callable[[int], None] = lambda n: None,
) -> list[Path]:
    """Render ``n`` portraits into shards; those that are there already stay as they are.

    A sample is ``<key>.png`` [size, size], ``<key>.npy`` its normals [N_PARAMETERS] float32, what
    the mapping of a distilled generator takes as z, and ``<key>.json`` its attributes. The same
    arguments give the same portraits, whatever the number of processors.

    Args:
        pattern: path with one %d, such as ``portraits/%06d.tar``.
        progress: called with the number of portraits of each shard as it is done.

    Raises:
        ConfigError: a pattern that cannot name shards.
    """
    n_shards = -(-n // per_shard)
    paths = [shard_name(pattern, i, n_shards > 1) for i in range(n_shards)]
    sizes = [min(per_shard, n - i * per_shard) for i in range(n_shards)]
    n_processes = min(n_shards, os.cpu_count() or 1)
    # Fresh processes: torch's threads do not survive a fork.
    with ProcessPoolExecutor(n_processes, mp_context=get_context("spawn")) as pool:
        jobs = [
            pool.submit(_write_shard, path, count, size, view, seed * SEED_STRIDE + i)
            for i, (path, count) in enumerate(zip(paths, sizes, strict=True))
        ]
        try:
            for job, count in zip(jobs, sizes, strict=True):
                job.result()
                progress(count)
        except OSError as error:
            pool.shutdown(wait=False, cancel_futures=True)
            raise ConfigError(f"cannot write shards to {paths[0].parent}: {error}") from None
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return paths


def _write_shard(path: Path, n: int, size: int, view: View, seed: int) -> None:
    if os.path.exists(path):
        return
    torch.set_num_threads(1)
    path.parent.mkdir(parents=True, exist_ok=True)
    all_z = sample(n, seed)
    stem = path.stem.replace(".", "_")  # a key ends at the first dot
    with (
        atomic.written(path) as part,
        part.open("wb") as file,
        webdataset.TarWriter(file, encoder=False, mtime=0.0) as tar,
    ):
        for first in range(0, n, CHUNK):
            z = all_z[first : first + CHUNK]
            named = {name: v.tolist() for name, v in attributes(z).items()}
            for i, image in enumerate(render(z, size, view)):
                labels = {name: round(v[i], 5) for name, v in named.items()}
                buffer = io.BytesIO()
                np.save(buffer, z[i].numpy())
                tar.write(
                    {
                        "__key__": f"{stem}_{first + i:06}",
                        "png": encode_png(to_u8(image)),
                        "npy": buffer.getvalue(),
                        "json": json.dumps(labels).encode(),
                    }
                )
