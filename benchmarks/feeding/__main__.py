"""CPU milliseconds of a photo of 1024 x 1024 by stage, before and now, both in one run.

    OMP_NUM_THREADS=1 python -m benchmarks.feeding [--repeats 9]

Times are CPU time of the process, the least of the repeats, which alternate between both ways; means over
the photos. The network is dlib's own before, and `encoders.metrics.dlib_face` in a batch of 32 now. Writes
benchmarks/results/feeding.json.
"""

import argparse
import io
import json
import os
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import dlib
import numpy as np
import torch
from PIL import Image

from benchmarks.alignment import processor
from benchmarks.feeding import before
from encoders.metrics.dlib_face import load_dlib_face
from pipeline.faces import alignment, detection, images
from pipeline.portraits import render, sample

ROOT = Path(__file__).resolve().parents[2]
PORTRAIT = ROOT / "tests" / "data" / "alignment" / "portrait.png"
RESULT = ROOT / "benchmarks" / "results" / "feeding.json"
SIDE, CROP, BATCH = 1024, 256, 32

Work = Callable[[], object]


@dataclass(frozen=True)
class Stage:
    """One step of a photo's way, as it was and as it is."""

    before: Work
    now: Work
    n_in_one: int = 1  # faces that `now` does at once


def photos() -> dict[str, np.ndarray]:
    """A real face, the same so near to the edge that its quad leaves the picture, a rendered one."""
    portrait = Image.open(PORTRAIT).convert("RGB").resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    moved = portrait.crop((300, 60, 300 + 640, 60 + 640))
    drawn = images.to_u8(render(sample(1, seed=11), size=SIDE, view="photo")[0])
    return {
        "real": np.array(portrait),
        "real, at the edge": np.array(moved.resize((SIDE, SIDE), Image.Resampling.BICUBIC)),
        "rendered": drawn,
    }


def as_jpeg(image_u8: np.ndarray) -> bytes:
    """As cameras write it: colours at half the resolution."""
    buffer = io.BytesIO()
    Image.fromarray(image_u8).save(buffer, "JPEG", quality=92, subsampling="4:2:0")
    return buffer.getvalue()


class Photo:
    """A photo's stages, each with the results of the one before it at hand."""

    def __init__(
        self, image_u8: np.ndarray, dlib_network: object, network: torch.nn.Module
    ) -> None:
        self.data = as_jpeg(image_u8)
        self.image_u8 = images.decode(self.data)
        self.scale = detection.SEARCH_SIDES[0] / SIDE
        self.face = detection.detect(self.image_u8)[0]
        self.quad = alignment.quad(self.face.landmarks)
        self.crop = alignment.crop(self.image_u8, self.quad, CROP, CROP)
        self.chip = detection.chip_aligned(self.crop)
        self.is_padded = bool((self.quad < 0).any() or (self.quad > SIDE).any())
        self._dlib_network, self._network = dlib_network, network

    def stages(self) -> dict[str, Stage]:
        colours, grey = (
            before.search_copy(self.image_u8, self.scale),
            detection._grey(self.image_u8, self.scale),
        )
        chips = torch.from_numpy(np.stack([self.chip] * BATCH))
        square = self.image_u8, self.quad, CROP, CROP

        def landmarks() -> object:
            return detection._landmarks(self.image_u8, self.face.box)

        def chip() -> object:
            return detection.chip_aligned(self.crop)

        return {
            "decode": Stage(lambda: before.decode(self.data), lambda: images.decode(self.data)),
            "search copy": Stage(
                lambda: before.search_copy(self.image_u8, self.scale),
                lambda: detection._grey(self.image_u8, self.scale),
            ),
            "detection": Stage(lambda: _search(colours), lambda: _search(grey)),
            "landmarks": Stage(landmarks, landmarks),
            "padded crop" if self.is_padded else "crop": Stage(
                lambda: before.crop(*square), lambda: alignment.crop(*square)
            ),
            "chip of the crop": Stage(chip, chip),
            "chip of the reconstruction": Stage(chip, chip),
            "network, a face": Stage(
                lambda: self._dlib_network.compute_face_descriptor(self.chip),
                lambda: self._network.describe(chips),
                BATCH,
            ),
        }


def _search(copy: np.ndarray) -> object:
    return detection._detector().run(copy, 0, detection.MIN_SCORE)


def milliseconds(work: Work) -> float:
    start = time.process_time()
    work()
    return (time.process_time() - start) * 1e3


def measure(photo: Photo, repeats: int) -> dict[str, tuple[float, float]]:
    """Before and now, of each stage."""
    found = {}
    for name, stage in photo.stages().items():
        rounds = [(milliseconds(stage.before), milliseconds(stage.now)) for _ in range(repeats)]
        old, new = np.min(rounds, axis=0)
        found[name] = float(old), float(new) / stage.n_in_one
    return found


def table(measured: list[dict[str, tuple[float, float]]]) -> dict[str, dict[str, float]]:
    """Means over the photos, and sums for a photo with its pair of an unpadded crop."""
    names = list(dict.fromkeys(name for photo in measured for name in photo))
    means = {
        name: np.mean([photo[name] for photo in measured if name in photo], axis=0)
        for name in names
    }
    aligned = sum(
        means[name] for name in ("decode", "search copy", "detection", "landmarks", "crop")
    )
    chips = means["chip of the crop"] + means["chip of the reconstruction"]
    rows = means | {
        "a photo, aligned": aligned,
        "a photo with its pair, network elsewhere": aligned + chips,
        "a photo with its pair": aligned + chips + 2 * means["network, a face"],
        "the same, padded crop": aligned
        + chips
        + 2 * means["network, a face"]
        + means["padded crop"]
        - means["crop"],
    }
    return {
        name: {"before_ms": round(old, 2), "now_ms": round(new, 2), "ratio": round(old / new, 2)}
        for name, (old, new) in rows.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="CPU costs of a photo, before and now")
    parser.add_argument("--repeats", type=int, default=9)
    repeats = parser.parse_args().repeats
    torch.set_num_threads(1)
    path = detection.recogniser_path()
    networks = dlib.face_recognition_model_v1(path), load_dlib_face(path)
    measured = [measure(Photo(image_u8, *networks), repeats) for image_u8 in photos().values()]
    rows = table(measured)
    for name, row in rows.items():
        print(f"{name:42} {row['before_ms']:8.2f} {row['now_ms']:8.2f} {row['ratio']:6.2f}x")
    result = {
        "unit": "CPU milliseconds, least of the repeats, mean over the photos",
        "photo": f"{SIDE} x {SIDE}, JPEG 4:2:0, quality 92",
        "repeats": repeats,
        "processor": processor(),
        "load": os.getloadavg()[0],
        "python": platform.python_version(),
        "versions": {
            name: version(name) for name in ("dlib-bin", "numpy", "pillow", "simplejpeg", "torch")
        },
        "stages": rows,
    }
    RESULT.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
