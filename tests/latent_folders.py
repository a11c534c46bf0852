"""One builder of latent folders for tests: rows, and files of them by the real writer."""

from collections import Counter

from pipeline.config import RunConfig, fingerprint
from pipeline.latents.schema import Row, schema
from pipeline.latents.writer import ShardWriter
from pipeline.records import AlignedFace, Status


def inverted(i, key, latents, metrics=None, *, labels=None, **face) -> Row:
    """The row of sample i.

    Args:
        latents: of each step, [n_steps, n_styles, w_dim].
        face: more of what alignment told, such as width and quad.
    """
    aligned = AlignedFace(i, key, Status.OK, face=0, n_faces=1, **face)
    return Row(aligned, Status.OK, None, latents, metrics or {}, labels=labels or {})


def failed(i, key, status=Status.NO_FACE, error="no face was found", **facts) -> Row:
    """The row of a sample that failed."""
    labels = facts.pop("labels", {})
    return Row(AlignedFace(i, key, status, error, **facts), status, error, labels=labels)


def write_file(
    folder, name, rows, config=None, shape=(4, 5), settings=None, row_group_rows=1024, **record
):
    """Commit a Parquet file, of a shard that is named like it if ``shard`` does not say otherwise.

    Args:
        shape: of a latent.
        settings: of the run; None: the config's.
        record: more for the footer, or another value of an entry.
    """
    config = config or RunConfig(steps=2)
    settings = settings or config.settings()
    shard = record.pop("shard", name.replace(".parquet", ".tar"))
    columns = schema(config, *shape)
    writer = ShardWriter(str(folder), name, shard, columns, row_group_rows=row_group_rows)
    writer.add(rows)
    usual = {
        "fingerprint": fingerprint(settings),
        "identity": settings,
        "model": str(config.model),
        "then": None,
        "generator": None,
        "shard": shard,
        "n_samples": len({row.face.index for row in rows}),
        "n_by_status": dict(Counter(str(row.status) for row in rows)),
    }
    writer.commit(usual | record)
