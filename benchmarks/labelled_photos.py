"""A folder of labelled photos, as people have them: rendered portraits, a .json beside each."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from pipeline import portraits
from pipeline.faces import images

SEED = 7


def write(folder: Path, names: Sequence[str], size: int) -> None:
    """Photos ``<name>.jpg`` of size x size pixels, with their attributes in ``<name>.json``."""
    folder.mkdir()
    z = portraits.sample(len(names), SEED)
    labels = {name: values.tolist() for name, values in portraits.attributes(z).items()}
    for i, image in enumerate(portraits.render(z, size, "photo")):
        (folder / f"{names[i]}.jpg").write_bytes(images.encode_jpeg(images.to_u8(image)))
        of_one = {name: values[i] for name, values in labels.items()}
        (folder / f"{names[i]}.json").write_text(json.dumps(of_one))
