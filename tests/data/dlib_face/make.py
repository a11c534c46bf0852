"""Writes chips.npz: chips of faces and what dlib itself makes of them.

    PYTHONPATH=. python tests/data/dlib_face/make.py

`chips` [8, 150, 150, 3] uint8; `descriptors` [8, 128] float32, by dlib's `face_recognition_model_v1`. With it
a machine without dlib and its model of landmarks can check `encoders.metrics.dlib_face`.
"""

from pathlib import Path

import dlib
import numpy as np
from PIL import Image, ImageFilter

from pipeline.faces import detection, images
from pipeline.portraits import render, sample

HERE = Path(__file__).parent


def crops() -> list[np.ndarray]:
    """Sharp, blurred, small, rendered and empty ones, as reconstructions are; all free to use."""
    real = [
        Image.open(HERE.parent / "alignment" / f"{name}_aligned_1024to256.png").convert("RGB")
        for name in ("portrait", "edge")
    ]
    drawn = [images.to_u8(image) for image in render(sample(3, seed=5), size=256, view="aligned")]
    blurred = real[0].filter(ImageFilter.GaussianBlur(8))
    return [
        *(np.array(picture) for picture in (*real, blurred, real[1].resize((64, 64)))),
        *drawn,
        np.zeros((256, 256, 3), np.uint8),
    ]


def main() -> None:
    network = dlib.face_recognition_model_v1(detection.recogniser_path())
    chips = np.stack([detection.chip_aligned(crop) for crop in crops()])
    descriptors = np.array([network.compute_face_descriptor(chip) for chip in chips], np.float32)
    np.savez_compressed(HERE / "chips.npz", chips=chips, descriptors=descriptors)


if __name__ == "__main__":
    main()
