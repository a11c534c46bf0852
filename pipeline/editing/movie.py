"""Frames with times of their own -> an .mp4, with the sound of the clip that they come from."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from generators.files import atomic
from pipeline.editing.animation import MP4_CRF
from pipeline.shards import clips
from pipeline.storage import outputs

CLOCK = 90_000  # ticks a second: 24, 25, 30000/1001 and 60 frames are whole numbers of them
COPIED = frozenset({"aac", "mp3", "ac3", "eac3", "opus", "flac", "alac"})  # that an .mp4 may hold
BT709, BT601 = 1, 5  # FFmpeg's numbers of the colours of high and of standard definition
PRIMING_S = 0.1
HIGH_DEFINITION = 720  # rows, from which players expect the first


def write(
    out: str, frames: Iterator[tuple[float, np.ndarray]], fps: float, sound: str | None
) -> bool:
    """Write frames [H, W, 3] uint8 of one size at their times, in seconds; whether there is sound.

    An odd row or column is cut off: colours have half the resolution, which every player shows.

    Args:
        fps: about how many there are in a second.
        sound: the clip whose sound is taken along, moved as its first frame is moved to 0; None: none.

    Raises:
        ConfigError: the file cannot be written, or the clip not read.
    """
    try:
        with atomic.written(Path(out)) as part:
            return _write(part, frames, fps, sound)
    except OSError as error:
        raise outputs.not_writable(out, error) from None


def _write(
    part: Path, frames: Iterator[tuple[float, np.ndarray]], fps: float, sound: str | None
) -> bool:
    import av

    with ExitStack() as stack:
        container = stack.enter_context(av.open(str(part), "w", format="mp4"))
        heard = None
        if sound is not None:
            heard = _Sound(sound, stack.enter_context(clips.opened(sound)))
        stream: Any = None
        for time, frame in frames:
            height, width = (n - n % 2 for n in frame.shape[:2])
            if stream is None:
                stream = _video(container, height, width, fps)
                if heard is not None:
                    heard.start(container)
            if heard is not None:
                heard.until(time)
            picture = av.VideoFrame.from_ndarray(
                np.ascontiguousarray(frame[:height, :width]), format="rgb24"
            )
            picture = picture.reformat(format="yuv420p", dst_colorspace=_colours(height))
            picture.pts, picture.time_base = round(time * CLOCK), Fraction(1, CLOCK)
            container.mux(stream.encode(picture))
        container.mux(stream.encode())
        if heard is not None:
            heard.until(None)
        return heard is not None and heard.is_there


def _video(container: Any, height: int, width: int, fps: float) -> Any:
    import av

    codec = "libx264" if "libx264" in av.codecs_available else "mpeg4"
    stream = container.add_stream(codec, rate=Fraction(round(1000 * fps), 1000))
    stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
    stream.options = {"crf": MP4_CRF}
    stream.codec_context.time_base = Fraction(1, CLOCK)
    stream.codec_context.colorspace = _colours(height)
    return stream


def _colours(height: int) -> int:
    return BT709 if height >= HIGH_DEFINITION else BT601


class _Sound:
    """The sound of a clip, on its way into another file: as it is coded, or else as AAC."""

    def __init__(self, path: str, source: Any) -> None:
        self._path, self._source = path, source
        video, audio = source.streams.video[0], source.streams.audio
        self.is_there = bool(audio)
        if not audio:
            return
        self._stream = audio[0]
        self._is_copied = self._stream.codec_context.name in COPIED
        first = video.start_time or 0
        self._start = float(first * video.time_base)  # that the first frame is moved from
        self._waiting: Any = None

    def start(self, container: Any) -> None:
        """Add a stream to the file that is written."""
        if not self.is_there:
            return
        self._goal = container
        if self._is_copied:
            self._out = container.add_stream_from_template(self._stream)
            self._items = self._source.demux(self._stream)
        else:
            coded = self._stream.codec_context
            layout = "mono" if coded.channels == 1 else "stereo"
            self._out = container.add_stream("aac", rate=coded.sample_rate, layout=layout)
            self._items = self._source.decode(self._stream)

    def until(self, time: float | None) -> None:
        """Write what is heard before a time, in seconds; None: all that is left."""
        while self.is_there and self._items is not None:
            with clips.reading(self._path):
                item = self._waiting or next(self._items, None)
            self._waiting = None
            if item is None:
                self._items = None
                if not self._is_copied:
                    self._goal.mux(self._out.encode())
                return
            if item.pts is None:
                continue
            at = float(item.pts * item.time_base) - self._start
            if time is not None and at > time:
                self._waiting = item
                return
            # A coder's first packets lie before the beginning, and players need them for what follows.
            if at >= (-PRIMING_S if self._is_copied else 0):
                self._put(item)

    def _put(self, item: Any) -> None:
        moved = round(self._start / item.time_base)
        item.pts -= moved
        if self._is_copied:
            item.dts = item.pts  # sound is stored in the order in which it is heard
            item.stream = self._out
            self._goal.mux(item)
        else:
            self._goal.mux(self._out.encode(item))
