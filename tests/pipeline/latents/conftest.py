"""Small latent data sets, written as a run writes them."""

import numpy as np
import pytest

from pipeline import images, schema, writer
from pipeline.config import RunConfig, fingerprint
from pipeline.records import AlignedFace, Status
from pipeline.schema import Row
from pipeline.writer import ShardWriter

LABELS = {"label_smile": "double", "label_cls": "int64", "label_txt": "string"}


@pytest.fixture
def write_latents(tmp_path, monkeypatch):
    """Write files of (4, 5) latents in row groups of four; row i of all has latent i, every fifth failed.

    Row i has mse [1, i / 10], identity [None, i / 100] and label_smile i / 2, label_cls i.
    """
    monkeypatch.setattr(writer, "ROW_GROUP_ROWS", 4)
    pixel = images.encode_png(np.full((2, 3, 3), 255, np.uint8))

    def row(i, shape, steps):
        labels = {"label_smile": i / 2, "label_cls": i, "label_txt": f"text {i}"}
        if i % 5 == 4:
            face = AlignedFace(i, f"k{i}", Status.NO_FACE, "no face was found", n_faces=0)
            return Row(face, face.status, face.error, labels=labels)
        face = AlignedFace(i, f"k{i}", Status.OK, face=0, n_faces=1, width=640, height=480)
        metrics = {"mse": [1.0, i / 10], "identity": [None, i / 100]}
        latents = np.full((steps, *shape), i, np.float32)
        return Row(face, Status.OK, None, latents, metrics, pixel, pixel, labels)

    def write(folder="latents", sizes=(6, 5), shape=(4, 5), name="{}.parquet", **settings):
        defaults = {"steps": 2, "metrics": ("mse", "identity"), "align": "none"}
        kept = {"keep_fields": ("json", "txt", "cls"), "labels": LABELS, "save_images": True}
        config = RunConfig(**{**defaults, **kept, **settings})
        identity = {**config.settings(), "encoder_sha256": "e"}
        first = 0
        for number, n in enumerate(sizes):
            columns = schema.schema(config, *shape)
            out = ShardWriter(str(tmp_path / folder), name.format(number), f"{number}.tar", columns)
            out.add([row(i, shape, config.steps) for i in range(first, first + n)])
            record = {"fingerprint": fingerprint(identity), "identity": identity, "n_samples": n}
            out.commit({**record, "latent_avg": "AACAPwAAAEA=", "latent_avg_shape": [2]})
            first += n
        return str(tmp_path / folder)

    return write
