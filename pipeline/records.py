"""What travels between the hops of the pipeline."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np


class Status(StrEnum):
    """What became of a row. Everything but OK carries an error and no latent."""

    OK = "ok"
    NO_FACE = "no_face"  # decoded, but the detector found nobody
    DECODE_ERROR = "decode_error"  # the bytes are not an image that can be read
    MISSING_IMAGE = "missing_image"  # the sample has no member with an image extension
    AMBIGUOUS_IMAGE = "ambiguous_image"  # several images, and no way to tell which is meant
    FIELD_ERROR = "field_error"  # a member that was asked for beside the image cannot be given
    ALIGN_ERROR = "align_error"  # a face was found, but its crop cannot be formed
    NOT_FINITE = "not_finite"  # the model answered with NaN or infinity
    CRASHED = "crashed"  # every process that works on it dies, or fails in a way nobody foresaw


# What `restyle pack` takes and the reader decodes (or reports as a row, where it cannot).
IMAGE_EXTENSIONS = frozenset(
    "jpg jpeg jfif jpe png webp bmp tif tiff gif ppm pgm pnm jp2 avif heic heif svg".split()
)
# What another machine or another version of a library may mend: `--retry-failed`.
RETRYABLE = frozenset({Status.NOT_FINITE, Status.CRASHED})
# The same sentence however it died, for rows depend on the data alone.
CRASHED_ERROR = "each process that worked on it died (a crash inside a library, or out of memory)"


@dataclass(frozen=True)
class Task:
    """One shard to invert."""

    source: str  # its URL
    version: str  # size and modification time or etag; "" where the source tells neither
    output: str  # name of the Parquet file

    @property
    def n_bytes(self) -> int | None:
        """Of the source; None where it does not tell."""
        size = re.match(r"size=(\d+)", self.version)
        return int(size[1]) if size else None


@dataclass(frozen=True)
class Sample:
    """One sample of a shard, its image not yet decoded."""

    index: int  # position in the shard
    key: str  # WebDataset __key__
    image: bytes | None
    status: Status = Status.OK
    error: str | None = None
    fields: Mapping[str, bytes] = field(default_factory=dict)  # other members that were asked for


@dataclass(frozen=True)
class AlignedFace:
    """One row to be: a face ready for the encoder, or a failure."""

    index: int
    key: str
    status: Status
    error: str | None = None
    face: int = -1  # 0 is the largest; -1 where no detector ran or nobody was found
    n_faces: int = -1  # -1 where no detector ran
    image_u8: np.ndarray | None = None  # [h, w, 3] at the encoder's input size
    chip_u8: np.ndarray | None = (
        None  # [150, 150, 3], what dlib's identity sees of it, where wanted
    )
    landmarks: np.ndarray | None = None  # [68, 2] float32, source pixels
    quad: np.ndarray | None = None  # [4, 2] float32, source pixels
    detection_score: float | None = None
    width: int | None = None  # of the source image
    height: int | None = None
    of_class: str | None = None  # by its labels, where a generator that draws by class asks for it
    # Of a frame of a clip (`--video`), where the face was followed to it.
    track: int | None = None  # from 0; a face that was lost for too long comes back as the next
    is_interpolated: bool = False  # whether its place was, because it was not found


@dataclass(frozen=True)
class Report:
    """What an actor says of a finished shard."""

    task: Task
    n_samples: int
    n_by_status: Mapping[str, int]  # rows
    seconds: Mapping[str, float] = field(default_factory=dict)  # busy time of each stage
    worker: str = ""  # node, GPU and process that did it
    execution: str = ""  # how its model ran, where that is worth telling
    n_worse: int = 0  # rows whose last step is clearly worse than their best

    @property
    def n_rows(self) -> int:
        return sum(self.n_by_status.values())
