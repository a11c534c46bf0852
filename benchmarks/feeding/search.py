"""Which copy of a photo to search: what it costs, what it finds, and how far crops move.

    OMP_NUM_THREADS=1 python -m benchmarks.feeding.search [--photos FOLDER] [--variants 30]

Each photo, with one face in it, is turned, mirrored, scaled, moved and lit anew at random. The reference is
dlib's detector on the full picture of 1024 px; a crop has moved by the mean distance of its quad's corners
from the reference's, in pixels of a crop of 256, over the pictures where every way finds the face. Rendered
portraits are too smooth to be found at full size: there the reference is the quad of the true landmarks.
Without --photos the one portrait of the tests is used. Writes benchmarks/results/feeding_search.json.
"""

import argparse
import json
import random
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageEnhance

from benchmarks.alignment import iou
from benchmarks.feeding.__main__ import PORTRAIT, ROOT, SIDE, as_jpeg
from pipeline.faces import alignment, detection, images
from pipeline.portraits import landmarks, render, sample

RESULT = ROOT / "benchmarks" / "results" / "feeding_search.json"
N_RENDERED = 40
WAYS = {
    "640, colours (before)": (640, "RGB"),
    "640, grey (now)": (640, "L"),
    "512, colours": (512, "RGB"),
    "512, grey": (512, "L"),
}


def variants(photo: Image.Image, n: int, seed: str) -> Iterator[np.ndarray]:
    photo = photo.convert("RGB")
    photo.thumbnail((SIDE, SIDE))
    photo = photo.resize([round(size * SIDE / max(photo.size)) for size in photo.size])
    for i in range(n):
        rng = random.Random(f"{seed}{i}")
        picture = photo.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if rng.random() < 0.5 else photo
        angle, scale = rng.uniform(-14, 14), rng.uniform(0.5, 1.25)
        picture = picture.rotate(angle, Image.Resampling.BICUBIC, fillcolor=(128, 120, 110))
        picture = picture.resize([round(size * scale) for size in picture.size])
        page = Image.new("RGB", (SIDE, SIDE), (140, 150, 160))
        across = rng.randint(-60, max(1, SIDE - picture.width))
        page.paste(picture, (across, rng.randint(-20, 60)))
        page = ImageEnhance.Brightness(page).enhance(rng.uniform(0.6, 1.3))
        yield images.decode(as_jpeg(np.array(page)))


def best_box(image_u8: np.ndarray, side: int, mode: str) -> tuple | None:
    """Of the surest face in the copy, in pixels of the picture; None without a sure one."""
    scale = side / SIDE
    picture = Image.fromarray(image_u8).convert(mode)
    if scale != 1:
        picture = picture.resize((side, side), Image.Resampling.BILINEAR, reducing_gap=1.0)
    boxes, scores, _ = detection._detector().run(np.array(picture), 0, detection.SURE_SCORE)
    if not scores:
        return None
    box = boxes[int(np.argmax(scores))]
    return tuple(round(v / scale) for v in (box.left(), box.top(), box.right(), box.bottom()))


def quad(image_u8: np.ndarray, box: tuple) -> np.ndarray:
    return alignment.quad(detection._landmarks(image_u8, box))


def moved(found: np.ndarray, reference: np.ndarray) -> float:
    side = np.hypot(*(reference[3] - reference[0]))
    return float(np.linalg.norm(found - reference, axis=1).mean() * 256 / side)


def measure(pictures: list[np.ndarray], true_quads: list[np.ndarray] | None) -> dict[str, dict]:
    n_found, spent = dict.fromkeys(WAYS, 0), dict.fromkeys(WAYS, 0.0)
    distances = []
    for i, image_u8 in enumerate(pictures):
        boxes = {}
        for name, (side, mode) in WAYS.items():
            start = time.process_time()
            boxes[name] = best_box(image_u8, side, mode)
            spent[name] += time.process_time() - start
            n_found[name] += boxes[name] is not None
        if true_quads is not None:
            reference = true_quads[i]
        else:
            full = best_box(image_u8, SIDE, "RGB")
            same_face = full and all(box and iou(box, full) > 0.3 for box in boxes.values())
            reference = quad(image_u8, full) if same_face else None
        if reference is not None and all(boxes.values()):
            distances.append([moved(quad(image_u8, box), reference) for box in boxes.values()])
    columns = np.array(distances).T
    return {
        name: {
            "ms": round(spent[name] / len(pictures) * 1e3, 1),
            "surely_found": n_found[name],
            "moved_mean_px": round(float(column.mean()), 2),
            "moved_p99_px": round(float(np.percentile(column, 99)), 2),
            "moved_max_px": round(float(column.max()), 2),
            "n_compared": len(column),
        }
        for name, column in zip(WAYS, columns, strict=True)
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Which copy of a photo to search")
    parser.add_argument("--photos", type=Path)
    parser.add_argument("--variants", type=int, default=30)
    options = parser.parse_args()
    paths = [PORTRAIT, *(sorted(options.photos.iterdir()) if options.photos else [])]
    real = [
        picture
        for path in paths
        for picture in variants(Image.open(path), options.variants, path.name)
    ]
    z = sample(N_RENDERED, seed=11)
    drawn = [images.to_u8(image) for image in render(z, size=SIDE, view="photo")]
    quads = [alignment.quad(points.numpy()) for points in landmarks(z, SIDE, "photo")]
    result = {
        f"real ({len(paths)} photos, {len(real)} pictures)": measure(real, None),
        f"rendered ({len(drawn)} pictures)": measure(drawn, quads),
    }
    RESULT.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
