"""Faces in pictures: where they are, their 68 landmarks, their chips. All of dlib is here.

Models are built once per process and kept (about 100 MB); the detector serves one thread at a time.
dlib's own detector searches at one scale for faces of 80 pixels or more; here that scale is chosen:
a picture is searched small first, and larger only while no sure face was found, since four times
the pixels cost four times the time. Landmarks are taken from the full picture either way.

dlib's models: HOG detector (part of the library) and `shape_predictor_68_face_landmarks` (iBUG
300-W), as packaged by face_recognition_models. Its face descriptor is computed by
`encoders.metrics.dlib_face`, from the chips that are cut here.
"""

import importlib.util
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import dlib
import numpy as np
from PIL import Image

SEARCH_SIDES = (640, 1280, 2560, 4096)
"""Longest sides, in pixels, of the copies that are searched, in this order."""

MIN_SCORE, SURE_SCORE = 0.2, 0.4
"""Detector scores that count as a face. Where the picture's best box is a clear face (1.2 or more)
the others need SURE_SCORE, in proportion down to MIN_SCORE where the best is weak. Real faces
score 0.6 to 2.8; folds, patches and helmets were seen at up to 0.35, beside a face at 1.2."""

ALIGNED_BOX = (0.20, 0.31, 0.78, 0.89)
"""Left, top, right, bottom of the face in an FFHQ-aligned crop, in parts of its side: the mean of
dlib's boxes on aligned photos. Descriptors hardly depend on it (cosine above 0.999 for boxes moved
or scaled by 10 %)."""

ALIGNED_SIDE = 256
"""Aligned crops smaller than this are enlarged to it before landmarks are taken. Measured against
the same crop at 256 pixels, a crop of 128 keeps a descriptor cosine of 0.999, of 64 0.985, of 32
0.93 (two people: about 0.82)."""

CHIP_SIDE, CHIP_PADDING = 150, 0.25
"""Pixels of a chip's side, and what dlib leaves around a face in parts of it."""

# dlib lets other threads run during its work, but a detector holds the state of one run.
_one_at_a_time = threading.Lock()


@dataclass(frozen=True, eq=False)
class Face:
    """One face, in pixels of the picture it was found in.

    box: left, top, right, bottom of dlib's square from brows to chin; may reach out of the picture.
    score: the detector's confidence, above `MIN_SCORE`; 1 is a clear face.
    landmarks: [68, 2] float32, x and y in the iBUG order.
    """

    box: tuple[int, int, int, int]
    score: float
    landmarks: np.ndarray

    @property
    def area(self) -> int:
        return _area(self.box)


@dataclass(frozen=True)
class _Candidate:
    box: tuple[int, int, int, int]
    score: float


def detect(image_u8: np.ndarray, every_scale: bool = False) -> list[Face]:
    """All faces of a picture, largest first (equal sizes: higher score, then upper, then left).

    image_u8: [H, W, 3] uint8 RGB. The search stops at the coarsest scale that shows a sure face,
    where faces above 1/8 of the longest side are found; beside a large face, smaller ones may
    therefore be missed. `every_scale` searches all scales and merges them, at 5 times the cost or
    more.
    Returns [] where no face was found. Raises ValueError for another shape or type.
    """
    image_u8 = _checked(image_u8)
    candidates: list[_Candidate] = []
    for scale in _scales(image_u8.shape[0], image_u8.shape[1]):
        candidates += _search(image_u8, scale)
        if not every_scale and any(each.score >= SURE_SCORE for each in candidates):
            break
    candidates = _distinct(candidates)
    best = max((candidate.score for candidate in candidates), default=0.0)
    bar = min(max(best / 3, MIN_SCORE), SURE_SCORE)
    faces = [candidate for candidate in candidates if candidate.score >= bar]
    faces.sort(key=lambda face: (-_area(face.box), -face.score, face.box[1], face.box[0]))
    return [Face(face.box, face.score, _landmarks(image_u8, face.box)) for face in faces]


def chip_aligned(image_u8: np.ndarray) -> np.ndarray:
    """What dlib's face descriptor sees of an FFHQ-aligned crop: its face, upright, cut by dlib.

    Nothing is detected: the face of an aligned crop is where the alignment put it
    (`ALIGNED_BOX`), so a reconstruction too blurred for the detector still gets a chip.
    image_u8: [h, w, 3] uint8 RGB of any size; see `ALIGNED_SIDE` for small ones.
    Returns [150, 150, 3] uint8, for `encoders.metrics.dlib_face`.
    """
    image_u8 = _checked(image_u8)
    side = max(image_u8.shape[:2])
    if side < ALIGNED_SIDE:
        image_u8 = _resized(image_u8, ALIGNED_SIDE / side)
    height, width = image_u8.shape[:2]
    left, top, right, bottom = ALIGNED_BOX
    box = round(left * width), round(top * height), round(right * width), round(bottom * height)
    shape = _predictor()(image_u8, dlib.rectangle(*box))
    # Size and padding as in dlib's compute_face_descriptor, which cuts the same pixels.
    return dlib.get_face_chip(image_u8, shape, size=CHIP_SIDE, padding=CHIP_PADDING)


def shows_face(image_u8: np.ndarray) -> bool:
    """Whether a face can be seen in an aligned picture, [h, w, 3] uint8 RGB, at 256 pixels.

    Noise, white and heavy blur show none, and yet have descriptors like a face's.
    """
    image_u8 = _checked(image_u8)
    return bool(_search(image_u8, ALIGNED_SIDE / max(image_u8.shape[:2])))


def recogniser_path() -> str:
    """Path of the weights of dlib's face descriptor, which `encoders.metrics.dlib_face` reads.

    Raises RuntimeError, in one sentence, where the package that brings them is missing.
    """
    return _model("dlib_face_recognition_resnet_model_v1.dat")


def _search(image_u8: np.ndarray, scale: float) -> list[_Candidate]:
    """Boxes that score `MIN_SCORE` or more in the picture resized by `scale`."""
    copy = _grey(image_u8, scale)
    with _one_at_a_time:
        boxes, scores, _ = _detector().run(copy, 0, MIN_SCORE)
    return [
        _Candidate(
            (
                round(box.left() / scale),
                round(box.top() / scale),
                round(box.right() / scale),
                round(box.bottom() / scale),
            ),
            score,
        )
        for box, score in zip(boxes, scores, strict=True)
    ]


def _scales(height: int, width: int) -> Iterator[float]:
    """Scales to search, coarse to fine. No copy is more than twice as large as the picture, and
    only pictures below 1280 pixels are enlarged at all."""
    longest = max(height, width)
    finest = max(longest, min(2 * longest, SEARCH_SIDES[1]))
    previous = 0.0
    for side in SEARCH_SIDES:
        # The coarsest search enlarges nothing: a face that fills a small picture shows as it is.
        scale = min(side, finest if previous else longest) / longest
        if scale > previous:
            yield scale
        previous = scale


def _distinct(candidates: list[_Candidate]) -> list[_Candidate]:
    """Non-maximum suppression: of boxes that mostly cover one another the best-scored stays."""
    kept: list[_Candidate] = []
    for candidate in sorted(candidates, key=lambda each: (-each.score, each.box)):
        if all(_overlap(candidate.box, other.box) < 0.5 for other in kept):
            kept.append(candidate)
    return kept


def _overlap(a: tuple[int, int, int, int], b: tuple[int, int, int, int]) -> float:
    """Shared area in parts of the smaller box."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    return max(width, 0) * max(height, 0) / max(min(_area(a), _area(b)), 1)


def _area(box: tuple[int, int, int, int]) -> int:
    return (box[2] - box[0]) * (box[3] - box[1])


def _landmarks(image_u8: np.ndarray, box: tuple[int, int, int, int]) -> np.ndarray:
    shape = _predictor()(image_u8, dlib.rectangle(*box))
    return np.array([(part.x, part.y) for part in shape.parts()], dtype=np.float32)


def _grey(image_u8: np.ndarray, scale: float) -> np.ndarray:
    """What is searched: grey, where HOG takes three quarters of its time on colours and finds the
    same faces (`docs/feeding.md`); halved, thirded and so on as far as that goes."""
    picture = Image.fromarray(image_u8).convert("L")
    if scale != 1:
        size = _size(image_u8, scale)
        picture = picture.resize(size, Image.Resampling.BILINEAR, reducing_gap=1.0)
    return np.array(picture)


def _resized(image_u8: np.ndarray, scale: float) -> np.ndarray:
    picture = Image.fromarray(image_u8)
    return np.array(picture.resize(_size(image_u8, scale), Image.Resampling.BILINEAR))


def _size(image_u8: np.ndarray, scale: float) -> tuple[int, int]:
    height, width = image_u8.shape[:2]
    return max(1, round(width * scale)), max(1, round(height * scale))


def _checked(image_u8: np.ndarray) -> np.ndarray:
    if image_u8.ndim != 3 or image_u8.shape[2] != 3 or image_u8.dtype != np.uint8:
        raise ValueError(f"image must be [H, W, 3] uint8, not {image_u8.shape} {image_u8.dtype}")
    return np.ascontiguousarray(image_u8)


def load() -> None:
    """Build the models now, which the first picture would otherwise wait for."""
    _detector()
    _predictor()


@lru_cache(maxsize=1)
def _detector() -> dlib.fhog_object_detector:
    return dlib.get_frontal_face_detector()


@lru_cache(maxsize=1)
def _predictor() -> dlib.shape_predictor:
    return dlib.shape_predictor(_model("shape_predictor_68_face_landmarks.dat"))


def _model(name: str) -> str:
    """Path of a model file in face_recognition_models, which is found but never imported: its
    __init__ needs pkg_resources, which setuptools no longer has."""
    spec = importlib.util.find_spec("face_recognition_models")
    if spec is None or not spec.submodule_search_locations:
        raise RuntimeError("the package face_recognition_models is missing; install it with pip")
    path = Path(spec.submodule_search_locations[0]) / "models" / name
    if not os.path.isfile(path):
        raise RuntimeError(f"the package face_recognition_models lacks {name}; install it again")
    return str(path)
