"""Video files as frames: upright, in their order, with their times; what cannot be read is one sentence.

A file is a stranger's: only formats that hold their pictures themselves are opened, so that none (a playlist,
say) makes FFmpeg open what it names.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.errors import ConfigError
from pipeline.shards import folders

# Names of files that are taken for clips where a folder holds them.
EXTENSIONS = frozenset("mp4 m4v mov mkv webm avi mpg mpeg ts mts m2ts 3gp flv wmv ogv".split())
# FFmpeg's names of the formats that are opened.
FORMATS = "mov,matroska,avi,mpegts,mpeg,mpegvideo,flv,asf,ogg"
MISSING_AV = "clips are read with the package av; run pip install 'restyle-batch[video]'"
# A clip that ends so many frames before its header says was cut off; an edit list may leave out a few.
MAX_FRAMES_MISSING = 3


@dataclass(frozen=True)
class ClipFile:
    """A video file and the name that its frames have in shards."""

    path: str
    name: str


@dataclass(frozen=True)
class ClipFrame:
    """One frame of a clip."""

    image_u8: np.ndarray  # [H, W, 3] RGB, upright
    number: int  # from 0
    time_s: float  # from the first frame
    fps: float  # of the clip, on the average


def is_clip(name: str) -> bool:
    """Whether this is the name of a video file."""
    return folders.extension(name) in EXTENSIONS


def named(paths: Sequence[str]) -> list[ClipFile]:
    """The clips of some files and folders, by their names.

    Raises:
        ConfigError: a folder without a clip, or two clips with one name.
    """
    found: list[ClipFile] = []
    for path in paths:
        if not os.path.isdir(path):
            found.append(ClipFile(path, name_of(os.path.basename(path))))
            continue
        names = [name for name in folders.walked(path).skipped if is_clip(name)]
        if not names:
            raise ConfigError(f"{path} holds no clip ({', '.join(sorted(EXTENSIONS))})")
        found += [ClipFile(os.path.join(path, n), name_of(n)) for n in names]
    by_name: dict[str, str] = {}
    for clip in found:
        other = by_name.setdefault(clip.name, clip.path)
        if other != clip.path:
            raise ConfigError(
                f"{other} and {clip.path} would both be the clip {clip.name}; rename one of them"
            )
    return [ClipFile(path, name) for name, path in by_name.items()]


def name_of(file: str) -> str:
    """The name of the clip in a file: its path without the extension, and with no other dots."""
    return folders.plain_key(file)


@contextmanager
def opened(path: str) -> Iterator[Any]:
    """A video file as PyAV's container, whatever is wrong with it told in a sentence.

    Raises:
        ConfigError: PyAV is missing, the file cannot be read, or it holds no video.
    """
    try:
        import av
    except ImportError:
        raise ConfigError(MISSING_AV) from None
    if not os.path.isfile(path):
        raise ConfigError(
            f"nothing at {path}; name a folder of photos, or a video file such as clip.mp4"
        )
    only = {"format_whitelist": FORMATS, "protocol_whitelist": "file"}
    with reading(path):
        container = av.open(f"file:{path}", options=only, metadata_errors="replace")
    with container:
        if not container.streams.video:
            raise ConfigError(f"{path} holds no video ({_held(container)}); leave it out")
        yield container


@contextmanager
def reading(path: str) -> Iterator[None]:
    """What PyAV finds wrong with a clip, told in a sentence.

    Raises:
        ConfigError: in the place of PyAV's errors.
    """
    import av

    try:
        yield
    except ConfigError:
        raise
    except (av.FFmpegError, ValueError) as error:  # ValueError: what PyAV itself refuses
        why = getattr(error, "strerror", None) or str(error)
        raise ConfigError(
            f"{path} cannot be read as a clip, or is damaged ({why}); leave it out, or convert it to an .mp4"
        ) from None


def _held(container: Any) -> str:
    kinds = sorted({stream.type for stream in container.streams})
    return f"only {' and '.join(kinds)}" if kinds else "nothing"


def frames(path: str) -> Iterator[ClipFrame]:
    """Every frame of a clip, one in memory at a time.

    Frames are turned as the file says; pixels that are not square are made so by the width.

    Raises:
        ConfigError: as :func:`opened`, and for a file that is damaged or cut off within.
    """
    with opened(path) as container, reading(path):
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        fps = float(stream.average_rate or stream.guessed_rate or 0)
        first: float | None = None
        last, n = -1.0, 0
        for frame in container.decode(stream):
            if frame.is_corrupt:
                raise ConfigError(f"{path} is damaged at frame {n}; convert or cut it first")
            time = _time(frame, n, fps)
            first = time if first is None else first
            # A clock that stands still or runs back would leave two frames at one time.
            since = max(time - first, last + 1e-3 if n else 0.0)
            picture = _upright(frame, stream.sample_aspect_ratio)
            yield ClipFrame(picture, n, round(since, 6), round(fps, 6))
            last, n = since, n + 1
        _require_whole(path, stream, n, last, fps)


def _time(frame: Any, n: int, fps: float) -> float:
    if frame.pts is None or frame.time_base is None:
        return n / (fps or 25.0)
    return float(frame.pts * frame.time_base)


def _upright(frame: Any, ratio: Any) -> np.ndarray:
    """Pixels of a frame as players show them, [H, W, 3] uint8; ratio: of a pixel's width to its height."""
    width = frame.width if not ratio else max(1, round(frame.width * float(ratio)))
    picture = frame.to_ndarray(format="rgb24", width=width, height=frame.height)
    # FFmpeg counts against the clock, as numpy does.
    return np.ascontiguousarray(np.rot90(picture, round(frame.rotation / 90) % 4))


def _require_whole(path: str, stream: Any, n: int, last: float, fps: float) -> None:
    if not n:
        raise ConfigError(f"{path} holds no frame that can be decoded; leave it out")
    stated = float(stream.duration * stream.time_base) if stream.duration else 0.0
    is_short = fps and last + (1 + MAX_FRAMES_MISSING) / fps < stated
    if is_short and n + MAX_FRAMES_MISSING < (stream.frames or 0):
        raise ConfigError(
            f"{path} is cut off: {n} of its {stream.frames} frames are there; get the whole file, or convert "
            "what there is to an .mp4"
        )
