"""Pictures in a row, as a folder of frames, an animated WebP or GIF, or an MP4."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from generators.files import atomic
from pipeline import storage
from pipeline.errors import ConfigError
from pipeline.faces import images
from pipeline.storage import outputs

WEBP, GIF, MP4 = ".webp", ".gif", ".mp4"
IN_MEMORY = (WEBP, GIF)  # Pillow holds all frames until the last
WEBP_QUALITY = 90
MAX_BYTES = 2 << 30  # of pixels that are held
GIF_LEAST_MS = 20  # a frame; what is shorter, browsers show for 100
MP4_CRF = "16"  # of x264: hardly any loss to be seen
MISSING_AV = (
    "an .mp4 needs the package av; run pip install 'restyle-batch[video]', or choose a .webp"
)


def is_movie(out: str) -> bool:
    """Whether frames go into one file."""
    return Path(out).suffix.lower() in (WEBP, GIF, MP4)


def require(out: str) -> None:
    """Refuse what cannot be written, before anything is drawn.

    Raises:
        ConfigError: an address that is not local, a library that is missing, an unknown kind of file, a
            folder that is in use.
    """
    if storage.is_remote(out):
        raise ConfigError(f"frames go to a local path, not to {storage.redact(out)}")
    suffix = Path(out).suffix.lower()
    if suffix == MP4:
        try:
            import av  # noqa: F401
        except ImportError:
            raise ConfigError(MISSING_AV) from None
    elif suffix not in ("", *IN_MEMORY):
        raise ConfigError(f"--out is a folder, a {WEBP}, a {GIF} or an {MP4}, not {out}")

    if suffix:
        outputs.writable_file(out, f"path{suffix}")
    elif any(outputs.writable_folder(out).iterdir()):
        raise ConfigError(
            f"{out} already contains files, which would mix with the frames; delete it"
        )


def require_fitting(out: str, n_frames: int, size: tuple[int, int], fewer: str = "--steps") -> None:
    """Refuse a WebP or GIF of very many frames [H, W]: Pillow holds all of them until the last.

    fewer: what makes them fewer, for the message.

    Raises:
        ConfigError: so many do not fit.
    """
    n_bytes = 3 * n_frames * size[0] * size[1]
    suffix = Path(out).suffix.lower()
    if suffix in IN_MEMORY and n_bytes > MAX_BYTES:
        raise ConfigError(
            f"{n_frames} frames of {size[1]}x{size[0]} are too many for a {suffix}; choose an {MP4}, a "
            f"folder, or fewer {fewer}"
        )


def write(out: str, frames: Iterator[np.ndarray], frames_per_s: float) -> None:
    """Write pictures [H, W, 3] uint8 of one size; see :func:`require` for what ``out`` may be.

    Raises:
        ConfigError: it cannot be written.
    """
    try:
        _write(Path(out), frames, frames_per_s)
    except OSError as error:
        raise outputs.not_writable(out, error) from None


def _write(path: Path, frames: Iterator[np.ndarray], frames_per_s: float) -> None:
    suffix = path.suffix.lower()
    if suffix == WEBP:
        with atomic.written(path) as part:
            _write_webp(part, frames, frames_per_s)
    elif suffix == GIF:
        with atomic.written(path) as part:
            _write_gif(part, frames, frames_per_s)
    elif suffix == MP4:
        with atomic.written(path) as part:
            _write_mp4(part, frames, frames_per_s)
    else:
        path.mkdir(exist_ok=True)
        for i, frame in enumerate(frames):
            atomic.write_bytes(path / f"{i:06}.png", images.encode_png(frame))


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


def _write_gif(path: Path, frames: Iterator[np.ndarray], frames_per_s: float) -> None:
    # 256 colours that are each frame's own: with common ones, a face has bands.
    pictures = (
        Image.fromarray(frame).quantize(method=Image.Quantize.MEDIANCUT) for frame in frames
    )
    next(pictures).save(
        path,
        "GIF",
        save_all=True,
        append_images=pictures,
        duration=max(GIF_LEAST_MS, round(1000 / frames_per_s)),
        loop=0,
        disposal=1,
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
