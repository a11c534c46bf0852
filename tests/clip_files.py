"""Clips for tests: drawn frames with times of their own, with sound or turned where asked for."""

from fractions import Fraction

import av
import numpy as np

CLOCK = 90_000


def write_clip(path, frames, times=None, fps=24, sound=None, codec="aac", **options):
    """Write frames [N, H, W, 3] uint8 at times in seconds; sound: [n] float32 samples at 16 kHz."""
    times = [i / fps for i in range(len(frames))] if times is None else times
    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream("libx264", rate=fps, options={"crf": "10"})
        stream.height, stream.width, stream.pix_fmt = *frames[0].shape[:2], "yuv420p"
        stream.codec_context.time_base = Fraction(1, CLOCK)
        audio = None if sound is None else container.add_stream(codec, rate=16_000, layout="mono")
        for picture, time in zip(frames, times, strict=True):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = round(time * CLOCK), Fraction(1, CLOCK)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
        if audio is not None:
            kind = audio.codec_context.format.name
            samples = sound if kind.startswith("flt") else (sound * 32767).astype(np.int16)
            heard = av.AudioFrame.from_ndarray(samples[None], format=kind, layout="mono")
            heard.rate, heard.pts = 16_000, 0
            container.mux(audio.encode(heard))
            container.mux(audio.encode())
    return str(path)


def copied(source, goal, kind="video", turn=0):
    """One stream of a clip in a file of its own, without coding it again."""
    with av.open(source) as given, av.open(str(goal), "w", format="mp4") as made:
        stream = made.add_stream_from_template(getattr(given.streams, kind)[0])
        if turn:
            stream.set_display_rotation(turn)
        for packet in given.demux(getattr(given.streams, kind)[0]):
            if packet.dts is not None:
                packet.stream = stream
                made.mux(packet)
    return str(goal)


def quartered(n, height=48, width=64):
    """Frames whose upper left corner is red; the lower right one brightens from frame to frame."""
    frames = np.zeros((n, height, width, 3), np.uint8)
    frames[:, : height // 2, : width // 2] = 255, 0, 0
    for i, frame in enumerate(frames):
        frame[height // 2 :, width // 2 :] = 0, 6 * i, 255
    return frames
