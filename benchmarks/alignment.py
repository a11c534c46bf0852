"""Face detection and landmarks: this project against the usual recipe, both in one run.

    python benchmarks/alignment.py [--repeats 5]

The usual recipe (FFHQ's script and its descendants) builds dlib's detector for each image and runs
it with one upsampling at full size. Times are seconds of one core (CPU time of the process), the
median of the repeats, which alternate between the sides. The landmark model is loaded once on
both sides. Writes benchmarks/results/alignment.json.
"""

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import dlib
import numpy as np
from PIL import Image

from pipeline.faces import alignment, detection, images

ROOT = Path(__file__).resolve().parents[1]
PHOTO = ROOT / "tests" / "data" / "alignment" / "portrait.png"
RESULT = ROOT / "benchmarks" / "results" / "alignment.json"
TEST_PHOTOS = ("portrait", "edge", "large")


def pictures() -> dict[str, np.ndarray]:
    """The three photos of the parity cases, and larger pictures put together from them."""
    portrait = Image.fromarray(images.decode(PHOTO.read_bytes()))
    upper = portrait.crop((60, 0, 400, 340))
    phone = Image.new("RGB", (3000, 4000), (150, 160, 170))
    phone.paste(portrait.resize((2600, 2600), Image.Resampling.BICUBIC), (200, 900))
    group = Image.new("RGB", (2400, 1600), (150, 160, 170))
    for index in range(8):
        place = 40 + index % 4 * 590, 100 + index // 4 * 760
        group.paste(upper.resize((560, 560), Image.Resampling.BICUBIC), place)
    scenery = np.random.default_rng(0).integers(0, 256, (27, 48, 3), dtype=np.uint8)
    landscape = Image.fromarray(scenery).resize((1920, 1080), Image.Resampling.BICUBIC)
    found = {
        "portrait": portrait,
        "edge": portrait.crop((150, 20, 330, 260)),
        "large": upper.resize((2040, 2040), Image.Resampling.BICUBIC),
        "phone photo": phone,
        "group of 8": group,
        "no face": landscape,
    }
    return {name: np.array(picture) for name, picture in found.items()}


def usual(image_u8: np.ndarray) -> list[tuple[float, tuple[int, int, int, int]]]:
    """The usual recipe: score and box of each face, its landmarks computed."""
    detector = dlib.get_frontal_face_detector()
    boxes, scores, _ = detector.run(image_u8, 1)
    for box in boxes:
        detection._predictor()(image_u8, box)
    corners = [(box.left(), box.top(), box.right(), box.bottom()) for box in boxes]
    return list(zip(scores, corners, strict=True))


def iou(a: tuple[int, int, int, int], b: tuple[int, int, int, int]) -> float:
    width = max(min(a[2], b[2]) - max(a[0], b[0]), 0)
    height = max(min(a[3], b[3]) - max(a[1], b[1]), 0)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
    return width * height / (sum(areas) - width * height)


def core_seconds(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def measure(image_u8: np.ndarray, repeats: int) -> dict:
    theirs, ours = usual(image_u8), detection.detect(image_u8)
    times: tuple[list[float], list[float]] = [], []
    for _ in range(repeats):
        times[0].append(core_seconds(lambda: usual(image_u8)))
        times[1].append(core_seconds(lambda: detection.detect(image_u8)))
    usual_s, ours_s = statistics.median(times[0]), statistics.median(times[1])
    row = {
        "width": image_u8.shape[1],
        "height": image_u8.shape[0],
        "usual_s": round(usual_s, 5),
        "ours_s": round(ours_s, 5),
        "ratio": round(usual_s / ours_s, 2),
        "n_boxes_usual": len(theirs),
        "n_faces_ours": len(ours),
    }
    if ours:
        row["iou"] = round(max(iou(ours[0].box, box) for _, box in theirs), 3)
        quad = alignment.quad(ours[0].landmarks)
        for transform_size in (256, 1024):
            crops = [
                core_seconds(lambda size=transform_size: alignment.crop(image_u8, quad, 256, size))
                for _ in range(repeats)
            ]
            row[f"crop_{transform_size}_to_256_s"] = round(statistics.median(crops), 5)
    return row


def processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor())


def main() -> None:
    parser = argparse.ArgumentParser(description="Face detection, against the usual recipe")
    parser.add_argument("--repeats", type=int, default=5)
    repeats = parser.parse_args().repeats
    blank = np.zeros((256, 256, 3), np.uint8)
    detection.chip_aligned(blank)  # models load here, untimed
    rows = {}
    print(f"{'picture':12} {'size':>10} {'usual s':>9} {'ours s':>9} {'ratio':>7} {'boxes':>8} IoU")
    for name, image_u8 in pictures().items():
        row = rows[name] = measure(image_u8, repeats)
        print(
            f"{name:12} {row['width']:>5}x{row['height']:<4} {row['usual_s']:9.4f} "
            f"{row['ours_s']:9.4f} {row['ratio']:6.1f}x "
            f"{row['n_boxes_usual']:>3} -> {row['n_faces_ours']} {row.get('iou', '')}"
        )
    photos = [rows[name] for name in TEST_PHOTOS]
    ratio = sum(row["usual_s"] for row in photos) / sum(row["ours_s"] for row in photos)
    chip_s = statistics.median(
        core_seconds(lambda: detection.chip_aligned(blank)) for _ in range(repeats)
    )
    print(f"three test photos together: {ratio:.1f}x; chip of a crop: {chip_s:.4f} s")
    result = {
        "unit": "seconds of one core per image, median",
        "repeats": repeats,
        "processor": processor(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in ("dlib-bin", "numpy", "pillow")},
        "pictures": rows,
        "ratio_test_photos": round(ratio, 2),
        "chip_s": round(chip_s, 5),
    }
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
