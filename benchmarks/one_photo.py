"""Seconds of one photo in a warm `Inverter`, in all and by what is asked of it.

    python -m benchmarks.one_photo [--photo photo.jpg] [--model demo] [--device cpu]

Best of many: a busy machine only ever adds to a time. The photo is the demo's astronaut (512 px) unless
another is given, and with ``--side`` it is enlarged first.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from importlib import resources
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from benchmarks.inversion import cpu_name, tell
from pipeline import Inverter
from pipeline.faces import images

RESULTS = Path(__file__).parent / "results" / "one_photo.json"
N_SEVERAL = 12


def best(work: Callable[[], object], n: int) -> tuple[float, float]:
    """The first call, in seconds, and the least of ``n`` more."""
    taken = []
    for _ in range(n + 1):
        began = time.perf_counter()
        work()
        taken.append(time.perf_counter() - began)
    return taken[0], min(taken[1:])


def measure(args: argparse.Namespace) -> dict[str, object]:
    """Seconds by what was done."""
    given = args.photo or str(resources.files("pipeline.portraits") / "astronaut.jpg")
    photo = Path(given).read_bytes()
    if args.side:
        picture = Image.fromarray(images.decode(photo)).resize((args.side, args.side))
        photo = images.encode_jpeg(np.asarray(picture))
    began = time.perf_counter()
    inverter = Inverter(args.model, args.device)
    found: dict[str, object] = {"load_s": time.perf_counter() - began}
    first, warm = best(lambda: inverter.invert(photo), args.runs)
    found |= {"first_s": first, "all_faces_s": warm}
    largest = Inverter(args.model, args.device, faces="largest")
    found["largest_face_s"] = best(lambda: largest.invert(photo), args.runs)[1]
    several = [photo] * N_SEVERAL
    found["each_of_12_s"] = best(lambda: largest.invert(several), args.runs // 4)[1] / N_SEVERAL
    face = inverter.invert(photo)[0]
    found["edit_and_paste_s"] = best(lambda: face.edit("demo:smile").paste_back(), args.runs)[1]
    device = cpu_name() if args.device == "cpu" else torch.cuda.get_device_name()
    height, width = face.photo.decoded().shape[:2]
    size = {"width": width, "height": height, "device": device, "threads": torch.get_num_threads()}
    return {**size, **found}


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print, write the results."""
    parser = argparse.ArgumentParser("benchmarks.one_photo", description=__doc__)
    parser.add_argument("--photo", help="another photo of somebody's face")
    parser.add_argument("--side", type=int, help="pixels that it is resized to")
    parser.add_argument("--model", default="demo")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--results", type=Path, default=RESULTS)
    args = parser.parse_args(argv)
    tell(measure(args), args.results)


if __name__ == "__main__":
    main()
