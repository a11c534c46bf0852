"""Pictures in a row, as a folder of frames, an animated WebP or an MP4."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from generators.checkpoint import write_whole
from pipeline import images, storage
from pipeline.config import ConfigError

WEBP, MP4 = ".webp", ".mp4"
WEBP_QUALITY = 90
MP4_CRF = "16"  # of x264: hardly any loss to be seen
MISSING_AV = "an .mp4 needs the package av; run pip install 'restyle-batch[video]', or take a .webp"


def require(out: str) -> None:
    """Refuse what cannot be written, before anything is drawn.

    Raises:
        ConfigError: an address that is not local, a library that is missing, an unknown kind of file.
    """
    if storage.is_remote(out):
        raise ConfigError(f"frames go to a local path, not to {storage.public(out)}")
    suffix = Path(out).suffix.lower()
    if suffix == MP4:
        try:
            import av  # noqa: F401
        except ImportError:
            raise ConfigError(MISSING_AV) from None
    elif suffix not in ("", WEBP):
        raise ConfigError(f"--out is a folder, a {WEBP} or an {MP4}, not {out}")


def write(out: str, frames: Iterator[np.ndarray], frames_per_s: float) -> None:
    """Write pictures [H, W, 3] uint8 of one size; see :func:`require` for what ``out`` may be."""
    path = Path(out)
    path.parent.mkdir(parents=True, exist_ok=True)
    suffix = path.suffix.lower()
    if suffix == WEBP:
        write_whole(path, lambda part: _write_webp(part, frames, frames_per_s))
    elif suffix == MP4:
        write_whole(path, lambda part: _write_mp4(part, frames, frames_per_s))
    else:
        path.mkdir(exist_ok=True)
        for i, frame in enumerate(frames):
            save(path / f"{i:06}.png", images.encode_png(frame))


def save(path: Path, data: bytes) -> None:
    """A picture's file, which appears whole or not at all."""

    def write(part: Path) -> None:
        part.write_bytes(data)

    write_whole(path, write)


def _write_webp(path: Path, frames: Iterator[np.ndarray], frames_per_s: float) -> None:
    pictures = map(Image.fromarray, frames)
    next(pictures).save(
        path,
        "WEBP",
        save_all=True,
        append_images=pictures,
        duration=round(1000 / frames_per_s),
        loop=0,
        quality=WEBP_QUALITY,
    )


def _write_mp4(path: Path, frames: Iterator[np.ndarray], frames_per_s: float) -> None:
    import av

    with av.open(str(path), "w", format="mp4") as container:
        codec = "libx264" if "libx264" in av.codecs_available else "mpeg4"
        stream: Any = None
        for frame in frames:
            # Colours at half resolution, which every player shows, need even sides.
            height, width = (n - n % 2 for n in frame.shape[:2])
            if stream is None:
                stream = container.add_stream(
                    codec, rate=Fraction(round(1000 * frames_per_s), 1000)
                )
                stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
                stream.options = {"crf": MP4_CRF}
            even = np.ascontiguousarray(frame[:height, :width])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(even, format="rgb24")))
        container.mux(stream.encode())
