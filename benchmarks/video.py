"""How still a video is before and after smoothing: ``python -m benchmarks.video [--frames 48] [--size 256]``.

A rendered portrait turns its head and smiles, its frames are inverted as they are found and averaged over
time, and the rows are drawn and pasted back. What moves between two frames is the head's own motion and the
jitter of landmarks and latents: the first is the same for all.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch

from pipeline.faces import images

TURN, SMILE = (
    (1.2, 1),
    (-1.0, 1.8),
)  # yaw's amplitude and periods; smile at both ends: standard deviations


def portrait_clip(n: int, size: int, seed: int = 3) -> np.ndarray:
    """Frames [n, size, size, 3] uint8 of a portrait that turns its head and begins to smile."""
    from pipeline import portraits
    from pipeline.portraits.parameters import Parameters

    place = {field.name: i for i, field in enumerate(fields(Parameters))}
    z = portraits.sample(1, seed).repeat(n, 1)
    time = torch.linspace(0, 1, n)
    for hidden in ("glasses", "beard", "moustache"):
        z[:, place[hidden]] = -1.0
    z[:, place["yaw"]] = TURN[0] * torch.sin(2 * math.pi * TURN[1] * time)
    z[:, place["smile"]] = SMILE[0] + (SMILE[1] - SMILE[0]) * time
    # Portraits are drawn of normals of one length: glasses that nobody sees take up what is left.
    z[:, place["lens_size"]] = 0
    rest = z.square().sum(dim=1)
    z[:, place["lens_size"]] = (rest.max() - rest).sqrt()
    return np.stack([images.to_u8(image) for image in portraits.render(z, size)])


WINDOWS = ((1, 1), (5, 1), (1, 5), (5, 5))  # of landmarks, of latents
EDIT = ("demo:smile",), (4.0,)  # direction and strength
STILL = 2  # grey levels that a pixel of the clip without noise may vary by over all its frames


@dataclass(frozen=True)
class Stillness:
    """Of one way to smooth; changes are root mean squares from frame to frame."""

    windows: tuple[int, int]  # of landmarks and of latents
    mse: float  # of the last step, as inverted
    quad: float  # pixels, the second difference: jitter rather than motion
    latent: float  # the first difference
    latent_jerk: float  # the second
    still: float  # grey levels that a pixel changes by which is still in the clip
    flicker: float  # the same of all pixels in the face's square, the second difference
    edit_flicker: float  # the same of what an edit adds to the clip


def measured(
    folder: Path, frames: np.ndarray, seen: np.ndarray, shard: str, windows: tuple[int, int]
) -> Stillness:
    """Invert, edit and draw a clip with these windows.

    frames: [n, size, size, 3] uint8, without noise; seen: with it, as they lie in the shard.
    """
    from pipeline import LatentDataset
    from pipeline.clip_config import ClipConfig
    from pipeline.config import ClusterConfig, RunConfig
    from pipeline.editing.edit import EditConfig, plan_edit
    from pipeline.editing.render import RenderConfig, render
    from pipeline.engine.run import execute
    from pipeline.inversion.run import plan_inversion

    out = folder / "-".join(map(str, windows))
    how = ClusterConfig(executor="local")
    config = RunConfig(metrics=("mse",), clips=ClipConfig(*windows))
    execute(plan_inversion([shard], str(out), config, how), how, lambda summary, begun: None)
    rows = [row for row in LatentDataset(str(out)) if row["status"] == "ok"]
    drawn = _drawn(str(out), folder)
    edits = str(folder / f"{out.name}-edited")
    execute(plan_edit(str(out), edits, EditConfig(*EDIT), how), how, lambda summary, begun: None)
    render(edits, f"{edits}-png", RenderConfig(paste_back="auto", format="png"), lambda n: None)
    pasted = [
        images.decode(path.read_bytes()) for path in sorted(Path(f"{edits}-png").rglob("*.png"))
    ]
    added = np.stack(pasted).astype(np.int16) - seen
    quads = np.stack([np.asarray(row["quad"]) for row in rows])
    return Stillness(
        windows=windows,
        mse=float(np.mean([np.asarray(row["mse"])[-1] for row in rows])),
        quad=_rms(np.diff(quads, 2, axis=0)),
        latent=_rms(np.diff([np.asarray(row["latent"]) for row in rows], axis=0)),
        latent_jerk=_rms(np.diff([np.asarray(row["latent"]) for row in rows], 2, axis=0)),
        still=_change(drawn, _inside(quads, frames) & _is_still(frames), 1),
        flicker=_change(drawn, _inside(quads, frames), 2),
        edit_flicker=_change(added, _inside(quads, frames), 2),
    )


def _drawn(latents: str, folder: Path) -> np.ndarray:
    """The frames of the .mp4 that is made of a folder of rows, [n, size, size, 3] uint8."""
    from pipeline.editing.clip_rendering import render_clip
    from pipeline.editing.render import RenderConfig
    from pipeline.shards import clips

    movie = str(folder / "clip.mp4")
    render_clip(latents, movie, RenderConfig(video=True), lambda n: None)
    return np.stack([frame.image_u8 for frame in clips.frames(movie)])


def _change(frames: np.ndarray, where: np.ndarray, order: int) -> float:
    """Mean difference of an order from frame to frame, of some pixels; grey levels."""
    return float(np.abs(np.diff(frames.astype(np.int16), order, axis=0))[:, where].mean())


def _rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.square(values.astype(np.float64)).mean()))


def _is_still(frames: np.ndarray) -> np.ndarray:
    """Pixels that do not change in a clip without noise, [size, size] bool."""
    span = frames.max(axis=0).astype(np.int16) - frames.min(axis=0)
    return np.asarray(span.max(axis=-1) <= STILL)


def _inside(quads: np.ndarray, frames: np.ndarray) -> np.ndarray:
    """Pixels in the square of every frame, [size, size] bool."""
    left, top = quads.min(axis=1).max(axis=0)
    right, bottom = quads.max(axis=1).min(axis=0)
    y, x = np.mgrid[: frames.shape[1], : frames.shape[2]]
    return np.asarray((x > left) & (x < right) & (y > top) & (y < bottom))


def _own_flicker(frames: np.ndarray) -> float:
    """The same of the clip's own frames, of the square's part that all of them have: its motion."""
    margin = len(frames[0]) // 5
    where = np.zeros(frames.shape[1:3], bool)
    where[margin:-margin, margin:-margin] = True
    return _change(frames, where, 2)


def main() -> None:
    """Print a row for each pair of windows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=48)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--noise", type=float, default=3.0, help="of a camera, in grey levels")
    asked = parser.parse_args()
    from pipeline.shards.packing import written

    frames = portrait_clip(asked.frames, asked.size)
    noise = np.random.default_rng(0).normal(0, asked.noise, frames.shape)
    seen = (frames + noise).round().clip(0, 255).astype(np.uint8)
    with tempfile.TemporaryDirectory() as name:
        shard = Path(name, "000000.tar")
        with written(shard) as tar:
            for i, frame in enumerate(seen):
                time = json.dumps({"clip": "clip", "frame": i, "time_s": i / 24, "fps": 24.0})
                png = images.encode_png(frame)
                tar.write({"__key__": f"clip/{i:06}", "png": png, "json": time.encode()})
        print(f"the clip itself, without noise: flicker {_own_flicker(frames):.2f}")
        print(
            "windows of landmarks, latents: mse | quad'' px | latent' | latent'' | still | flicker"
        )
        for windows in WINDOWS:
            one = measured(Path(name), frames, seen, str(shard), windows)
            print(
                f"{windows}: {one.mse:.4f} | {one.quad:.3f} | {one.latent:.4f} | {one.latent_jerk:.4f} "
                f"| {one.still:.2f} | {one.flicker:.2f}, {one.edit_flicker:.2f}"
            )


if __name__ == "__main__":
    main()
