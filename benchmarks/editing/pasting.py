"""Edits pasted back into photos whose true edit is known: the face replaced, or what changed added.

A portrait is rendered twice, the second time with one parameter moved. What the model draws of both stands
for an inversion and a perfect edit of it, so that only the way back into the photo is measured.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from importlib import resources
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from benchmarks.editing import page
from benchmarks.editing.data import STEPS
from benchmarks.inversion import cpu_name
from benchmarks.quality.portraits import require_square
from benchmarks.quality.settings import option, run_as_command
from encoders import ReStyle, load_inverter
from pipeline import Inverter
from pipeline.editing.sheet import sheet
from pipeline.faces import alignment, images
from pipeline.faces.mask import face_mask
from pipeline.faces.paste import FEATHER, paste, paste_difference, whole
from pipeline.portraits import landmarks, render, sample
from pipeline.portraits.parameters import Parameters

_RESULTS = Path(__file__).parent.parent / "results" / "pasting.json"
_SIDE = 256  # of the part of a photo that the face is in
_PHOTO = 512
# Parameters and how far they are moved, in standard deviations; a switch goes to its other side.
MOVED = {"smile": 2.0, "mouth_open": 1.5, "glasses": None, "hair_light": 1.5, "yaw": 1.0}
OFF, ON, SWITCH = -1.0, 2.0, 0.75
HEAD = ["", "not edited", "replace", "difference", "the same, `square`", "the same, as light"]
Way = Callable[["Case"], np.ndarray]


@dataclass(frozen=True)
class Settings:
    """Everything that decides the numbers, and where they go."""

    model: str = option("demo", 'the ReStyle inverter: "demo", or a file')
    people: int = option(32, "portraits")
    seed: int = option(2_000_000_555, "of the portraits")
    out: Path = option(Path("docs"), "folder with editing.md; its picture goes to editing/")
    results: Path = option(_RESULTS, "file that gets the numbers")


@dataclass(frozen=True)
class Case:
    """A photo's face, what the edit should have made of it, and what the model draws of both."""

    photo: np.ndarray  # [256, 256, 3] uint8
    true: np.ndarray
    points: np.ndarray  # [68, 2] in pixels of the photo
    inverted: np.ndarray  # [h, w, 3] uint8
    edited: np.ndarray

    def error(self, way: Way) -> float:
        """Mean squared error of values from 0 to 1."""
        return float(np.square((way(self).astype(np.float64) - self.true) / 255).mean())


def added(case: Case, points: np.ndarray | None) -> np.ndarray:
    """What changed, added as values are stored."""
    place = whole(case.photo)
    return paste_difference(case.photo, case.edited, case.inverted, place, points)


def added_as_light(case: Case) -> np.ndarray:
    """What changed, added in linear light."""
    mask = face_mask((case.points + 0.5) / _SIDE, case.edited.shape[:2], FEATHER)[..., None]
    change = (mask * (_light(case.edited) - _light(case.inverted))).astype(np.float32)
    size, how = (_SIDE, _SIDE), Image.Resampling.BICUBIC
    grown = [np.asarray(Image.fromarray(change[..., c]).resize(size, how)) for c in range(3)]
    light = (_light(case.photo) + np.stack(grown, axis=-1)).clip(0, 1)
    stored = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    return np.rint(255 * stored).astype(np.uint8)


WAYS: tuple[Way, ...] = (
    lambda case: case.photo,
    lambda case: paste(case.photo, case.edited, whole(case.photo)),
    lambda case: added(case, case.points),
    lambda case: added(case, None),
    added_as_light,
)


def _light(picture_u8: np.ndarray) -> np.ndarray:
    stored = picture_u8 / 255.0
    return np.where(stored <= 0.04045, stored / 12.92, ((stored + 0.055) / 1.055) ** 2.4)


def main(argv: Sequence[str] | None = None) -> int:
    """The exit status: 2 where models or numbers do not fit."""
    return run_as_command(run, Settings, "python -m benchmarks.editing.pasting", __doc__, argv)


def run(settings: Settings) -> None:
    """The table, the record, and the picture of the one real photo."""
    torch.set_num_threads(1)
    model = load_inverter(settings.model)
    require_square(model)
    z = sample(settings.people, settings.seed)
    found: dict[str, list[float]] = {}
    for name, by in MOVED.items():
        of_name = cases(model, z, moved(z, name, by))
        found[name] = [float(np.mean([case.error(way) for case in of_name])) for way in WAYS]
        print(name, [f"{error:.5f}" for error in found[name]], flush=True)
    folder = settings.out / page.FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray(of_the_photo(settings.model)).save(folder / "paste.jpg", quality=82)
    written = page.write(settings.out, {"pasting": table(found)})
    stated = {n: v for n, v in asdict(settings).items() if n in ("people", "seed")}
    record = {"device": cpu_name(), "settings": stated, "errors": found}
    settings.results.write_text(json.dumps(record, indent=1) + "\n")
    print(f"{written} and {settings.results}")


def moved(z: torch.Tensor, name: str, by: float | None) -> torch.Tensor:
    """The same people, with one parameter moved towards its middle, or a switch turned."""
    column = [field.name for field in fields(Parameters)].index(name)
    own, other = z[:, column], z.clone()
    switched = torch.where(own < SWITCH, torch.tensor(ON), torch.tensor(OFF))
    other[:, column] = switched if by is None else own - by * own.sign()
    return other


def cases(model: ReStyle, z: torch.Tensor, other: torch.Tensor) -> list[Case]:
    """Both portraits of each person, cut out at the place of the first one's face."""
    points = landmarks(z, _PHOTO, "photo").numpy()
    quads = [alignment.quad(each) for each in points]
    photos, true = (
        [
            alignment.crop(images.to_u8(picture), quad, _SIDE, _SIDE)
            for picture, quad in zip(render(given, _PHOTO, "photo"), quads, strict=True)
        ]
        for given in (z, other)
    )
    inside = [
        (own - quad[0]) @ np.linalg.inv(np.stack([quad[3] - quad[0], quad[1] - quad[0]])) * _SIDE
        for own, quad in zip(points, quads, strict=True)
    ]
    drawn = zip(photos, true, inside, _drawn(model, photos), _drawn(model, true), strict=True)
    return [Case(*each) for each in drawn]


@torch.inference_mode()
def _drawn(model: ReStyle, pictures: Sequence[np.ndarray]) -> list[np.ndarray]:
    given = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 127.5 - 1
    return [images.to_u8(each) for each in model.invert(given, STEPS).images]


def of_the_photo(model: str) -> np.ndarray:
    """The one photo of a real person, with edits pasted back in every way, as one picture."""
    inverter = Inverter(model, device="cpu", steps=STEPS, metrics=())
    data = (resources.files("pipeline.portraits") / "astronaut.jpg").read_bytes()
    [face] = inverter.invert(data)
    tuned = face.tune(100)
    photo, rows = Image.fromarray(face.photo.decoded()), []
    corners = np.stack([face.quad.min(axis=0), face.quad.max(axis=0)])
    box = tuple(np.clip(np.rint(corners), 0, photo.size).astype(int).ravel().tolist())
    for name, strength in (("demo:smile", 4), ("demo:smile", -4), ("demo:glasses", 4)):
        edits = [each.edit(name, strength) for each in (face, tuned)]
        pasted = [
            edit.paste_back(mode=mode) for edit in edits for mode in ("replace", "difference")
        ]
        cut = [each.crop(box) for each in (photo, *pasted)]
        rows.append([np.asarray(each) for each in cut])
    words = ["photo", "replace", "difference", "tuned, replace", "tuned, difference"]
    return sheet(words, rows, cell=182)


def table(errors: dict[str, list[float]]) -> str:
    """One row for each edit, in thousandths."""
    rows = [
        [name.replace("_", " "), *(f"{1000 * error:.2f}" for error in found)]
        for name, found in errors.items()
    ]
    return page.table(HEAD, rows)


if __name__ == "__main__":
    sys.exit(main())
